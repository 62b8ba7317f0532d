"""Image, motion and text encoders: widths, keys, and what cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from torch import nn

from fgmclip.model.build import build_model
from fgmclip.model.errors import BuildError
from fgmclip.model.image_encoder import ImageEncoder
from fgmclip.model.motion_encoder import MotionEncoder
from fgmclip.model.text_encoder import TextEncoder
from fgmclip.spec import ModelSpec, MotionSpec, SpecError, VisualSpec

SpecFactory = Callable[..., ModelSpec]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_motion_encoders_compute_what_torchvisions_networks_do(name: str) -> None:
    reference = getattr(torchvision.models, name)(weights=None).eval()
    width = reference.fc.in_features
    reference.fc = nn.Identity()
    encoder = MotionEncoder(MotionSpec(encoder=name, width=width, size=64)).eval()
    encoder.load_state_dict(reference.state_dict())
    motion = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(motion), reference(motion))


def test_the_narrow_motion_encoder_has_half_the_channels() -> None:
    narrow = MotionEncoder(MotionSpec(encoder="resnet10_narrow", width=256)).state_dict()
    whole = MotionEncoder(MotionSpec(encoder="resnet10", width=512)).state_dict()
    assert narrow.keys() == whole.keys()
    halves = {key: value for key, value in narrow.items() if value.ndim}
    assert all(2 * value.shape[0] == whole[key].shape[0] for key, value in halves.items())


@pytest.mark.parametrize(("width", "projected"), [(512, False), (100, True)])
def test_outputs_are_projected_only_to_another_width(width: int, projected: bool) -> None:
    motion = MotionEncoder(MotionSpec(encoder="resnet18", width=width))
    visual = ImageEncoder(
        VisualSpec(architecture="torchvision:resnet18", image_size=64, width=width)
    )
    assert isinstance(motion.project, nn.Linear) == projected
    assert isinstance(visual.project, nn.Linear) == projected
    assert visual(torch.zeros(2, 3, 64, 64)).shape == (2, width)
    assert visual.removed == ("fc.weight", "fc.bias")


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [("mobilenet_v2", 64, 1280), ("vit_b_32", 96, 768), ("mobilenet_v3_small", 64, 1024)],
)
def test_classifiers_of_torchvision_serve_as_trunks(name: str, size: int, width: int) -> None:
    spec = VisualSpec(architecture=f"torchvision:{name}", image_size=size, width=width)
    encoder = ImageEncoder(spec).eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(1, 3, size, size)).shape == (1, width)
    assert not set(encoder.removed) & set(encoder.tower.state_dict())


@pytest.mark.parametrize(
    ("visual", "words"),
    [
        ({"architecture": "ViT-B-17", "width": 512}, "list_models"),
        ({"architecture": "hf-hub:someone/something", "width": 512}, "ViT-B-16"),
        ({"architecture": "ViT-B-32", "width": 500}, "visual.width: expected 512"),
        ({"architecture": "torchvision:resnet19", "width": 512}, "resnet19"),
        ({"architecture": "torchvision:inception_v3", "width": 2048}, "auxiliary"),
        ({"architecture": "torchvision:squeezenet1_0", "width": 512}, "no linear layer"),
        ({"architecture": "torchvision:maxvit_t", "width": 512}, "does not take 64 pixels"),
        ({"architecture": "custom", "config": {"embed_dim": 512}, "width": 512}, "vision_cfg"),
        (
            {
                "architecture": "custom",
                "config": {"embed_dim": 8, "vision_cfg": {"image_size": 32}},
                "width": 8,
            },
            "expected 32",
        ),
        (
            {
                "architecture": "custom",
                "config": {"embed_dim": 8, "vision_cfg": {"depth": 3}},
                "width": 8,
            },
            "depth",
        ),
    ],
)
def test_what_cannot_be_built_is_told_with_a_remedy(visual: dict[str, Any], words: str) -> None:
    spec = VisualSpec(image_size=64, **visual)
    with pytest.raises(BuildError, match=words) as caught:
        ImageEncoder(spec)
    assert "\n" not in str(caught.value)


def test_texts_become_unit_vectors_and_a_class_the_mean_of_its_own(tiny: SpecFactory) -> None:
    spec = tiny(head={"kind": "both"}, context={"source": "prompts", "prompts": ["a gym"]})
    model = build_model(spec, seed=0)
    assert model.text_encoder is not None
    first, second = model.text_encoder.embed(spec.classes[0].descriptions)
    mean = (first + second) / (first + second).norm()
    assert model.classifier.text_embeddings is not None
    torch.testing.assert_close(model.classifier.text_embeddings[0], mean)
    lengths = model.classifier.text_embeddings.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))
    assert "fusion_head.context.prompts" in model.state_dict()


def test_the_text_head_is_a_cosine_over_the_temperature(tiny: SpecFactory) -> None:
    model = build_model(tiny(head={"kind": "text", "temperature": 0.5}), seed=0)
    embedding = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    head = model.classifier
    assert head.project_text is not None
    assert head.text_embeddings is not None
    projected = head.project_text(embedding)
    expected = nn.functional.cosine_similarity(
        projected[:, None], head.text_embeddings[None], dim=-1
    )
    torch.testing.assert_close(head(embedding), expected / 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no text tower"),
        ({"width": 8, "heads": 1, "layers": 1, "vocab_size": 100}, "vocab_size"),
        ({"hf_model_name": "someone/something"}, "no text tower"),
    ],
)
def test_a_text_tower_that_cannot_read_is_refused(text: dict[str, Any] | None, words: str) -> None:
    vision = {"layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    config = {"embed_dim": 8, "vision_cfg": vision} | ({"text_cfg": text} if text else {})
    spec = VisualSpec(architecture="custom", config=config, image_size=32, width=8)
    with pytest.raises(BuildError, match=words):
        TextEncoder(spec)


def test_a_text_head_on_a_torchvision_trunk_is_refused(tiny: SpecFactory) -> None:
    visual = {"architecture": "torchvision:resnet18", "image_size": 32, "width": 512}
    with pytest.raises(SpecError, match="no text tower"):
        tiny(visual=visual, head={"kind": "text"})
