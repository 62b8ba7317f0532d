"""Plain CLIP and torchvision weights for a new model's encoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip  # type: ignore[import-untyped]
import pytest
import torch
import torchvision  # type: ignore[import-untyped]
from safetensors.torch import save_file
from torch import Tensor

from fgmclip.model.build import build_model
from fgmclip.model.errors import UnreadableError, WeightsError
from fgmclip.model.towers import load_image_weights
from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]


def whole_clip(spec: ModelSpec, *, quick_gelu: bool) -> open_clip.CLIP:
    config = spec.visual.config
    assert config is not None
    vision = config["vision_cfg"] | {"image_size": 32}
    return open_clip.CLIP(
        config["embed_dim"], vision, config["text_cfg"], quick_gelu=quick_gelu
    ).eval()


@pytest.fixture(scope="module")
def clip(tiny: SpecFactory) -> open_clip.CLIP:
    """Return a whole CLIP of the small spec's sizes, as open_clip builds it."""
    return whole_clip(tiny(), quick_gelu=False)


def openai_keys(clip: open_clip.CLIP) -> dict[str, Tensor]:
    """Return the keys of OpenAI's files: text keys at the top, sizes beside them."""
    sizes = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    weights: dict[str, Tensor] = clip.state_dict()
    return weights | {key: torch.tensor(size) for key, size in sizes.items()}


@pytest.mark.parametrize("layout", ["openai", "custom text", "wrapped"])
def test_clip_weights_fill_both_towers(tiny: SpecFactory, tmp_path: Path, layout: str) -> None:
    # OpenAI's weights are for QuickGELU.
    quick = layout != "custom text"
    clip = whole_clip(tiny(), quick_gelu=quick)
    weights = openai_keys(clip)
    if layout == "custom text":
        weights = open_clip.model.convert_to_custom_text_state_dict(clip.state_dict())
    content = (
        {"state_dict": {f"module.{key}": value for key, value in weights.items()}, "epoch": 3}
        if layout == "wrapped"
        else weights
    )
    torch.save(content, tmp_path / "clip.pt")
    visual = tiny().visual
    visual = visual.replace(config=(visual.config or {}) | {"quick_gelu": quick})
    model = build_model(tiny(head={"kind": "text"}, visual=visual), seed=9)
    load_image_weights(model, tmp_path / "clip.pt")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = open_clip.tokenize([text for text in model.spec.classes[1].descriptions])
    assert model.classifier.text_embeddings is not None
    with torch.inference_mode():
        torch.testing.assert_close(model.image_encoder(pixels), clip.encode_image(pixels))
        torch.testing.assert_close(
            model.classifier.text_embeddings[1:2], clip.encode_text(tokens, normalize=True)
        )


def test_a_model_without_a_text_tower_takes_the_image_tower(
    tiny: SpecFactory, clip: open_clip.CLIP, tmp_path: Path
) -> None:
    save_file(
        {key: value.contiguous() for key, value in clip.state_dict().items()},
        tmp_path / "clip.safetensors",
    )
    model = build_model(tiny(), seed=9)
    load_image_weights(model, tmp_path / "clip.safetensors")
    assert torch.equal(
        model.image_encoder.state_dict()["tower.conv1.weight"], clip.visual.conv1.weight
    )


def test_wrong_keys_of_a_tower_are_all_told(
    tiny: SpecFactory, clip: open_clip.CLIP, tmp_path: Path
) -> None:
    weights = dict(clip.state_dict())
    del weights["visual.proj"]
    weights["visual.class_embedding"] = torch.zeros(17)
    weights["stranger"] = torch.zeros(1)
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(WeightsError) as caught:
        load_image_weights(build_model(tiny(), seed=9), tmp_path / "clip.pt")
    for words in ("1 missing: proj", "1 unexpected: stranger", "class_embedding (expected [16]"):
        assert words in str(caught.value)


@pytest.mark.parametrize("classifier", [True, False])
def test_torchvision_weights_fill_a_trunk(
    tiny: SpecFactory, tmp_path: Path, classifier: bool
) -> None:
    reference = torchvision.models.mobilenet_v2(weights=None).eval()
    weights = {
        key: value
        for key, value in reference.state_dict().items()
        if classifier or not key.startswith("classifier.")
    }
    torch.save(weights, tmp_path / "mobilenet.pth")
    visual = {"architecture": "torchvision:mobilenet_v2", "image_size": 32, "width": 1280}
    model = build_model(tiny(visual=visual), seed=9)
    load_image_weights(model, tmp_path / "mobilenet.pth")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference.features(pixels).mean(dim=(2, 3))
        torch.testing.assert_close(model.image_encoder(pixels), expected)


def test_a_classifier_of_another_network_is_not_left_aside(
    tiny: SpecFactory, tmp_path: Path
) -> None:
    weights = torchvision.models.mobilenet_v2(weights=None).state_dict()
    torch.save(weights | {"fc.weight": torch.zeros(2, 2)}, tmp_path / "mobilenet.pth")
    visual = {"architecture": "torchvision:mobilenet_v2", "image_size": 32, "width": 1280}
    with pytest.raises(WeightsError, match=r"1 unexpected: fc\.weight"):
        load_image_weights(build_model(tiny(visual=visual), seed=9), tmp_path / "mobilenet.pth")


@pytest.mark.parametrize(("name", "content"), [("a.pt", [1]), ("a.txt", {})])
def test_other_files_are_refused(
    tiny: SpecFactory, tmp_path: Path, name: str, content: object
) -> None:
    torch.save(content, tmp_path / name)
    with pytest.raises(UnreadableError):
        load_image_weights(build_model(tiny(), seed=9), tmp_path / name)
