"""From a decoded picture of any pixel format to upright RGB or NV12 arrays."""

from __future__ import annotations

from typing import NamedTuple, cast, get_args

import av
import numpy as np
from av import VideoFrame
from av.buffer import Buffer
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange as SwsRange
from av.video.reformatter import VideoReformatter

from fgmclip.kernels.parameters import ColorMatrix, ColorRange
from fgmclip.video.errors import LayoutError
from fgmclip.video.frames import Frame, Layout, Pixels

HIGH_DEFINITION_LINES = 720
"""A video whose shorter side has fewer lines and that states no matrix is BT.601, else BT.709."""

# ITU-T H.273 MatrixCoefficients, as frames carry them, to swscale's numbering.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_SWS_BT709, _SWS_BT601 = 1, 5
_REQUEST_MATRIX: dict[int, ColorMatrix] = {_SWS_BT709: "bt709", _SWS_BT601: "bt601"}

# From PyAV 17 on swscale would start a thread for each core of the host, for each video.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class SourceColor(NamedTuple):
    """How a picture's numbers mean colours.

    Attributes:
        sws_matrix: Matrix of the source in swscale's numbering.
        sws_range: Value range of the source.
        is_rgb: Whether the source holds RGB rather than luma and chroma.
    """

    sws_matrix: int
    sws_range: SwsRange
    is_rgb: bool

    @property
    def target_matrix(self) -> int:
        """The source's matrix if a request can name it, else BT.709 (BT.2020, SMPTE 240M, FCC)."""
        return self.sws_matrix if self.sws_matrix in _REQUEST_MATRIX else _SWS_BT709

    @classmethod
    def of(cls, picture: VideoFrame) -> SourceColor:
        """Read a picture's colour description and fill in what it leaves out."""
        name = picture.format.name
        matrix = _SWS_MATRIX.get(int(picture.colorspace))
        if matrix is None:
            high = min(picture.width, picture.height) >= HIGH_DEFINITION_LINES
            matrix = _SWS_BT709 if high else _SWS_BT601
        is_rgb = picture.format.is_rgb or name == "pal8"
        # swscale takes these formats as full range whatever the stream says.
        full = is_rgb or name.startswith(("yuvj", "gray", "mono", "ya8", "ya16"))
        full = full or int(picture.color_range) == SwsRange.JPEG
        return cls(matrix, SwsRange.JPEG if full else SwsRange.MPEG, is_rgb)


class Orientation(NamedTuple):
    """One of the eight ways to turn and mirror a picture; `transpose` comes first."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, picture: VideoFrame) -> Orientation:
        """Read the display matrix that cameras write; an oblique one goes to the nearest turn."""
        data = picture.side_data.get("DISPLAYMATRIX")
        if not isinstance(data, Buffer):
            return cls()
        # x' = a x + c y and y' = b x + d y, row-major with a column for perspective.
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, flip_rows=d < 0, flip_columns=a < 0)
        return cls(True, flip_rows=b < 0, flip_columns=c < 0)

    def apply(self, plane: Pixels) -> Pixels:
        """Return `plane` [H,W,...] turned upright."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        if self.flip_rows:
            plane = plane[::-1]
        if self.flip_columns:
            plane = plane[:, ::-1]
        return plane


class PictureConverter:
    """Converts pictures to one layout, reusing swscale's tables between frames.

    Alpha is dropped and deep samples are rounded to 8 bits. NV12 has one chroma sample for 2x2
    pixels, so an odd last row or column, as coded, is cropped there; RGB keeps every pixel.
    Pixels are not stretched to their sample aspect ratio.
    """

    def __init__(self, layout: Layout) -> None:
        """Make a converter to `layout`.

        Raises:
            LayoutError: It is neither `rgb` nor `nv12`.
        """
        if layout not in get_args(Layout):
            raise LayoutError(f"layout must be 'rgb' or 'nv12', got {layout!r}")
        self._layout = layout
        self._reformatter = VideoReformatter()
        self._orientations: dict[int, Orientation] = {}

    def shown_size(self, picture: VideoFrame) -> tuple[int, int]:
        """Return height and width of a picture after it is turned upright, in pixels."""
        size = (picture.height, picture.width)
        return size[::-1] if self._orientation(picture).transpose else size

    def convert(self, picture: VideoFrame, time: float) -> Frame:
        """Return the picture as a `Frame` shown at `time` seconds.

        Raises:
            av.FFmpegError: swscale cannot read the picture's pixel format.
        """
        color = SourceColor.of(picture)
        orientation = self._orientation(picture)
        matrix = _REQUEST_MATRIX[color.target_matrix]
        if self._layout == "rgb":
            upright = orientation.apply(self._rgb(picture, color))
            return Frame(time, np.ascontiguousarray(upright), matrix, "full")
        luma, chroma, value_range = self._nv12(picture, color)
        luma, chroma = orientation.apply(luma), orientation.apply(chroma)
        width = luma.shape[1]
        pixels = np.concatenate([luma.reshape(-1, width), chroma.reshape(-1, width)])
        return Frame(time, pixels[..., np.newaxis], matrix, value_range)

    def _orientation(self, picture: VideoFrame) -> Orientation:
        # PyAV's side data and its frame hold each other: read for every frame, they would fill the
        # memory with pictures until the garbage collector runs. The angle costs nothing.
        angle = picture.rotation
        if angle not in self._orientations:
            self._orientations[angle] = Orientation.of(picture)
        return self._orientations[angle]

    def _rgb(self, picture: VideoFrame, color: SourceColor) -> Pixels:
        converted = self._reformatter.reformat(
            picture,
            format="rgb24",
            src_colorspace=color.sws_matrix,
            dst_colorspace=color.sws_matrix,
            src_color_range=color.sws_range,
            dst_color_range=SwsRange.JPEG,
            **_ONE_THREAD,
        )
        return _rows(converted.planes[0], picture.width * 3).reshape(
            picture.height, picture.width, 3
        )

    def _nv12(self, picture: VideoFrame, color: SourceColor) -> tuple[Pixels, Pixels, ColorRange]:
        """Return luma [H,W], chroma [H/2,W/2,2] and their value range."""
        target_range = SwsRange.MPEG if color.is_rgb else color.sws_range
        converted = self._reformatter.reformat(
            picture,
            format="nv12",
            src_colorspace=color.target_matrix if color.is_rgb else color.sws_matrix,
            dst_colorspace=color.target_matrix,
            src_color_range=color.sws_range,
            dst_color_range=target_range,
            **_ONE_THREAD,
        )
        height, width = picture.height & ~1, picture.width & ~1
        luma = _rows(converted.planes[0], width)[:height]
        chroma = _rows(converted.planes[1], width)[: height // 2]
        value_range: ColorRange = "full" if target_range == SwsRange.JPEG else "limited"
        return luma, chroma.reshape(height // 2, width // 2, 2), value_range


def _rows(plane: VideoPlane, width: int) -> Pixels:
    """Return the first `width` bytes of each row of a plane, as a copy without padding."""
    # PyAV's stubs leave out that a plane is a buffer.
    buffer = cast("memoryview[int]", plane)
    padded = np.frombuffer(buffer, np.uint8).reshape(-1, plane.line_size)
    rows: Pixels = padded[:, :width].copy()
    return rows
