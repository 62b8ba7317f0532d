"""What a race is prepared with: the release from the cache, and clocks."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fgmclip.bench.cost import released
from fgmclip.bench.cost.clock import clock
from fgmclip.bench.cost.export_process import main as export_main
from fgmclip.bench.cost.released import AUTO, PLAIN, cached_release, open_release
from fgmclip.bench.cost.report import ReportError
from fgmclip.bench.latency import _model_of, _require_same
from fgmclip.export.errors import ExportError, GateError
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import save_checkpoint
from fgmclip.spec import ModelSpec


def quiet(what: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def exported(small_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a release of `small_spec`, as the export's own process makes it."""
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(build_model(small_spec, seed=0), folder / "tiny.safetensors")
    repository = folder / "repository"
    assert export_main(str(folder / "tiny.safetensors"), "cpu", "fp32", str(repository)) == 0
    return repository


def test_a_release_says_what_was_proved_of_it(exported: Path) -> None:
    found = open_release(exported)
    assert found.manifest.public.spec.name == "tiny"
    assert found.verdict.startswith("graphs within ")


def test_a_folder_without_a_release_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fgmclip export"):
        open_release(tmp_path)


def test_the_model_of_a_release_must_be_told_if_its_name_is_no_preset(exported: Path) -> None:
    found = open_release(exported)
    assert _model_of(found, "mine.safetensors") == "mine.safetensors"
    for asked in (None, "gym99"):
        with pytest.raises(ReportError, match="release of tiny"):
            _model_of(found, asked)


def test_an_export_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_main("nonsense", "cpu", "fp32", str(tmp_path / "repository")) == 1
    assert "expected a checkpoint file or a preset" in capsys.readouterr().err


class Exports:
    """Stands in for the export: makes folders, and refuses what it is told to."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.refused = refused
        self.asked: list[tuple[str, str]] = []

    def __call__(self, model: str, target: str, precision: str, made: Path, report: object) -> None:
        self.asked.append((target, precision))
        if precision in self.refused:
            raise GateError(f"{precision} is slower")
        made.mkdir(exist_ok=True)
        (made / "precision").write_text(precision, encoding="utf-8")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Exports:
    stand_in = Exports()
    monkeypatch.setattr(released, "_export", stand_in)
    monkeypatch.setattr(
        released, "open_release", lambda path: SimpleNamespace(read=(path / "precision").read_text)
    )
    return stand_in


def take(cache: Path, *, quick: bool, device: str = "cpu") -> str:
    found = cached_release("gym99", device=device, quick=quick, cache=cache, report=quiet)  # type: ignore[arg-type]
    text: str = found.read()  # type: ignore[attr-defined]
    return text


def test_a_release_is_exported_once(exports: Exports, tmp_path: Path) -> None:
    assert take(tmp_path, quick=False) == AUTO
    assert take(tmp_path, quick=False) == AUTO
    assert exports.asked == [("cpu", AUTO)]


def test_a_quick_run_takes_fp32_unless_a_proven_rung_is_there(
    exports: Exports, tmp_path: Path
) -> None:
    assert take(tmp_path, quick=True) == PLAIN
    assert take(tmp_path, quick=False) == AUTO
    assert take(tmp_path, quick=True) == AUTO


def test_a_gpu_gets_tensorrt(exports: Exports, tmp_path: Path) -> None:
    assert take(tmp_path, quick=True, device="cuda") == "fp16"
    assert exports.asked == [("rtx", "fp16")]


def test_a_refused_export_leaves_nothing_behind(exports: Exports, tmp_path: Path) -> None:
    exports.refused = (AUTO,)
    with pytest.raises(GateError):
        take(tmp_path, quick=False)
    assert list(tmp_path.iterdir()) == []


def test_on_a_cpu_this_process_tells_the_time() -> None:
    assert clock("cpu")(lambda: sum(range(100_000))) > 0


def test_on_a_gpu_events_around_the_call_tell_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            happened.append("record")

        def synchronize(self) -> None:
            happened.append("wait")

        def elapsed_time(self, end: Event) -> float:
            assert end is not self
            happened.append("read")
            return 2.5

    stand_in = SimpleNamespace(cuda=SimpleNamespace(Event=Event))
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    assert clock("cuda")(lambda: happened.append("call")) == 2.5
    assert happened == ["record", "call", "record", "wait", "read"]


def test_competitors_must_run_the_model_that_is_served(exported: Path, tmp_path: Path) -> None:
    found = open_release(exported)
    same = exported.parent / "tiny.safetensors"
    _require_same(str(same), found)
    spec = found.manifest.public.spec
    other = build_model(spec.replace(fusion=spec.fusion.replace(width=64)), seed=0)
    save_checkpoint(other, tmp_path / "other.safetensors")
    for model in (str(tmp_path / "other.safetensors"), "gym99", "demo"):
        with pytest.raises(ReportError, match="which is another model"):
            _require_same(model, found)
