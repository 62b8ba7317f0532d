"""Pairs of frames whose flow is known, read from the public data sets' own formats.

A pair is a folder that holds `frame1.*`, `frame2.*` and one of

- `flow.flo`, Middlebury's and Sintel's format (Baker et al., "A Database and Evaluation Methodology
  for Optical Flow", IJCV 2011, with the code that goes with it): the float 202021.25, width and
  height as 32-bit integers, then u, v of each pixel, row by row, all little-endian. Unknown flow
  is beyond 1e9. Sintel's `invalid.png` beside it is not 0 where a pixel does not count;
- `flow.png`, KITTI's format (Menze and Geiger, "Object Scene Flow for Autonomous Vehicles", CVPR
  2015, development kit): 16-bit, u = (R - 32768) / 64, v = (G - 32768) / 64, known where B > 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fgmclip.spec import FgmclipError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_FLO_MAGIC = 202021.25
_FLO_HEADER = struct.Struct("<fii")
_FLO_UNKNOWN = 1e9
_KITTI_ZERO = 32768
_KITTI_STEPS = 64
"""Steps of KITTI's flow in a pixel."""

_KNOWN_SHARE = 0.5
"""Share of a scaled pixel's area whose flow must be known for the pixel to count."""


class FlowDataError(FgmclipError):
    """A folder of frames with known flow is incomplete or its files do not fit each other."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowPair:
    """Two frames and where each pixel of the first went.

    Attributes:
        name: Of its folder.
        luma: u8 [2,H,W], earlier and later.
        flow: f32 [H,W,2], u to the right and v down, pixels; 0 where unknown.
        known: bool [H,W], where the flow is known.
    """

    name: str
    luma: Bytes
    flow: Floats
    known: Mask

    def scaled(self, side: int) -> FlowPair:
        """Return the pair squashed to side x side pixels, by area; the flow shrinks with it."""
        height, width = self.known.shape
        share = _shrink(self.known.astype(np.float32), side)
        flow = _shrink(self.flow, side) / np.maximum(share, 1e-6)[..., None]
        flow *= np.array([side / width, side / height], np.float32)
        luma = np.stack([_shrink(frame, side) for frame in self.luma])
        return FlowPair(self.name, luma, flow, share > _KNOWN_SHARE)

    def error(self, flow: NDArray[Any]) -> float:
        """Return the mean end-point error of a flow [H,W,2] where the true one is known, pixels."""
        return float(np.linalg.norm(flow - self.flow, axis=2)[self.known].mean())


def read_pairs(folder: Path) -> list[FlowPair]:
    """Return the pairs in a folder and in the folders below it, by name.

    Raises:
        FlowDataError: There are none, or one of them cannot be read.
    """
    folders = sorted({path.parent for path in folder.rglob("frame1.*")})
    if not folders:
        raise FlowDataError(
            f"{folder}: expected folders with frame1.*, frame2.* and flow.flo or flow.png, got "
            "none; give a folder of such pairs with --pairs"
        )
    return [read_pair(path) for path in folders]


def read_pair(folder: Path) -> FlowPair:
    """Return the pair of one folder.

    Raises:
        FlowDataError: A file is missing, is not what its name says, or has another size.
    """
    luma = [_read_image(_only(folder, name), cv2.IMREAD_GRAYSCALE) for name in ("frame1", "frame2")]
    truth = _only(folder, "flow")
    flow, known = read_flo(truth) if truth.suffix == ".flo" else read_kitti(truth)
    invalid = folder / "invalid.png"
    if invalid.is_file():
        known = known & (_read_image(invalid, cv2.IMREAD_GRAYSCALE) == 0)
    sizes = {array.shape for array in (*luma, known)}
    if len(sizes) > 1:
        raise FlowDataError(
            f"{folder}: expected frames and flow of one size, got "
            f"{' and '.join(f'{width}x{height}' for height, width in sorted(sizes))}; "
            "give the flow its own frames"
        )
    if not known.any():
        raise FlowDataError(f"{folder}: expected known flow, got none; leave the pair out")
    flow[~known] = 0
    return FlowPair(folder.name, np.stack(luma), flow, known)


def read_flo(path: Path) -> tuple[Floats, Mask]:
    """Return flow [H,W,2] and where it is known [H,W] of a `.flo` file.

    Raises:
        FlowDataError: It is no such file, or cut off.
    """
    data = path.read_bytes()
    magic, width, height = (
        _FLO_HEADER.unpack_from(data) if len(data) >= _FLO_HEADER.size else (0.0, 0, 0)
    )
    if magic != _FLO_MAGIC or width < 1 or height < 1:
        raise FlowDataError(
            f"{path}: expected a .flo file (202021.25, width, height, then u and v), got "
            f"{data[: _FLO_HEADER.size].hex(' ') or 'nothing'}; fetch it again"
        )
    expected = _FLO_HEADER.size + 8 * width * height
    if len(data) != expected:
        raise FlowDataError(
            f"{path}: expected {expected} bytes for {width}x{height} pixels, got {len(data)}; "
            "fetch it again"
        )
    values = np.frombuffer(data, "<f4", offset=_FLO_HEADER.size)
    flow = values.reshape(height, width, 2).astype(np.float32)
    # A NaN compares as not smaller.
    return flow, np.asarray((np.abs(flow) < _FLO_UNKNOWN).all(axis=2))


def read_kitti(path: Path) -> tuple[Floats, Mask]:
    """Return flow [H,W,2] and where it is known [H,W] of KITTI's 16-bit PNG.

    Raises:
        FlowDataError: It is no such picture.
    """
    image = _read_image(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise FlowDataError(
            f"{path}: expected a 16-bit RGB picture, got {image.dtype} {list(image.shape)}; "
            "save flow as .flo or as KITTI does"
        )
    # OpenCV reads blue first: B says whether the flow is known, then come v and u.
    flow = (image[..., :0:-1].astype(np.float32) - _KITTI_ZERO) / _KITTI_STEPS
    return flow, np.asarray(image[..., 0] > 0)


def _only(folder: Path, stem: str) -> Path:
    """Return the file of that name, whatever its ending; of `flow` only the two known ones."""
    endings = (".flo", ".png") if stem == "flow" else None
    found = [
        path for path in sorted(folder.glob(f"{stem}.*")) if not endings or path.suffix in endings
    ]
    if not found:
        wanted = "flow.flo or flow.png" if endings else f"{stem}.*"
        raise FlowDataError(f"{folder}: expected {wanted}, got none; complete or remove the folder")
    return found[0]


def _read_image(path: Path, flags: int) -> NDArray[Any]:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise FlowDataError(f"{path}: expected a picture, got something else; fetch it again")
    return image


def _shrink(values: NDArray[Any], side: int) -> NDArray[Any]:
    return cv2.resize(values, (side, side), interpolation=cv2.INTER_AREA)
