"""Behind `fgmclip classify`: many videos, one line each, and no file stops the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from fgmclip.client.action import ActionClient
from fgmclip.client.answers import UNKNOWN, VideoResult
from fgmclip.client.errors import ClientError
from fgmclip.spec.errors import FgmclipError
from fgmclip.storage.text import one_line
from fgmclip.video.errors import VideoError

NAME_CELLS = 48
"""Widest column of file names; longer names push their own line out, not everyone's."""


@dataclass(frozen=True, slots=True)
class VideoFailure:
    """A video without an answer.

    Attributes:
        video: The file.
        cause: Why, in one line, without the file's name.
    """

    video: Path
    cause: str

    def to_json(self) -> dict[str, str]:
        """Return `video` and `error`, which names the file and the cause."""
        return {"video": str(self.video), "error": f"{one_line(str(self.video))}: {self.cause}"}


def classify_videos(
    client: ActionClient, paths: Iterable[Path]
) -> Iterator[VideoResult | VideoFailure]:
    """Answer each video in turn; whatever goes wrong with one, the next is tried.

    A server that cannot be asked at all fails every video without another attempt.

    Args:
        client: Names the server.
        paths: Video files.
    """
    unusable: ClientError | None = None
    try:
        _ = client.manifest
    except ClientError as error:
        unusable = error
    for path in paths:
        if unusable is not None:
            yield VideoFailure(path, _cause(unusable))
            continue
        try:
            answer: VideoResult | VideoFailure = client.classify(path)
        except Exception as error:  # a file may find a bug in any decoder below us
            answer = VideoFailure(path, _cause(error))
        yield answer


def run_classify(paths: Sequence[Path], url: str, as_json: bool, console: Console) -> int:
    """Print one line a video, as soon as it is answered.

    Args:
        paths: Video files.
        url: `HOST:PORT` of the server's gRPC endpoint.
        as_json: One JSON object a line, `VideoResult.to_json` or `VideoFailure.to_json`, instead
            of text.
        console: Where to print.

    Returns:
        The exit code: 0, or 1 if any video failed.

    Raises:
        SettingsError: `url` is not `HOST:PORT`.
    """
    code = 0
    name_cells = min(NAME_CELLS, max((cell_len(_name(path)) for path in paths), default=0))
    with ActionClient(url) as client:
        for answer in classify_videos(client, paths):
            if isinstance(answer, VideoFailure):
                code = 1
            if as_json:
                # Not through rich, which would wrap and colour it.
                console.file.write(json.dumps(answer.to_json(), allow_nan=False) + "\n")
                console.file.flush()
                continue
            if isinstance(answer, VideoFailure):
                line = _failure_line(answer, name_cells)
            else:
                labels = (*client.manifest.spec.labels, UNKNOWN)
                line = _result_line(answer, name_cells, max(map(cell_len, labels)))
            console.print(line, soft_wrap=True)
    return code


def _result_line(result: VideoResult, name_cells: int, label_cells: int) -> Text:
    line = Text(_padded(_name(result.video), name_cells) + "  ")
    style = "dim" if result.label == UNKNOWN else "bold green"
    line.append(_padded(result.label, label_cells), style)
    unit = "window " if result.windows == 1 else "windows"
    line.append(f"  {result.probability:6.1%}  {result.windows:4d} {unit}")
    line.append(f"  {result.latency_ms:7.1f} ms", "dim")
    if result.frames_lost:
        total = result.frames + result.frames_lost
        line.append(f"  {result.frames_lost} of {total} frames lost", "yellow")
    return line


def _failure_line(failure: VideoFailure, name_cells: int) -> Text:
    line = Text(_padded(_name(failure.video), name_cells) + "  ")
    line.append("error", "bold red")
    return line.append(f": {failure.cause}")


def _name(path: Path) -> str:
    return one_line(str(path))


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _cause(error: Exception) -> str:
    if isinstance(error, VideoError):
        return error.cause
    said = " ".join(one_line(str(error)).split())
    if isinstance(error, FgmclipError):
        return said
    return f"unexpected {type(error).__name__}: {said}" if said else f"{type(error).__name__}"
