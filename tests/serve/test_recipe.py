"""Recipes: what is written is read back, and what is wrong is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgmclip.serve.runtimes.recipe import Recipe, read_recipe

RECIPE = Recipe(
    part="fusion_head",
    library="rtx",
    precision="int8",
    rest="fp16",
    keep=("node_a", "node_b"),
    max_batch=64,
    onnx_sha256="ab",
    model_tag="cd",
)


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(RECIPE.to_json(), encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == 1
    assert read_recipe(path) == RECIPE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format: expected 1, got 2; use the fgmclip that exported"),
        ({"library": "trt"}, "library: expected tensorrt or rtx, got 'trt'"),
        ({"precision": "int4"}, "precision: expected fp32 or fp16 or bf16 or int8, got 'int4'"),
        ({"rest": "int8"}, "rest: expected fp32 or fp16 or bf16, got 'int8'"),
        ({"precision": "bf16"}, "rest: expected bf16, the precision itself, got 'fp16'"),
        ({"keep": "node_a"}, "keep: expected a list of names, got 'node_a'"),
        ({"keep": [1]}, "keep: expected names of nodes"),
        ({"max_batch": 0}, "max_batch: expected a whole number from 1 on, got 0"),
        ({"max_batch": True}, "max_batch: expected a whole number"),
        ({"part": 1}, "part: expected a text, got 1"),
        ({"more": 1}, "fields: expected keep, .* got 'keep, .*more"),
    ],
)
def test_a_wrong_field_is_told_with_the_file_and_the_remedy(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(json.loads(RECIPE.to_json()) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"recipe\.json: {message}"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_what_is_no_recipe_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="export the release again"):
        read_recipe(path)
    with pytest.raises(ValueError, match=r"missing\.json: expected a recipe"):
        read_recipe(tmp_path / "missing.json")
