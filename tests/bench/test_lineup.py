"""`bench/cost/lineup.py`: who takes part, at what cost, and why some do not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from fgmclip.bench.cost import lineup as module
from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED, CompetitorError
from fgmclip.bench.cost.lineup import lineup
from fgmclip.bench.cost.peer_process import ProcessCompetitor
from fgmclip.bench.cost.peers import fgm
from fgmclip.bench.cost.peers.graphs import Definition, Graph, Report
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.report import Entry
from fgmclip.export.names import PARTS, step_name
from fgmclip.spec import ModelSpec, preset
from fgmclip.spec.model import AlignSpec, HeadSpec

SPEC = preset("gym99")
T = SPEC.clip.frames

CONFIG = """
name: "{name}"
backend: "python"
parameters {{ key: "runtime" value {{ string_value: "{runtime}" }} }}
parameters {{ key: "engine" value {{ string_value: "{name}.onnx" }} }}
parameters {{ key: "precision" value {{ string_value: "bf16" }} }}
"""

QUICK = {
    SERVED, EAGER, "eager-bf16", "onnxruntime-fp32", "openvino-default", NAIVE,
    "ablation-resnet50", "ablation-no-motion", "ablation-tcn", "ablation-concat",
    "mean-clip-openvino", "r2plus1d-18-openvino",
}  # fmt: skip
PEERS = ("mean-clip", "r2plus1d-18", "s3d", "mvit-v2-s", "swin3d-t", "c3d", "i3d")
FULL = QUICK | {"compile-fp32", "openvino-f32"} | {
    f"{key}-{runtime}" for key in PEERS for runtime in ("openvino", "onnxruntime")
}  # fmt: skip


COUNTS = {
    "clip_image_encoder": (86_000, 17_000),
    "motion_encoder": (11_000, 1_800),
    "fusion_head": (5_000, 50),
    "classifier": (50, 5),
    "text_tower": (63_000, 0),
    "mean_head": (0, 7),
}


class Maker:
    """Stands in for the child that makes graphs: a part's name decides its counts."""

    def __init__(self) -> None:
        self.asked: list[Definition] = []
        self.fails = ""

    def __call__(
        self, definitions: Iterable[Definition], folder: Path, report: Report
    ) -> dict[Definition, Graph]:
        self.asked = list(dict.fromkeys(definitions))
        found = {}
        for index, one in enumerate(self.asked):
            counts = COUNTS.get(one.build["kind"], (1, 2))
            why = "it does not export" if self.fails and self.fails in one.name else ""
            found[one] = Graph(folder / f"{index}.onnx", *counts, why=why)
        return found


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    made = Maker()
    monkeypatch.setattr(module, "make_graphs", made)
    # What this processor would take is not what is tested here.
    monkeypatch.setattr(fgm, "openvino_precision", lambda: "bf16")
    return made


def plan(
    folder: Path,
    *,
    spec: ModelSpec = SPEC,
    runtime: str = "openvino",
    precision: str = "int8/bf16/int8",
    quick: bool = False,
    only: frozenset[str] = frozenset(),
) -> Plan:
    for part in PARTS:
        step = folder / step_name(part, 3)
        step.mkdir(parents=True, exist_ok=True)
        (step / "config.pbtxt").write_text(
            CONFIG.format(name=part, runtime=runtime), encoding="utf-8"
        )
    return Plan(
        model="gym99",
        spec=spec,
        repository=folder,
        release=3,
        model_tag="0123456789abcdef",
        precision=precision,
        verdict="passes",
        quick=quick,
        threads=2,
        cache=folder / "cache",
        only=only,
    )


def entries(of: Plan) -> dict[str, Entry]:
    found = [item.entry for item in lineup(of)]
    assert len({entry.key for entry in found}) == len(found)
    return {entry.key: entry for entry in found}


def test_who_takes_part(maker: Maker, tmp_path: Path) -> None:
    assert set(entries(plan(tmp_path))) == FULL
    assert set(entries(plan(tmp_path, quick=True))) == QUICK
    only = frozenset({"i3d-onnxruntime"})
    assert set(entries(plan(tmp_path, quick=True, only=only))) == {SERVED, EAGER, *only}
    assert not any("S3D" in one.name for one in maker.asked)


