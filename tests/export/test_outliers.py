"""Outlier channels: activations become hard to quantise, answers stay what they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fgmclip.export.graphs import part_inputs, parts_of, run_part
from fgmclip.export.outliers import CHANNELS, FACTOR, inject_outliers, norms_and_readers
from fgmclip.export.sources import open_model
from fgmclip.model.build import build_model
from fgmclip.model.network import FgmClip
from fgmclip.spec import preset


def blocks_with_norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if list(norms_and_readers(module))]


@pytest.mark.parametrize("name", ["tiny", "demo"])
def test_outputs_stay_equal_to_rounding(tiny: FgmClip, name: str) -> None:
    model = tiny if name == "tiny" else build_model(preset("demo"), seed=0)
    other = copy.deepcopy(model)
    inject_outliers(other, seed=0)
    for part in parts_of(model.spec):
        inputs = part_inputs(model.spec, part, batch=2, seed=0)
        expected, came = run_part(model, part, inputs), run_part(other, part, inputs)
        torch.testing.assert_close(
            torch.from_numpy(came), torch.from_numpy(expected), rtol=1e-5, atol=1e-5
        )


def test_every_submodule_gets_outliers(tiny: FgmClip) -> None:
    model = copy.deepcopy(tiny)
    inject_outliers(model, seed=0)
    for part in (model.image_encoder, model.motion_encoder, model.fusion_head):
        assert part is not None
        assert blocks_with_norms(part)
        for block in blocks_with_norms(part):
            for pair in norms_and_readers(block):
                weight = pair.norm.weight
                assert isinstance(weight, torch.Tensor)
                assert int((weight.abs() >= FACTOR / 2).sum()) == CHANNELS


def test_the_seed_decides_the_channels(tiny: FgmClip) -> None:
    def changed(seed: int) -> dict[str, torch.Tensor]:
        model = copy.deepcopy(tiny)
        inject_outliers(model, seed=seed)
        return model.state_dict()

    first, again, other = changed(0), changed(0), changed(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_random_weights_get_them_only_where_it_is_asked() -> None:
    plain = open_model("demo", random_weights=0)
    expected = build_model(preset("demo"), seed=0)
    asked = open_model("demo", random_weights=0, outliers=True)
    motion = "motion_encoder.layer1.0.bn1.weight"
    assert torch.equal(plain.state_dict()[motion], expected.state_dict()[motion])
    assert not torch.equal(asked.state_dict()[motion], expected.state_dict()[motion])
