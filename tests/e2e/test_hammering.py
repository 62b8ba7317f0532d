"""Twenty changes of release under clients that never pause: every answer is one release's."""

from __future__ import annotations

import contextlib
import copy
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf.json_format import MessageToJson
from numpy.typing import NDArray

from fgmclip.client import GrpcTransport, RefusedError
from fgmclip.export import precision, release, trial
from fgmclip.export.configs import parse_config
from fgmclip.export.gate import Thresholds
from fgmclip.export.graphs import parts_of
from fgmclip.export.manifest import short_hash
from fgmclip.export.names import ENSEMBLES, Part, step_name
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import signature, to_onnx
from fgmclip.serve import EmbeddedServer, releases
from fgmclip.serve.steps.classify import ClassifyStep
from fgmclip.serve.steps.engine import EngineStep
from fgmclip.serve.steps.preprocess import PreprocessStep
from fgmclip.serve.steps.step import StepConfig
from fgmclip.spec import PublicManifest
from fgmclip.spec.manifest import MANIFEST_PARAMETER

pytestmark = pytest.mark.e2e

Frames = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[Any]]

EXPORTS = 10
"""Releases that are published under the server, each followed by an old one's activation."""

IN_INT8 = (2, 10)
"""Which of them are int8; the others are fp32. They share all but the classifier."""

INT8 = PrecisionRequest(
    "int8", thresholds=Thresholds(cosine=0, identity=0, speedup=0), trained=False
)
"""Weights with noise would not pass a gate, and that is none of its business here."""

CLIENTS = (*ENSEMBLES, "fgm_clip_stream")
"""What each client asks."""

T = 8

ENDS = range(T, T + 4)
"""Last samples of the windows that are asked about; a stream slides over them."""

TOLERANCE = 1e-6
"""Relative to the largest value: frames of several requests are one batch, and the order of sums
may depend on its size."""

PATIENCE_SECONDS = 60.0
"""How long one change may take on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """One response: what was asked, when, and all tensors that came."""

    ensemble: str
    end: int
    asked: float
    came: float
    tensors: Tensors


@dataclass(frozen=True)
class Change:
    """A release that was made to serve.

    Attributes:
        release: Its number.
        begun: When the repository began to change.
        served: When all ensembles were seen serving it.
    """

    release: int
    begun: float
    served: float


class Client:
    """Asks one ensemble about the same few windows without pause."""

    def __init__(self, url: str, ensemble: str, frames: Frames, model: FgmClip) -> None:
        self.ensemble = ensemble
        self.answers: list[Answer] = []
        self.refusals: list[str] = []
        self.failure: Exception | None = None
        self._url = url
        self._frames = frames
        self._parameters = PreprocessParameters.from_spec(model.spec)
        self._clip = ensemble == "fgm_clip"

    def run(self, stop: threading.Event) -> None:
        transport = GrpcTransport(self._url)
        try:
            while not stop.is_set():
                self._slide(transport)
        except Exception as error:
            self.failure = error
        finally:
            transport.close()

    def _slide(self, transport: GrpcTransport) -> None:
        history: Tensors = {}
        for end in ENDS:
            inputs = {**self._samples(end, 1 if history else T), **history}
            try:
                answer = self._ask(transport, end, inputs)
            except RefusedError as error:
                if not history or "was computed by another release" not in str(error):
                    raise
                self.refusals.append(str(error))
                return
            if not self._clip:
                history = {
                    name: _last(history.get(name), answer[new])
                    for name, new in (
                        ("VISUAL_HISTORY", "VISUAL_NEW"),
                        ("MOTION_HISTORY", "MOTION_NEW"),
                    )
                } | {"HISTORY_TAG": answer["TAG"]}

    def _samples(self, end: int, count: int) -> dict[str, NDArray[Any]]:
        frames = self._frames[end - count : end + 1]
        if self.ensemble != "fgm_clip_edge":
            return {"FRAMES": frames}
        pixels_u8, luma_u8 = preprocess_u8(frames, self._parameters)
        assert luma_u8 is not None
        return {"PIXELS_U8": pixels_u8, "LUMA_U8": luma_u8}

    def _ask(self, transport: GrpcTransport, end: int, inputs: Tensors) -> Tensors:
        names = ["LOGITS", "PROBABILITIES", "EMBEDDING", "MODEL_TAG"]
        if not self._clip:
            names += ["VISUAL_NEW", "MOTION_NEW", "TAG"]
        asked = time.monotonic()
        tensors = transport.infer(self.ensemble, inputs, names, timeout_seconds=30)
        self.answers.append(Answer(self.ensemble, end, asked, time.monotonic(), tensors))
        return tensors


def _last(history: NDArray[Any] | None, new: NDArray[Any]) -> NDArray[Any]:
    """Return the T - 1 samples that the next request needs, [1,T-1,width]."""
    rows = new if history is None else np.concatenate([history, new], axis=1)
    return rows[:, 1 - T :]


class Alone:
    """One release's answers, computed by its own steps without a server."""

    def __init__(self, repository: Path, number: int, frames: Frames) -> None:
        def config(step: str) -> StepConfig:
            folder = repository / step_name(step, number)
            text = MessageToJson(
                parse_config((folder / "config.pbtxt").read_text(encoding="utf-8")),
                preserving_proto_field_name=True,
            )
            return StepConfig.from_triton(
                {
                    "model_config": text,
                    "model_repository": str(folder),
                    "model_version": "1",
                    "model_instance_kind": "CPU",
                }
            )

        def run(step: Any, **inputs: NDArray[Any]) -> Any:
            return step.run([(inputs, {})])[0]

        prepared = run(PreprocessStep(config("preprocess")), FRAMES=frames[: T + 1])
        for end in ENDS[1:]:
            one = run(PreprocessStep(config("preprocess")), FRAMES=frames[end - 1 : end + 1])
            prepared = {name: np.concatenate([prepared[name], one[name]]) for name in one}
        visual_engine = EngineStep(config("clip_image_encoder"))
        motion_engine = EngineStep(config("motion_encoder"))
        head, classify = EngineStep(config("fusion_head")), ClassifyStep(config("classify"))
        visual = run(visual_engine, PIXELS=prepared["PIXELS"])["VISUAL"]
        motion = run(motion_engine, MOTION=prepared["MOTION"])["MOTION_FEATURES"]
        tag = config("window").parameters["embedding_tag"].encode()
        self._windows: dict[int, dict[str, NDArray[Any]]] = {}
        for end in ENDS:
            rows = slice(end - T, end)
            embedding = run(head, VISUAL=visual[None, rows], MOTION_FEATURES=motion[None, rows])
            named = run(classify, EMBEDDING=embedding["EMBEDDING"])
            self._windows[end] = {
                "LOGITS": named["LOGITS"],
                "PROBABILITIES": named["PROBABILITIES"],
                "MODEL_TAG": named["MODEL_TAG"],
                "EMBEDDING": embedding["EMBEDDING"],
                "VISUAL_NEW": visual[None, rows],
                "MOTION_NEW": motion[None, rows],
                "TAG": np.array([tag], dtype=object),
            }

    def distance(self, end: int, tensors: Tensors) -> float:
        """Return the largest difference of any tensor, relative to its largest value."""
        worst = 0.0
        for name, came in tensors.items():
            expected = self._windows[end][name]
            if name in ("TAG", "MODEL_TAG"):
                worst = max(worst, 0.0 if list(came) == list(expected) else np.inf)
                continue
            if name in ("VISUAL_NEW", "MOTION_NEW"):
                expected = expected[:, -came.shape[1] :]
            assert came.shape == expected.shape
            scale = max(1.0, float(np.abs(expected).max()))
            worst = max(worst, float(np.abs(came - expected).max()) / scale)
        return worst

    def apart(self, other: Alone) -> float:
        """Return the least distance of the LOGITS of any window."""
        return min(other.distance(end, {"LOGITS": self._windows[end]["LOGITS"]}) for end in ENDS)


