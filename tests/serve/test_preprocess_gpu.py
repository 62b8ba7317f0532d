"""`preprocess` on a GPU, which the host layer stands in for: what Triton sees, number by number."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.cuda import pycuda_device
from fgmclip.kernels.cuda.device import Memory
from fgmclip.kernels.cuda.dlpack import DeviceTensor, Place, from_capsule, to_capsule
from fgmclip.kernels.cuda.frames import needed_window, upload_frames
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.errors import DeviceError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import PreprocessRequest, preprocess
from fgmclip.kernels.regions import Region, Window
from fgmclip.serve.steps.preprocess import TritonPythonModel
from fgmclip.spec import Limits, preset

PARAMETERS = replace(PreprocessParameters.from_spec(preset("demo")), image_size=24, motion_size=16)
LIMITS = Limits()
WINDOW = 6


class HostGpu(HostDevice):
    """The host layer, with what the step wants of a GPU."""

    made: list[HostGpu]

    def __init__(self, ordinal: int) -> None:
        super().__init__()
        self.ordinal = ordinal
        self.uploads: list[tuple[int, ...]] = []
        self.waits = 0
        self.closed = False
        HostGpu.made.append(self)

    def upload(self, values: NDArray[Any]) -> Any:
        self.uploads.append(values.shape)
        return super().upload(values)

    def download(self, memory: Memory, out: NDArray[Any]) -> NDArray[Any]:
        ctypes.memmove(out.ctypes.data, memory.address, out.nbytes)
        return out

    def synchronize(self) -> None:
        self.waits += 1

    def close(self) -> None:
        self.closed = True


class Tensor:
    """`pb_utils.Tensor`: in host memory, or a capsule with memory of a GPU."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self._name, self.array = name, array
        self.device: DeviceTensor | None = None

    @classmethod
    def from_dlpack(cls, name: str, capsule: object) -> Tensor:
        tensor = cls(name, np.empty(0))
        tensor.device = from_capsule(capsule, name)
        return tensor

    def name(self) -> str:
        return self._name

    def is_cpu(self) -> bool:
        return self.device is None

    def as_numpy(self) -> NDArray[Any]:
        if self.device is not None:
            raise RuntimeError("Tensor is stored in GPU and cannot be converted to NumPy.")
        return self.array

    def to_dlpack(self) -> object:
        assert self.device is not None
        return to_capsule(self.device)

    def values(self) -> NDArray[Any]:
        """Return what is in it, wherever it is."""
        if self.device is None:
            return self.array
        out = np.empty(self.device.shape, self.device.dtype)
        ctypes.memmove(out.ctypes.data, self.device.memory.address, out.nbytes)
        return out


class TritonError(Exception):
    INVALID_ARG = 3

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self.tensors = {tensor.name(): tensor for tensor in tensors}
        self.error = error


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a `triton_python_backend_utils` where the step imports it, and a GPU of the host's."""
    module = ModuleType("triton_python_backend_utils")
    for name, value in (
        ("Tensor", Tensor),
        ("TritonError", TritonError),
        ("InferenceResponse", Response),
        # Told where there are no compiled kernels.
        ("Logger", SimpleNamespace(log_warn=lambda message: None)),
    ):
        monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(pycuda_device, "PycudaDevice", HostGpu)
    HostGpu.made = []
    return module


def loaded(
    kind: str = "GPU",
    *,
    parameters: PreprocessParameters = PARAMETERS,
    data_type: str = "TYPE_FP32",
    device: int = 0,
) -> TritonPythonModel:
    """Return the model as Triton has it after `initialize`."""
    limits = LIMITS.model_dump() | {"window": WINDOW}
    outputs = [
        ("PIXELS", data_type),
        *([("MOTION", data_type)] if parameters.motion_size else []),
        ("TRACKS", "TYPE_INT32"),
    ]
    config = {
        "parameters": {
            "preprocess": {"string_value": json.dumps(asdict(parameters))},
            "limits": {"string_value": json.dumps(limits)},
            "FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"},
        },
        "input": [
            {"name": "FRAMES", "data_type": "TYPE_UINT8"},
            {"name": "ROI", "data_type": "TYPE_FP32"},
        ],
        "output": [{"name": name, "data_type": kind} for name, kind in outputs],
    }
    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": "/models/preprocess__r1",
            "model_version": "1",
            "model_instance_kind": kind,
            "model_instance_device_id": str(device),
        }
    )
    return model


def on_gpu(name: str, array: NDArray[Any], ordinal: int = 0) -> Tensor:
    """Return an array as a tensor that Triton says lies on a GPU, there by the host layer."""
    memory = HostGpu.made[-1].upload(array)
    return Tensor.from_dlpack(
        name,
        to_capsule(DeviceTensor(memory, array.shape, array.dtype.type, Place.CUDA, ordinal)),
    )


def request(*tensors: Tensor, **parameters: str) -> Any:
    return SimpleNamespace(inputs=lambda: tensors, parameters=lambda: json.dumps(parameters))


