"""From interlaced pictures, two moments woven into one, to pictures of one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import av
from av import VideoFrame
from av.filter import Graph

T = TypeVar("T")

# One picture for each, not for each field: the frame rate stays. A picture that does not say that
# it is interlaced passes as it is.
_FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")


class Deinterlacer(Generic[T]):
    """Gives back each picture with what came with it; interlaced ones deinterlaced.

    Pictures pass at once until the first one that says that it is interlaced; from there on each
    waits for the one after it, which the filter looks at.
    """

    def __init__(self) -> None:
        """Start before the first picture."""
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None
        self._waiting: deque[T] = deque()

    def run(self, pictures: Iterable[tuple[VideoFrame, T]]) -> Iterator[tuple[VideoFrame, T]]:
        """Yield all pictures in their order, each with its own companion.

        Raises:
            Exception: What `pictures` raises, after those that came before it.
        """
        try:
            yield from self._run(pictures)
        except Exception:
            yield from self._finish()
            raise
        yield from self._finish()

    def _run(self, pictures: Iterable[tuple[VideoFrame, T]]) -> Iterator[tuple[VideoFrame, T]]:
        for picture, companion in pictures:
            kind = (picture.width, picture.height, picture.format.name)
            if self._graph is not None and kind != self._kind:
                yield from self._finish()
            if self._graph is None:
                if not picture.interlaced_frame:
                    yield picture, companion
                    continue
                self._graph, self._kind = _graph(picture), kind
            self._waiting.append(companion)
            self._graph.vpush(picture)
            yield from self._pull(self._graph)

    def _finish(self) -> Iterator[tuple[VideoFrame, T]]:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.vpush(None)
            yield from self._pull(graph)

    def _pull(self, graph: Graph) -> Iterator[tuple[VideoFrame, T]]:
        while True:
            try:
                picture = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield picture, self._waiting.popleft()


def _graph(picture: VideoFrame) -> Graph:
    graph = Graph()
    # Else one for each core of the host, for each video; not every version of PyAV has it.
    if hasattr(graph, "threads"):
        graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{picture.width}x{picture.height}",
        pix_fmt=picture.format.name,
        time_base="1/1000000",
        colorspace=str(int(picture.colorspace)),
        range=str(int(picture.color_range)),
    )
    deinterlace = graph.add(*_FILTER)
    sink = graph.add("buffersink")
    source.link_to(deinterlace)
    deinterlace.link_to(sink)
    graph.configure()
    return graph