def test_counts_of_the_model_and_of_what_changes_it(maker: Maker, tmp_path: Path) -> None:
    found = entries(plan(tmp_path))
    for key in (SERVED, EAGER, NAIVE, "openvino-default", "compile-fp32"):
        assert found[key].served_parameters == 86_000 + 11_000 + 5_000 + 50
        assert found[key].parameters == 63_000 + 86_000 + 11_000 + 5_000 + 50
        assert found[key].multiply_adds == T * (17_000 + 1_800) + 50 + 5
        assert found[key].clip == (T, 224, 224)
    assert found["ablation-tcn"].multiply_adds == T * 17_000 + 50 + 5
    assert found["mean-clip-openvino"].multiply_adds == T * 17_000 + 7
    assert found["c3d-openvino"].clip == (16, 112, 112)
    assert "clips of its own shape" in found["c3d-openvino"].includes
    assert "clips of its own shape" not in found["mean-clip-openvino"].includes
    assert all(entry.latency is None and not entry.why for entry in found.values())


def test_precision_is_what_computes(maker: Maker, tmp_path: Path) -> None:
    found = entries(plan(tmp_path))
    assert (found[SERVED].precision, found[SERVED].verdict) == ("int8/bf16/int8", "passes")
    assert found[EAGER].precision == "fp32"
    assert found["openvino-default"].precision == "bf16"
    assert found["openvino-f32"].precision == "fp32"
    assert found["s3d-openvino"].precision == "bf16"
    assert found["s3d-onnxruntime"].precision == "fp32"
    assert found["ablation-resnet50"].precision == "int8/bf16/int8"
    assert found["ablation-tcn"].precision == "int8"
    assert not any(entry.verdict for key, entry in found.items() if key != SERVED)


def test_ablations_run_by_the_release_where_they_are_the_same(maker: Maker, tmp_path: Path) -> None:
    only = frozenset({"ablation-resnet50"})
    (changed,) = (item for item in lineup(plan(tmp_path, only=only)) if item.entry.key in only)
    assert isinstance(changed, ProcessCompetitor)
    stages = changed.task["stages"]
    names = [Path(stage["graph"]).name for stage in stages]
    int8 = next(one for one in maker.asked if one.build.get("form") == "int8")
    assert int8.build["kind"] == "clip_image_encoder"
    assert names[0] == f"{maker.asked.index(int8)}.onnx"
    assert names[1:3] == ["motion_encoder.onnx", "fusion_head.onnx"]
    assert {stage["how"] for stage in stages[:3]} == {"release-openvino"}
    assert stages[0]["options"] == {"precision": "bf16"}


def test_ablations_of_a_release_for_a_gpu_run_in_fp32(maker: Maker, tmp_path: Path) -> None:
    found = entries(plan(tmp_path, runtime="rtx", precision="fp16"))
    assert found["ablation-tcn"].precision == "fp32"
    assert not any(one.build.get("form") == "int8" for one in maker.asked)


def test_what_does_not_export_says_why_and_the_others_run(maker: Maker, tmp_path: Path) -> None:
    maker.fails = "S3D"
    found = {item.entry.key: item for item in lineup(plan(tmp_path))}
    absent = found["s3d-openvino"]
    assert absent.entry.why == "it does not export"
    assert absent.entry.parameters is None
    with pytest.raises(CompetitorError, match="does not export"):
        absent.open()
    assert not found["i3d-openvino"].entry.why


def test_without_openvino_its_entries_say_so(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(fgm, "openvino_precision", missing)
    found = entries(plan(tmp_path, runtime="onnxruntime", precision="fp32"))
    assert "pip install" in found["openvino-default"].why
    assert "pip install" in found["i3d-openvino"].why
    assert not found["i3d-onnxruntime"].why
    # What is not timed is counted all the same.
    assert found["openvino-default"].multiply_adds


def test_a_model_of_frames_alone(maker: Maker, tmp_path: Path) -> None:
    still = SPEC.replace(motion=None, align=AlignSpec(method="none"), head=HeadSpec())
    found = entries(plan(tmp_path, spec=still, precision="fp32"))
    assert "flow" not in found[EAGER].includes
    assert {key for key in found if key.startswith("ablation")} == {
        "ablation-resnet50",
        "ablation-concat",
    }


def test_a_model_without_texts_has_no_mean_clip(maker: Maker, tmp_path: Path) -> None:
    visual = SPEC.visual.replace(architecture="torchvision:resnet50")
    found = entries(plan(tmp_path, spec=SPEC.replace(visual=visual)))
    assert "no text tower" in found["mean-clip-openvino"].why
    # Replaced by what it is, it is no change.
    assert "ablation-resnet50" not in found