def pictures(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


FRAMES = {
    "wide": pictures(3, 40, 70, 3),
    "tall": pictures(2, 71, 45, 3),
    "nv12": pictures(3, 60, 64, 1),
}
ROIS = np.array(
    [
        [[0, 0, 9, 9], [4, 6, 30, 20], [5, 7, 33, 22]],
        [[9, 9, 9, 9], [-5, -3, 12, 9], [50, 30, 80, 44]],
    ],
    np.float32,
)


@pytest.mark.parametrize("place", [Tensor, on_gpu])
@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_the_answer_is_that_of_the_cpu(
    backend: ModuleType, frames: NDArray[np.uint8], place: Callable[..., Tensor]
) -> None:
    model = loaded()
    (response,) = model.execute([request(place("FRAMES", frames))])
    pixels, motion = preprocess(frames, PARAMETERS)
    assert motion is not None
    assert list(response.tensors) == ["PIXELS", "MOTION", "TRACKS"]
    np.testing.assert_array_equal(response.tensors["PIXELS"].values(), pixels)
    np.testing.assert_allclose(response.tensors["MOTION"].values(), motion, atol=1e-3 / 16)
    assert response.tensors["TRACKS"].values().tolist() == [1]
    for name in ("PIXELS", "MOTION"):
        device = response.tensors[name].device
        assert device is not None
        assert (device.place, device.ordinal) == (Place.CUDA, 0)


@pytest.mark.parametrize("place", [Tensor, on_gpu])
@pytest.mark.parametrize("roi_place", [Tensor, on_gpu])
def test_tracks_are_cut_as_on_the_cpu(
    backend: ModuleType, place: Callable[..., Tensor], roi_place: Callable[..., Tensor]
) -> None:
    model = loaded()
    tensors = place("FRAMES", FRAMES["wide"]), roi_place("ROI", ROIS)
    (response,) = model.execute([request(*tensors, color_matrix="bt601")])
    pixels, motion = preprocess(FRAMES["wide"], PARAMETERS, rois=ROIS, color_matrix="bt601")
    assert motion is not None
    np.testing.assert_array_equal(response.tensors["PIXELS"].values(), pixels)
    np.testing.assert_allclose(response.tensors["MOTION"].values(), motion, atol=1e-3 / 16)
    assert response.tensors["TRACKS"].values().tolist() == [2]


def test_a_model_without_motion_gives_none(backend: ModuleType) -> None:
    model = loaded(parameters=replace(PARAMETERS, motion_size=None, flow=None))
    (response,) = model.execute([request(Tensor("FRAMES", FRAMES["wide"]))])
    assert list(response.tensors) == ["PIXELS", "TRACKS"]


def test_half_precision_is_what_the_config_says(backend: ModuleType) -> None:
    model = loaded(data_type="TYPE_FP16")
    (response,) = model.execute([request(Tensor("FRAMES", FRAMES["wide"]))])
    pixels, _ = preprocess(FRAMES["wide"], PARAMETERS)
    came = response.tensors["PIXELS"].values()
    assert came.dtype == np.float16
    np.testing.assert_array_equal(came, pixels.astype(np.float16))


def test_a_type_that_kernels_do_not_write_is_refused(backend: ModuleType) -> None:
    with pytest.raises(ValueError, match="PIXELS: expected TYPE_FP32 or TYPE_FP16, got TYPE_BF16"):
        loaded(data_type="TYPE_BF16")


def test_frames_on_the_gpu_are_not_copied(backend: ModuleType) -> None:
    model = loaded()
    frames = on_gpu("FRAMES", FRAMES["wide"])
    (gpu,) = HostGpu.made
    gpu.uploads.clear()
    model.execute([request(frames)])
    # Weights and tiles; the frames are of four axes.
    assert all(len(shape) < 4 for shape in gpu.uploads)


def test_frames_of_the_host_are_uploaded_as_far_as_they_are_needed(backend: ModuleType) -> None:
    model = loaded()
    frames = pictures(3, 40, 200, 3)
    (response,) = model.execute([request(Tensor("FRAMES", frames))])
    (gpu,) = HostGpu.made
    uploads = [shape for shape in gpu.uploads if len(shape) == 4]
    # The middle square, and two pixels on each side that bicubic weights reach.
    assert uploads == [(3, 40, 44, 3)]
    pixels, _ = preprocess(frames, PARAMETERS)
    np.testing.assert_array_equal(response.tensors["PIXELS"].values(), pixels)


def test_a_batch_waits_for_the_gpu_once(backend: ModuleType) -> None:
    model = loaded()
    requests = [request(Tensor("FRAMES", frames)) for frames in FRAMES.values()]
    responses = model.execute(requests)
    (gpu,) = HostGpu.made
    assert gpu.waits == 1
    for response, frames in zip(responses, FRAMES.values(), strict=True):
        pixels, _ = preprocess(frames, PARAMETERS)
        np.testing.assert_array_equal(response.tensors["PIXELS"].values(), pixels)


NAN = np.full_like(ROIS, np.nan)
WRONG: list[tuple[NDArray[Any], NDArray[Any] | None, dict[str, str]]] = [
    (pictures(1, 40, 70, 3), None, {}),
    (pictures(WINDOW + 2, 40, 70, 3), None, {}),
    (pictures(3, 40, 70, 2), None, {}),
    (pictures(3, 2, 70, 3), None, {}),
    (np.broadcast_to(np.uint8(0), (3, 9000, 70, 3)), None, {}),
    (pictures(3, 61, 64, 1), None, {}),
    (FRAMES["wide"], ROIS[:, :2], {}),
    (FRAMES["wide"], np.tile(ROIS, (LIMITS.max_tracks, 1, 1)), {}),
    (FRAMES["wide"], NAN, {}),
    (FRAMES["wide"], ROIS + 500, {}),
    (FRAMES["wide"], None, {"color_matrix": "bt2020"}),
    (FRAMES["wide"], None, {"color_range": "wide"}),
]


@pytest.mark.parametrize("place", [Tensor, on_gpu])
@pytest.mark.parametrize("case", WRONG, ids=range(len(WRONG)))
def test_what_the_cpu_refuses_is_refused_in_the_same_words(
    backend: ModuleType,
    case: tuple[NDArray[Any], NDArray[Any] | None, dict[str, str]],
    place: Callable[..., Tensor],
) -> None:
    frames, rois, parameters = case
    model = loaded()
    on_host = [Tensor("FRAMES", frames), *([] if rois is None else [Tensor("ROI", rois)])]
    placed = [place("FRAMES", frames), *on_host[1:]]
    good = request(Tensor("FRAMES", FRAMES["wide"]))
    refused, answered = model.execute([request(*placed, **parameters), good])
    (expected,) = loaded("CPU").execute([request(*on_host, **parameters)])
    assert expected.error is not None
    assert refused.error is not None
    assert str(refused.error) == str(expected.error)
    assert refused.error.code == TritonError.INVALID_ARG
    assert answered.error is None


def test_frames_of_another_gpu_are_refused(backend: ModuleType) -> None:
    model = loaded(device=1)
    assert HostGpu.made[-1].ordinal == 1
    (response,) = model.execute([request(on_gpu("FRAMES", FRAMES["wide"], ordinal=0))])
    assert response.error is not None
    assert "expected memory of GPU 1, on which this instance runs, got CUDA 0" in str(
        response.error
    )


def test_a_failing_gpu_is_no_fault_of_the_client(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded()

    def fail(*_: object) -> None:
        raise DeviceError("GPU 0: expected it to run, got an illegal address")

    monkeypatch.setattr(HostGpu.made[-1], "launch", fail)
    # Out of `execute`, so that Triton answers with an internal error.
    with pytest.raises(DeviceError, match="illegal address"):
        model.execute([request(Tensor("FRAMES", FRAMES["wide"]))])


def test_a_cpu_instance_makes_no_gpu_and_unloads_as_before(backend: ModuleType) -> None:
    model = loaded("CPU")
    (response,) = model.execute([request(Tensor("FRAMES", FRAMES["wide"]))])
    assert HostGpu.made == []
    assert all(tensor.is_cpu() for tensor in response.tensors.values())
    model.finalize()


def test_unloading_lets_go_of_the_gpu(backend: ModuleType) -> None:
    model = loaded()
    model.execute([request(Tensor("FRAMES", FRAMES["wide"]))])
    model.finalize()
    assert HostGpu.made[-1].closed


def test_importing_the_steps_imports_neither_pycuda_nor_torch() -> None:
    script = (
        "import sys, fgmclip.serve, fgmclip.serve.steps.preprocess\n"
        "import fgmclip.serve.steps.preprocess_gpu\n"
        "sys.exit(' '.join({'pycuda', 'torch', 'pydantic'} & set(sys.modules)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr


def test_the_needed_window_holds_every_region_and_no_more() -> None:
    inside = Region(10, 12, 8, 8, 4, 4, 0, 0, 4)
    assert needed_window([[inside]], (40, 60), None) == Window(10, 12, 18, 20)
    over = Region(-4, 30, 20, 20, 5, 5, 0, 0, 5)
    assert needed_window([[inside], [over]], (40, 60), None) == Window(0, 12, 18, 40)
    outside = Region(100, 0, 8, 8, 4, 4, 0, 0, 4)
    assert needed_window([[outside]], (40, 60), None) is None


def test_a_region_that_sees_nothing_is_black_on_both() -> None:
    frames = FRAMES["wide"]
    # It overlaps the frame by less than half a pixel.
    rois = np.tile(np.array([69.7, 10, 79.7, 20], np.float32), (1, 3, 1))
    request = PreprocessRequest.of(frames, PARAMETERS, rois, None, None)
    assert needed_window(request.tracks, (40, 70), 16) is None
    HostGpu.made = []
    placed, tracks = upload_frames(HostGpu(0), frames, request.tracks, 16)
    assert (placed.height, placed.width) == (40, 70)
    assert tracks == request.tracks
