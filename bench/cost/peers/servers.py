"""Competitors behind a Triton server: our release, and a repository as a user would write it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.cost.competitor import CompetitorError
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.naive_repository import ENSEMBLE, write_naive_repository
from fgmclip.bench.stages import milliseconds
from fgmclip.client import ActionClient, StreamSession
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import GrpcTransport
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError, ModelSpec

Frames = NDArray[np.uint8]


@dataclass(slots=True)
class ServedCompetitor:
    """A clip through `fgm_clip_edge` of a release, as our own client asks for it.

    Attributes:
        entry: As of every competitor.
        repository: The release's directory of models.
        release: Its number.
        frames: RGB u8 [T+1,H,W,3].
    """

    entry: Entry
    repository: Path
    release: int
    frames: Frames

    def open(self) -> AbstractContextManager[Callable[[], float]]:
        """Start a server; see `Competitor`."""
        return _opened(self._start)

    def _start(self, stack: ExitStack) -> Callable[[], float]:
        server = stack.enter_context(EmbeddedServer(self.repository))
        client = stack.enter_context(ActionClient(server.url))
        if client.manifest.release != self.release:
            raise CompetitorError(
                f"{self.repository}: expected release {self.release} to serve, got "
                f"{client.manifest.release}; activate it with 'fgmclip repo activate'"
            )
        session = StreamSession(client, edge=True)

        def clip() -> object:
            session.reset()
            return session.push(self.frames)

        return _timed(clip)


@dataclass(slots=True)
class NaiveCompetitor:
    """A clip through the naive repository.

    Attributes:
        entry: As of every competitor.
        spec: Of the model.
        graphs: Its ONNX graphs by part, the classifier among them.
        threads: Threads of ONNX Runtime.
        frames: RGB u8 [T+1,H,W,3].
    """

    entry: Entry
    spec: ModelSpec
    graphs: Mapping[str, Path]
    threads: int
    frames: Frames

    def open(self) -> AbstractContextManager[Callable[[], float]]:
        """Start a server; see `Competitor`."""
        return _opened(self._start)

    def _start(self, stack: ExitStack) -> Callable[[], float]:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fgmclip-naive-"))
        repository = Path(folder)
        write_naive_repository(repository, self.spec, self.graphs, self.threads)
        server = stack.enter_context(EmbeddedServer(repository))
        transport = GrpcTransport(server.url)
        stack.callback(transport.close)
        return _timed(
            lambda: transport.infer(
                ENSEMBLE,
                {"FRAMES": self.frames},
                ("PROBABILITIES",),
                timeout_seconds=Timeouts().request_seconds,
            )
        )


@contextmanager
def _opened(
    start: Callable[[ExitStack], Callable[[], float]],
) -> Iterator[Callable[[], float]]:
    with ExitStack() as stack:
        with _as_competitor():
            run = start(stack)
        yield run


def _timed(clip: Callable[[], object]) -> Callable[[], float]:
    """Run a clip unseen, and return what times one."""
    clip()

    def run() -> float:
        with _as_competitor():
            return milliseconds(clip)

    return run


@contextmanager
def _as_competitor() -> Iterator[None]:
    """Turn what server or client say into a competitor's reason."""
    try:
        yield
    except CompetitorError:
        raise
    except FgmclipError as error:
        raise CompetitorError(str(error)) from error
