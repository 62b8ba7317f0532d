"""The form that is exported computes what the model does, with less work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from fgmclip.model.build import build_model
from fgmclip.model.class_token import ClassTokenTower, is_class_token_tower
from fgmclip.model.onnx_graph import export_graph, multiply_adds, signature, to_onnx
from fgmclip.model.plain_attention import PlainAttention
from fgmclip.model.served_form import served_form
from fgmclip.serve.runtimes import open_runtime
from fgmclip.serve.runtimes.openvino_cpu import computes_bf16
from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]

VISION = {"layers": 3, "width": 16, "head_width": 8, "patch_size": 16}
TEXT = {"width": 16, "heads": 2, "layers": 1}


def encoder(tiny: SpecFactory, size: int = 32, **vision: Any) -> nn.Module:
    """Return an image encoder whose norms and biases are not those of an untrained one."""
    config = {"embed_dim": 16, "vision_cfg": VISION | vision, "text_cfg": TEXT}
    visual = {"architecture": "custom", "config": config, "image_size": size, "width": 16}
    model = build_model(tiny(visual=visual), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.image_encoder.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return model.image_encoder


def towers(module: nn.Module) -> list[ClassTokenTower]:
    return [item for item in module.modules() if isinstance(item, ClassTokenTower)]


# Patches of 16 pixels: 5 tokens at 32 pixels, odd, and 10 at 48, even.
@pytest.mark.parametrize(("size", "filled"), [(32, 1), (48, 0)])
@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.5}, {"no_ln_pre": True}])
def test_same_embeddings(tiny: SpecFactory, size: int, filled: int, vision: dict[str, Any]) -> None:
    module = encoder(tiny, size, **vision)
    served = served_form(module)
    (tower,) = towers(served)
    assert tower.filled == filled
    pixels = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(served(pixels), module(pixels), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(served_form(module, fill=False)(pixels), module(pixels))


def test_filled_in_tokens_change_nothing_whatever_they_hold(tiny: SpecFactory) -> None:
    served = served_form(encoder(tiny))
    pixels = torch.ones(1, 3, 32, 32)
    with torch.inference_mode():
        expected = served(pixels)
        # The filled-in token goes through the same blocks; it is only not attended to.
        for module in served.modules():
            if isinstance(module, PlainAttention):
                assert module.attended == 5
                module.attended = None
        assert not torch.allclose(served(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    "vision",
    [
        {"pool_type": "avg"},
        {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4},
    ],
)
def test_towers_that_pool_otherwise_stay_as_they_are(
    tiny: SpecFactory, vision: dict[str, Any]
) -> None:
    module = encoder(tiny, **vision)
    served = served_form(module)
    assert not towers(served)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(served(pixels), module(pixels), rtol=1e-5, atol=1e-5)


def test_the_last_block_is_computed_for_the_class_token_alone(tiny: SpecFactory) -> None:
    model = build_model(tiny(), seed=1)
    of = signature(model, "clip_image_encoder")
    whole = multiply_adds(export_graph(of))
    useful = multiply_adds(
        export_graph(dataclasses.replace(of, module=served_form(of.module, fill=False)))
    )
    # One layer, 5 tokens of width 16: four of them need no query, no attention of their own, no
    # projection and no feed-forward layers.
    tokens, width = 5, 16
    spared = (tokens - 1) * (2 * width * width + 2 * tokens * width + 8 * width * width)
    assert whole - useful == spared


def test_the_model_itself_stays_as_it_is(tiny: SpecFactory) -> None:
    model = build_model(tiny(), seed=1)
    before = {name: type(module) for name, module in model.named_modules()}
    served_form(model.image_encoder)
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert any(is_class_token_tower(module) for module in model.modules())


def test_every_runtime_computes_it_in_bf16(tiny: SpecFactory, tmp_path: Path) -> None:
    if not computes_bf16():
        pytest.skip("this CPU has no instructions for bf16")
    model = build_model(tiny(), seed=1)
    path = tmp_path / "image.onnx"
    onnx.save(to_onnx(model, "clip_image_encoder"), path)
    pixels = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        expected = model.image_encoder(pixels)
    runtime = open_runtime("openvino", path, {"precision": "bf16"})
    (came,) = runtime.run({"PIXELS": pixels.numpy()}).values()
    torch.testing.assert_close(torch.from_numpy(came), expected, rtol=0.1, atol=0.1)
