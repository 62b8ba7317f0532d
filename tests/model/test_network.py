"""The network: shapes, what it sees, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fgmclip.model.build import build_model
from fgmclip.model.errors import InputError
from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]

VARIANTS: dict[str, dict[str, Any]] = {
    "attention": {},
    "dtw": {"align": {"method": "dtw", "projection_width": 8}},
    "unaligned": {"align": {"method": "none"}},
    "concat": {"fusion": {"method": "concat", "width": 12}},
    "frames alone": {"motion": None, "align": {"method": "none"}},
    "tcn": {
        "motion": None,
        "align": {"method": "none"},
        "fusion": {"temporal": "tcn", "width": 12},
    },
    "scene prompts": {"context": {"source": "prompts", "prompts": ["a gym", "a field"]}},
    "scene classifier": {"context": {"source": "classifier", "classes": 4}},
    "text head": {"head": {"kind": "text"}},
    "both heads": {"head": {"kind": "both"}},
}


def clips(spec: ModelSpec, batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [spec.visual.image_size] + ([spec.motion.size] if spec.motion else [])
    return tuple(
        torch.randn(batch, spec.clip.frames, 3, size, size, generator=generator) for size in sizes
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_answers_in_the_promised_shapes(tiny: SpecFactory, variant: str) -> None:
    spec = tiny(**VARIANTS[variant])
    model = build_model(spec, seed=0)
    with torch.inference_mode():
        output = model(*clips(spec))
    assert output.logits.shape == output.probabilities.shape == (2, 3)
    assert output.embedding.shape == (2, 12)
    torch.testing.assert_close(output.probabilities.sum(dim=1), torch.ones(2))
    assert (model.motion_encoder is None) == (spec.motion is None)
    assert (model.text_encoder is not None) == spec.needs_text


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_that_decides_an_answer_learns(tiny: SpecFactory, variant: str) -> None:
    spec = tiny(**VARIANTS[variant])
    model = build_model(spec, seed=0).train()
    model(*clips(spec)).logits.square().sum().backward()
    idle = {name for name, item in model.named_parameters() if item.grad is None}
    # The contrastive loss trains the projections; texts are embedded ahead.
    allowed = ("fusion_head.project_", "text_encoder.")
    assert not {name for name in idle if not name.startswith(allowed)}


def test_clips_of_a_batch_do_not_meet(tiny: SpecFactory) -> None:
    model = build_model(tiny(), seed=0)
    pixels, motion = clips(model.spec, batch=3)
    with torch.inference_mode():
        together = model(pixels, motion).logits
        alone = model(pixels[1:2], motion[1:2]).logits
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fusion": {"method": "concat", "width": 12}},
        {"context": {"source": "classifier", "classes": 4}},
        {"context": {"source": "prompts", "prompts": ["a gym", "a field"]}},
    ],
)
def test_without_motion_the_order_of_frames_means_nothing(
    tiny: SpecFactory, changes: dict[str, Any]
) -> None:
    spec = tiny(motion=None, align={"method": "none"}, **changes)
    model = build_model(spec, seed=0)
    (pixels,) = clips(spec)
    with torch.inference_mode():
        forwards, backwards = model(pixels).logits, model(pixels.flip(1)).logits
        shuffled = model(pixels[:, [3, 0, 4, 1, 2]]).logits
    torch.testing.assert_close(forwards, backwards, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(forwards, shuffled, rtol=1e-5, atol=1e-6)


def test_a_temporal_convolution_knows_the_order_of_frames(tiny: SpecFactory) -> None:
    spec = tiny(**VARIANTS["tcn"])
    model = build_model(spec, seed=0)
    (pixels,) = clips(spec)
    with torch.inference_mode():
        difference = model(pixels).logits - model(pixels.flip(1)).logits
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize("method", ["attention", "dtw", "none"])
def test_the_direction_of_motion_changes_the_answer(tiny: SpecFactory, method: str) -> None:
    spec = tiny(align={"method": method, "heads": 2, "projection_width": 8})
    model = build_model(spec, seed=0)
    pixels, motion = clips(spec)
    backwards = motion.flip(1) * torch.tensor([-1.0, -1.0, -1.0])[:, None, None]
    with torch.inference_mode():
        difference = model(pixels, motion).logits - model(pixels.flip(1), backwards).logits
    assert difference.abs().max() > 1e-4


def test_a_seed_decides_the_weights_and_leaves_torch_alone(tiny: SpecFactory) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build_model(tiny(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("pixels", "motion", "words"),
    [
        ((2, 5, 3, 30, 30), (2, 5, 3, 32, 32), r"pixels: expected \[B,5,3,32,32\]"),
        ((2, 4, 3, 32, 32), (2, 4, 3, 32, 32), "pixels"),
        ((2, 5, 3, 32, 32), (1, 5, 3, 32, 32), r"motion: expected \[2,5,3,32,32\]"),
        ((2, 5, 3, 32, 32), None, "got None"),
    ],
)
def test_tensors_of_other_shapes_are_refused(
    tiny: SpecFactory, pixels: tuple[int, ...], motion: tuple[int, ...] | None, words: str
) -> None:
    model = build_model(tiny(), seed=0)
    with pytest.raises(InputError, match=words):
        model(torch.zeros(pixels), None if motion is None else torch.zeros(motion))


def test_motion_for_a_model_without_it_is_refused(tiny: SpecFactory) -> None:
    model: FgmClip = build_model(tiny(motion=None, align={"method": "none"}), seed=0)
    with pytest.raises(InputError, match="leave motion out"):
        model(torch.zeros(1, 5, 3, 32, 32), torch.zeros(1, 5, 3, 32, 32))
