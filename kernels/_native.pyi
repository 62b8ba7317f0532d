from typing import Any

from numpy.typing import NDArray

class FlowParameters:
    def __init__(
        self,
        *,
        coarsest_side: int,
        finest_level: int,
        patch_size: int,
        patch_stride: int,
        iterations: int,
        stiffness: float,
        propagations: int,
        refinement_iterations: int,
        relaxation_iterations: int,
        smoothness: float,
        gradient: float,
        intensity: float,
    ) -> None: ...

class Kernels:
    def __init__(self, threads: int, instruction_set: str | None = None) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...
    def preprocess(
        self,
        frames: NDArray[Any],
        regions: NDArray[Any],
        color: NDArray[Any],
        mean: NDArray[Any],
        std: NDArray[Any],
        flow: FlowParameters | None,
        values: NDArray[Any] | None = None,
        levels: NDArray[Any] | None = None,
        luma: NDArray[Any] | None = None,
        motion: NDArray[Any] | None = None,
    ) -> None: ...
    def resize(
        self, frame: NDArray[Any], region: NDArray[Any], color: NDArray[Any], levels: NDArray[Any]
    ) -> None: ...
    def luma(
        self, frame: NDArray[Any], region: NDArray[Any], color: NDArray[Any], out: NDArray[Any]
    ) -> None: ...
    def normalize(
        self, levels: NDArray[Any], mean: NDArray[Any], std: NDArray[Any], values: NDArray[Any]
    ) -> None: ...
    def motion(self, luma: NDArray[Any], flow: FlowParameters, out: NDArray[Any]) -> None: ...
    def optical_flow(self, luma: NDArray[Any], flow: FlowParameters, out: NDArray[Any]) -> None: ...
    def frame_difference(self, luma: NDArray[Any], out: NDArray[Any]) -> None: ...