def perturbed(model: FgmClip, number: int) -> FgmClip:
    """Return a model whose answers are no other's.

    Encoders and fusion head come in two versions each, so that neighbouring releases share some of
    their parts and a mixture of two would go unseen if only one tensor were compared; the
    classifier is each model's own.
    """
    other = copy.deepcopy(model)
    assert other.motion_encoder is not None
    changes = (
        (other.image_encoder, number % 2),
        (other.motion_encoder, number // 2 % 2),
        (other.fusion_head, number // 4 % 2),
        (other.classifier, number),
    )
    with torch.no_grad():
        for module, seed in changes:
            generator = torch.Generator().manual_seed(seed)
            for weight in module.parameters():
                if seed and weight.ndim > 1:
                    noise = torch.randn(weight.shape, generator=generator)
                    weight.add_(0.2 * weight.std() * noise)
    return other


def weights_of(model: FgmClip, part: Part) -> str:
    state = signature(model, part).module.state_dict()
    return short_hash(
        [(part, ""), *((key, value.numpy().tobytes()) for key, value in state.items())]
    )


@pytest.fixture
def models(model: FgmClip) -> list[FgmClip]:
    """One model for each release, the first of which serves from the start."""
    return [perturbed(model, number) for number in range(EXPORTS + 1)]


@pytest.fixture
def quick_exports(models: list[FgmClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do once, before the clients come, what takes an export seconds and is no business of theirs.

    That is torch's part of an export, and the gate's; equal weights give equal graphs.
    """
    graphs: dict[str, onnx.ModelProto] = {}
    proofs: dict[str, Any] = {}
    prove = precision.prove

    def export_once(of: FgmClip, part: Part) -> onnx.ModelProto:
        key = weights_of(of, part)
        if key not in graphs:
            graphs[key] = to_onnx(of, part)
        return graphs[key]

    def prove_once(
        of: FgmClip, exported: Any, request: Any, folder: Path, *rest: Any, **more: Any
    ) -> Any:
        key = "".join(weights_of(of, part) for part in parts_of(of.spec))
        if key not in proofs:
            kept = tmp_path / f"proof{len(proofs)}"
            kept.mkdir()
            proofs[key] = prove(of, exported, request, kept, *rest, **more)
        return proofs[key]

    monkeypatch.setattr(release, "to_onnx", export_once)
    monkeypatch.setattr(release, "prove", prove_once)
    monkeypatch.setattr(trial, "RACE_SECONDS", 0.0)
    monkeypatch.setattr(precision, "FEW_CLIPS", 2)
    for one in models:
        for part in parts_of(one.spec):
            export_once(one, part)
    export_release(models[IN_INT8[0] - 1], tmp_path / "proven", precision=INT8)


@dataclass
class Hammered:
    """A server whose repository changes under its clients."""

    repository: Repository
    look: GrpcTransport
    clients: list[Client]
    changes: list[Change]

    def export(self, model: FgmClip, request: PrecisionRequest | None) -> None:
        """Publish a release and wait until it is served."""
        begun: list[float] = []

        def report(stage: str) -> None:
            if stage == "publish":
                begun.append(time.monotonic())

        manifest = export_release(model, self.repository.path, precision=request, report=report)
        self._follow(manifest.release, *begun)

    def activate(self, number: int) -> None:
        """Go back to a release and wait until it is served."""
        begun = time.monotonic()
        self.repository.activate(number)
        self._follow(number, begun)

    def _follow(self, number: int, begun: float) -> None:
        self._until(lambda: self._served() == {number}, f"release {number} served")
        self.changes.append(Change(number, begun, time.monotonic()))
        since = self.changes[-1].served
        self._until(
            lambda: all(one.answers and one.answers[-1].asked > since for one in self.clients),
            f"answers of release {number} to every client",
        )

    def _served(self) -> set[int]:
        configs = [self.look.model_parameters(name, timeout_seconds=30) for name in ENSEMBLES]
        return {PublicManifest.from_json(one[MANIFEST_PARAMETER]).release for one in configs}

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            failures = failures_of(self.clients)
            assert not failures, f"{failures} while waiting for {what}, after {self.changes}"
            assert time.monotonic() < deadline, f"expected {what}, got {self._served()}"
            time.sleep(0.02)


def failures_of(clients: Iterable[Client]) -> list[str]:
    return [f"{one.ensemble}: {one.failure!r}" for one in clients if one.failure]


def possible(answer: Answer, changes: list[Change]) -> set[int]:
    """Return the releases that may have answered: all that served while the request was out."""
    ends = [change.served for change in changes[1:]] + [float("inf")]
    return {
        change.release
        for change, end in zip(changes, ends, strict=True)
        if change.begun <= answer.came and answer.asked <= end
    }


def test_twenty_changes_under_hammering_clients(
    tritonserver: None,
    models: list[FgmClip],
    quick_exports: None,
    moving_clip: Callable[..., Frames],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Short, so that old steps leave under the clients and come back when they are activated.
    monkeypatch.setattr(releases, "DRAIN_SECONDS", 8.0)
    frames = moving_clip(5, frames=ENDS[-1] + 1)
    path = tmp_path / "repository"
    export_release(models[0], path)
    dice = random.Random(0)
    stop = threading.Event()
    with (
        EmbeddedServer(path, watch=True) as server,
        contextlib.closing(GrpcTransport(server.url)) as look,
    ):
        clients = [Client(server.url, name, frames, models[0]) for name in CLIENTS]
        hammered = Hammered(Repository(path), look, clients, [Change(1, 0.0, 0.0)])
        threads = [threading.Thread(target=one.run, args=(stop,)) for one in clients]
        for thread in threads:
            thread.start()
        try:
            for number, model in enumerate(models[1:], start=2):
                hammered.export(model, INT8 if number in IN_INT8 else None)
                hammered.activate(dice.randrange(1, number))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    changes = hammered.changes
    assert failures_of(clients) == []
    alone = {number: Alone(path, number, frames) for number in range(1, EXPORTS + 2)}
    apart = min(
        one.apart(other) for number, one in alone.items() for other in list(alone.values())[number:]
    )
    assert apart > 100 * TOLERANCE
    by_release: Counter[int] = Counter()
    mixed: list[str] = []
    for answer in (answer for one in clients for answer in one.answers):
        # Releases are further apart than two tolerances, so an answer can be of one at most.
        expected = possible(answer, changes)
        far = {number: alone[number].distance(answer.end, answer.tensors) for number in expected}
        owners = [number for number, distance in far.items() if distance <= TOLERANCE]
        if len(owners) == 1:
            by_release.update(owners)
        else:
            mixed.append(f"{answer.ensemble} to {answer.end}: distance by release {far}")
    said = (
        f"{sum(by_release.values())} answers of one release, {len(mixed)} of none; by release "
        f"{dict(sorted(by_release.items()))}; {len(changes) - 1} changes, "
        f"{sum(len(one.refusals) for one in clients)} streams refused and begun anew; "
        f"releases at least {apart:.2g} apart"
    )
    print(said)
    assert not mixed, f"{said}: {mixed[:5]}"
    assert len(changes) == 1 + 2 * EXPORTS, said
    assert set(by_release) == set(alone), said
