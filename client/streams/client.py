"""`StreamClient` and `AsyncStreamClient`: push frames with timestamps, get decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fgmclip.client.action import ActionClient
from fgmclip.client.async_transport import AsyncGrpcTransport, AsyncTransport
from fgmclip.client.checks import Frames
from fgmclip.client.manifest import CLIP_MODEL, manifest_in, not_ours
from fgmclip.client.streams.requests import StreamRequest
from fgmclip.client.streams.results import WindowReset
from fgmclip.client.streams.samples import Box, StreamSample
from fgmclip.client.streams.steps import ReadManifest, Results, Steps, StreamSteps
from fgmclip.client.timeouts import Timeouts
from fgmclip.spec import PublicManifest
from fgmclip.video.frames import Frame

R = TypeVar("R")
Self = TypeVar("Self", bound="AsyncStreamClient")


class StreamClient:
    """One camera: its time grid and its window; each frame is encoded once.

    The history is kept here, about 40 kB, with the last T samples as they were sent, so that any
    server can answer and a new release is asked again at once. Not for several threads at once;
    any number of streams may share a client.

    Example:
        ```python
        stream = StreamClient(client)
        for time, frame in camera:
            for result in stream.push(frame, time):
                print(result)
        ```
    """

    def __init__(
        self,
        client: ActionClient,
        *,
        stride: int = 1,
        edge: bool = True,
        color_matrix: str | None = None,
        color_range: str | None = None,
    ) -> None:
        """Start with an empty window.

        Args:
            client: Names the server.
            stride: Samples of dt from one decision to the next.
            edge: Bring frames to the model's size here, by the server's own kernels: the same
                answers for a fraction of the bytes. False sends frames as they are.
            color_matrix: `bt601` or `bt709`, of frames that do not say; the model's default if
                None.
            color_range: `limited` or `full`, of NV12 frames that do not say; the model's default
                if None.

        Raises:
            RefusedError: There is no such matrix or range.
            SettingsError: `stride` is not a whole number above 0.
        """
        self._client = client
        self._steps = StreamSteps(
            stride=stride, edge=edge, color_matrix=color_matrix, color_range=color_range
        )

    @property
    def due(self) -> bool:
        """Whether a decision is to be made: after `add`, or after a failure."""
        return self._steps.due

    def push(
        self, frame: Frames | Frame, time: float, boxes: Mapping[str, Box] | None = None
    ) -> Results:
        """Take the next frame, and return what it brought about: mostly nothing or one decision.

        The frame nearest to each point of the time grid is its sample, so a decision comes with
        the first frame at or after its sample. A gap in the samples starts a new window and is
        reported. When a request fails, the samples wait: the next call asks again, and `decide`
        asks at once.

        Args:
            frame: u8 RGB [H,W,3] or NV12 [H*3/2,W,1]. It is kept for a while: do not write into
                it afterwards.
            time: When it was seen, in seconds, on a clock that advances.
            boxes: Box of each track in the frame, pixels x0, y0, x1, y1 by name; None for the
                whole frame. A track needs T samples of its own before it is decided.

        Raises:
            RefusedError: Time does not advance, or frame or boxes cannot be used: the stream is as
                it was. Or the server refused the samples.
            ClientError: The server could not be asked, or failed; nothing is lost.
        """
        return self._run(self._steps.push(frame, time, boxes))

    def flush(self) -> Results:
        """Return what is left when the source ends; the next frame starts a new stream.

        Raises:
            ClientError: The server could not be asked, or failed; call it again, or give up.
        """
        return self._run(self._steps.flush())

    def add(self, sample: StreamSample) -> list[WindowReset]:
        """Take a sample that was prepared elsewhere, without asking for a decision.

        Raises:
            RefusedError: The sample was not made for the model that is served.
            ClientError: The manifest could not be read.
        """
        return self._run(self._steps.add(sample))

    def decide(self) -> Results:
        """Ask for the decision that is due; nothing where none is.

        Another release is noticed here: its manifest is read and it is asked again, with the
        history where its encoders are the same, else with a full window. Only a release that takes
        other samples ends the window; `ActionClient.manifest` says by then what it takes.

        Raises:
            ClientError: The server could not be asked, or failed; the samples wait.
        """
        return self._run(self._steps.decide())

    def _run(self, steps: Steps[R]) -> R:
        try:
            call = next(steps)
            while True:
                try:
                    answer = self._answer(call)
                except BaseException as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as done:
            result: R = done.value
            return result

    def _answer(self, call: ReadManifest | StreamRequest) -> Any:
        if isinstance(call, ReadManifest):
            if call.refresh:
                self._client.refresh()
            return self._client.manifest
        return self._client.transport.infer(
            call.model,
            call.inputs,
            call.outputs,
            timeout_seconds=self._client.timeouts.request_seconds,
            parameters=call.parameters,
        )


class AsyncStreamClient:
    """`StreamClient` for asyncio: the same arguments, results and errors.

    Not for several tasks at once; streams may share a transport. Frames are prepared in the event
    loop's thread, which takes a few milliseconds a sample.

    Attributes:
        url: `HOST:PORT` of the server's gRPC endpoint.
        timeouts: How long the client waits.
    """

    def __init__(
        self,
        url: str,
        *,
        timeouts: Timeouts | None = None,
        transport: AsyncTransport | None = None,
        stride: int = 1,
        edge: bool = True,
        color_matrix: str | None = None,
        color_range: str | None = None,
    ) -> None:
        """Name the server and start with an empty window.

        Args:
            url: `HOST:PORT` of the server's gRPC endpoint.
            timeouts: How long the client waits; the defaults of `Timeouts` if None.
            transport: The network, for streams that share one. It stays the caller's: `close`
                leaves it open. Over gRPC by default.
            stride: As in `StreamClient`.
            edge: As in `StreamClient`.
            color_matrix: As in `StreamClient`.
            color_range: As in `StreamClient`.

        Raises:
            SettingsError: `url` is not `HOST:PORT`, or `stride` not a whole number above 0.
            RefusedError: There is no such matrix or range.
        """
        self.url = url
        self.timeouts = timeouts or Timeouts()
        self._owned = AsyncGrpcTransport(url, self.timeouts) if transport is None else None
        self._transport: AsyncTransport = transport or self._owned  # type: ignore[assignment]
        self._steps = StreamSteps(
            stride=stride, edge=edge, color_matrix=color_matrix, color_range=color_range
        )

    async def __aenter__(self: Self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Release the connection, unless it is the caller's."""
        if self._owned is not None:
            await self._owned.close()

    @property
    def due(self) -> bool:
        """Whether a decision is to be made: after `add`, or after a failure."""
        return self._steps.due

    async def read_manifest(self) -> PublicManifest:
        """Return what the server publishes about itself, as far as the stream knows."""
        return (await self._run(self._steps.window())).manifest

    async def push(
        self, frame: Frames | Frame, time: float, boxes: Mapping[str, Box] | None = None
    ) -> Results:
        """Take the next frame; see `StreamClient.push`."""
        return await self._run(self._steps.push(frame, time, boxes))

    async def flush(self) -> Results:
        """Return what is left when the source ends; see `StreamClient.flush`."""
        return await self._run(self._steps.flush())

    async def add(self, sample: StreamSample) -> list[WindowReset]:
        """Take a sample that was prepared elsewhere; see `StreamClient.add`."""
        return await self._run(self._steps.add(sample))

    async def decide(self) -> Results:
        """Ask for the decision that is due; see `StreamClient.decide`."""
        return await self._run(self._steps.decide())

    async def _run(self, steps: Steps[R]) -> R:
        try:
            call = next(steps)
            while True:
                try:
                    answer = await self._answer(call)
                except BaseException as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as done:
            result: R = done.value
            return result

    async def _answer(self, call: ReadManifest | StreamRequest) -> Any:
        seconds = self.timeouts.request_seconds
        if isinstance(call, ReadManifest):
            with not_ours():
                parameters = await self._transport.model_parameters(
                    CLIP_MODEL, timeout_seconds=seconds
                )
            return manifest_in(parameters, self.url)
        return await self._transport.infer(
            call.model,
            call.inputs,
            call.outputs,
            timeout_seconds=seconds,
            parameters=call.parameters,
        )
