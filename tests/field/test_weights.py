"""Weights as people have them: taken by one rule, said, and never run; or refused in one line."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import struct
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # type: ignore[import-untyped]
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fgmclip.cli import main
from fgmclip.export.sources import open_model
from fgmclip.model.build import build_model
from fgmclip.model.checkpoint import SPEC_KEY, load_checkpoint, save_checkpoint
from fgmclip.model.errors import CheckpointError, UnreadableError, UnsafeError, WeightsError
from fgmclip.model.towers import load_image_weights
from fgmclip.spec import ModelSpec, SpecError, preset
from fgmclip.training.commands import fitted_to_weights
from fgmclip.training.dataset import Dataset
from fgmclip.training.run import Initial, Workshop, train_model
from fgmclip.training.settings import TrainSettings

CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {
        "layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32
    },
    "text_cfg": {"width": 16, "heads": 2, "layers": 1},
}  # fmt: skip

State = dict[str, Any]
Read = Callable[[Path], State]


def a_spec(
    *, quick: bool | None = None, size: int = 32, text: bool = False, **changes: Any
) -> ModelSpec:
    """Return a small spec; `quick` sets its activation, `size` its image size in pixels."""
    config = CLIP | {"vision_cfg": CLIP["vision_cfg"] | {"image_size": size}}
    if quick is not None:
        config |= {"quick_gelu": quick}
    return ModelSpec.of(
        **{
            "name": "small",
            "visual": {"architecture": "custom", "config": config, "image_size": size, "width": 16},
            "motion": "none",
            "align": {"method": "none"},
            "fusion": {"width": 8},
            "head": {"kind": "text" if text else "linear"},
            "clip": {"frames": 3},
            "classes": [{"name": name, "descriptions": [name]} for name in ("sit", "stand")],
        }
        | changes
    )


@pytest.fixture(scope="module")
def weights() -> State:
    """Return a small model's weights; those after the last step where averages are told apart."""
    return dict(build_model(a_spec(), seed=3).state_dict())


@pytest.fixture(scope="module")
def clip() -> State:
    """Return the weights of a whole CLIP, as open_clip names them."""
    torch.manual_seed(1)
    return dict(open_clip.CLIP(**CLIP).state_dict())


def averaged(state: Mapping[str, Tensor]) -> State:
    return {key: value + 1 for key, value in state.items()}


def named(prefix: str, state: Mapping[str, Any]) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def saved(path: Path, content: Any, spec: ModelSpec | None = None) -> Path:
    torch.save(content, path)
    path.with_suffix(".json").write_text((spec or a_spec()).to_json(), encoding="utf-8")
    return path


def checkpoint_state(path: Path) -> State:
    return dict(load_checkpoint(path).state_dict())


def tower_state(path: Path) -> State:
    model = build_model(a_spec(), seed=9)
    load_image_weights(model, path)
    return named("visual.", model.image_encoder.tower.state_dict())


def told(read: Callable[..., object], *arguments: Any) -> str:
    """Return what reading says, in one line."""
    lines: list[str] = []
    read(*arguments, say=lines.append)
    [line] = lines
    assert "\n" not in line
    return line


def refused(read: Callable[..., object], *arguments: Any) -> CheckpointError:
    """Return the refusal, which is one line of bearable length."""
    with pytest.raises(CheckpointError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    return caught.value


# Fault 5: averaged weights. Each content is made of the last weights and the averaged ones.

CONTAINERS: dict[str, tuple[Callable[[State, State], Any], bool, str]] = {
    "ema is None": (lambda last, _: {"state_dict": last, "ema": None}, False, "`state_dict`"),
    "ema is empty": (lambda last, _: {"ema": {}, "state_dict": last}, False, "`state_dict`"),
    "ema has settings alone": (
        lambda last, _: {"ema": {"decay": 0.99, "updates": torch.tensor(7)}, "model": last},
        False,
        "`model`",
    ),
    "ema without names": (
        lambda last, ema: {"ema": {"shadow_params": [*ema.values()]}, "state_dict": last},
        False,
        "`state_dict`; `ema.shadow_params` holds averages without names",
    ),
    "timm": (
        lambda last, ema: {"state_dict": last, "state_dict_ema": named("module.", ema)},
        True,
        "`state_dict_ema`, averaged weights; left `state_dict` (",
    ),
    "model_ema before model": (
        lambda last, ema: {"model": last, "model_ema": ema},
        True,
        "`model_ema`, averaged weights; left `model` (",
    ),
    "nested": (
        lambda last, ema: {"model": {"state_dict": last}, "ema": {"module": ema, "decay": 0.9}},
        True,
        "`ema.module`, averaged weights; left `model.state_dict` (",
    ),
    "in a callback": (
        lambda last, ema: {"state_dict": last, "callbacks": {"EMA": {"ema_state_dict": ema}}},
        True,
        "`callbacks.EMA.ema_state_dict`, averaged weights; left `state_dict` (",
    ),
    "mmengine": (
        lambda last, ema: {
            "meta": {"mmengine_version": "0.10.4"},
            "state_dict": ema,
            "ema_state_dict": {"steps": torch.tensor(4)} | named("module.", last),
        },
        True,
        "`state_dict`, averaged weights; mmengine keeps its averages there; left `ema_state_dict`",
    ),
    "mmengine without meta": (
        lambda last, ema: {
            "ema_state_dict": {"steps": torch.tensor(4)} | named("module.", last),
            "state_dict": ema,
        },
        True,
        "`state_dict`, averaged weights; mmengine",
    ),
    "ema_state_dict of others": (
        lambda last, ema: {"state_dict": last, "ema_state_dict": ema},
        True,
        "`ema_state_dict`, averaged weights; left `state_dict` (",
    ),
    "by key": (
        lambda last, ema: {
            "model": {"ema.initted": torch.tensor(True), **named("online_model.", last)}
            | named("ema_model.", ema)
        },
        True,
        "`model`, averaged weights; left ",
    ),
    "swa": (
        lambda _, ema: {"state_dict": {"n_averaged": torch.tensor(4), **named("module.", ema)}},
        True,
        "`state_dict`",
    ),
    "deepspeed": (lambda last, _: {"module": last, "optimizer": None}, False, "`module`"),
    "alone": (lambda last, _: last, False, "the top level"),
}


@pytest.mark.parametrize("case", CONTAINERS)
@pytest.mark.parametrize("kind", ["checkpoint", "encoder"])
def test_one_rule_chooses_among_containers(
    weights: State, clip: State, tmp_path: Path, case: str, kind: str
) -> None:
    make, is_averaged, words = CONTAINERS[case]
    last = weights if kind == "checkpoint" else clip
    path = saved(tmp_path / "run.pt", make(last, averaged(last)))
    read: Read = checkpoint_state if kind == "checkpoint" else tower_state
    expected = averaged(last) if is_averaged else last
    came = read(path)
    assert came
    for key, value in came.items():
        torch.testing.assert_close(value, expected[key])
    model = build_model(a_spec(), seed=9)
    line = (
        told(load_checkpoint, path)
        if kind == "checkpoint"
        else told(load_image_weights, model, path)
    )
    assert line.startswith(f"{path}: took {len(came)} tensors of {words}")


def test_commands_say_which_weights_they_took(
    weights: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "fgmclip.model.describe.describe", lambda _: types.SimpleNamespace(to_json=lambda: "{}")
    )
    content = {"state_dict": weights, "ema": averaged(weights)}
    path = saved(tmp_path / "run.pt", content)
    words = f"took {len(weights)} tensors of `ema`, averaged weights; left `state_dict`"
    assert main(["model", "describe", str(path), "--json"]) == 0
    output = capsys.readouterr()
    assert words in " ".join(output.err.split())
    json.loads(output.out)
    assert words in told(open_model, str(path))


class NoVideosError(Exception):
    """Ends a run once its initial weights are there."""


def test_initial_weights_are_said(
    weights: State, clip: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(*_: object) -> None:
        raise NoVideosError

    monkeypatch.setattr(Workshop, "rows", rows)
    lines: list[str] = []
    checkpoint = saved(tmp_path / "run.pt", {"ema": averaged(weights)})
    image = saved(tmp_path / "clip.pt", {"model": clip})
    with pytest.raises(NoVideosError):
        train_model(
            a_spec(),
            Dataset(()),
            TrainSettings(epochs=1),
            Workshop(tmp_path / "cache", progress=False),
            initial=Initial(checkpoint, image),
            say=lines.append,
        )
    assert "of `ema`, averaged weights" in lines[0]
    assert "taken: image_encoder, 20 tensors" in lines
    assert "of `model`; left 18 that this model has no place for" in lines[-1]


# Fault 13: weights of an encoder, whatever wraps them.


def whole(clip: State) -> State:
    return clip


def custom_text(clip: State) -> State:
    state: State = open_clip.model.convert_to_custom_text_state_dict(clip)
    return state


def tower_named_visual(clip: State) -> State:
    return {key: value for key, value in clip.items() if key.startswith("visual.")}


def bare_tower(clip: State) -> State:
    return {key.removeprefix("visual."): value for key, value in tower_named_visual(clip).items()}


LAYOUTS = (whole, custom_text, tower_named_visual, bare_tower)
PREFIXES = (
    "", "module.", "model.", "_orig_mod.", "model._orig_mod.module.", "module.module.",
    "clip_model.", "model.clip.", "image_encoder.", "_fsdp_wrapped_module.net.",
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_image_weights_are_read_whatever_wraps_them(
    clip: State, tmp_path: Path, layout: Callable[[State], State], prefix: str
) -> None:
    if prefix == "image_encoder.":
        # An image encoder holds no text tower.
        layout = bare_tower if layout is bare_tower else tower_named_visual
    for number, container in enumerate((None, "model", "state_dict")):
        state = named(prefix, layout(clip))
        path = tmp_path / f"{number}.pt"
        saved(path, state if container is None else {container: state, "epoch": 3})
        came = tower_state(path)
        assert came
        for key, value in came.items():
            torch.testing.assert_close(value, clip[key])


def test_wrappers_inside_keys_are_taken_off(weights: State, tmp_path: Path) -> None:
    for number, wrapper in enumerate(("_orig_mod", "module", "_checkpoint_wrapped_module")):
        inside = {key.replace("tower.", f"tower.{wrapper}."): v for key, v in weights.items()}
        state = checkpoint_state(saved(tmp_path / f"{number}.pt", {"state_dict": inside}))
        assert all(torch.equal(state[key], value) for key, value in weights.items())


def test_an_image_tower_alone_does_not_fill_a_text_tower(clip: State, tmp_path: Path) -> None:
    model = build_model(a_spec(**{"text": True}), seed=9)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = saved(tmp_path / "clip.pt", bare_tower(clip))
    assert "give the whole CLIP" in str(refused(load_image_weights, model, path))
    part = {key: value for key, value in clip.items() if key != "ln_final.bias"}
    path = saved(tmp_path / "clip.pt", part)
    assert "1 missing: ln_final.bias" in str(refused(load_image_weights, model, path))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_other_files_of_weights_say_what_to_do(weights: State, clip: State, tmp_path: Path) -> None:
    model = build_model(a_spec(), seed=9)
    path = saved(tmp_path / "run.pt", weights)
    assert "--init" in str(refused(load_image_weights, model, path))
    path = saved(tmp_path / "hf.pt", named("vision_model.", clip))
    assert "transformers" in str(refused(load_image_weights, model, path))
    path = saved(tmp_path / "dino.pt", {"student": clip, "teacher": dict(clip)})
    assert "tensors under `student`, `teacher` alone" in str(
        refused(load_image_weights, model, path)
    )


# Fault 12: GELU and QuickGELU.


def openai(clip: State) -> State:
    sizes = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    return clip | {key: torch.tensor(size) for key, size in sizes.items()}


QUICK: dict[str, Callable[[State, Path], Path]] = {
    "sizes": lambda clip, folder: saved(folder / "clip.pt", openai(clip)),
    "wrapped sizes": lambda clip, folder: saved(
        folder / "clip.pt", {"state_dict": named("module.", openai(clip))}
    ),
    "setting": lambda clip, folder: saved(
        folder / "clip.pt", {"state_dict": clip, "args": argparse.Namespace(force_quick_gelu=True)}
    ),
    "model's name": lambda clip, folder: saved(
        folder / "clip.pt", {"state_dict": clip, "config": {"model": "ViT-B-32-quickgelu"}}
    ),
    "own name": lambda clip, folder: saved(folder / "rn50-quickgelu-cc12m.pt", clip),
    "published name": lambda clip, folder: saved(folder / "ViT-B-16.pt", clip),
    "hub's cache": lambda clip, folder: saved(
        made(folder / "models--timm--vit_base_patch16_clip_224.openai" / "snapshots")
        / "open_clip_model.bin",
        clip,
    ),
    "config beside": lambda clip, folder: beside(folder, clip, {"quick_gelu": True}),
}

PLAIN: dict[str, Callable[[State, Path], Path]] = {
    "config beside": lambda clip, folder: beside(folder, clip, {"embed_dim": 16}),
    "published name": lambda clip, folder: saved(
        folder / "vit_b_16-laion400m_e32-55e67d44.pt", clip
    ),
}


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def beside(folder: Path, clip: State, model: Mapping[str, object]) -> Path:
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model}), encoding="utf-8"
    )
    return saved(folder / "open_clip_pytorch_model.bin", clip)


@pytest.mark.parametrize("case", QUICK)
def test_weights_for_quickgelu_are_not_taken_as_for_gelu(
    clip: State, tmp_path: Path, case: str
) -> None:
    path = QUICK[case](clip, tmp_path)
    error = refused(load_image_weights, build_model(a_spec(), seed=9), path)
    assert isinstance(error, WeightsError)
    for words in ("trained with GELU", "trained with QuickGELU", '"quick_gelu": true'):
        assert words in str(error)
    model = build_model(a_spec(quick=True), seed=9)
    assert "does not tell" not in told(load_image_weights, model, path)
    reference = open_clip.CLIP(**CLIP, quick_gelu=True).eval()
    reference.load_state_dict(clip)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.image_encoder(pixels), reference.encode_image(pixels))


@pytest.mark.parametrize("case", PLAIN)
def test_weights_for_gelu_are_not_taken_as_for_quickgelu(
    clip: State, tmp_path: Path, case: str
) -> None:
    path = PLAIN[case](clip, tmp_path)
    error = refused(load_image_weights, build_model(a_spec(quick=True), seed=9), path)
    assert '"quick_gelu": false' in str(error)
    load_image_weights(build_model(a_spec(), seed=9), path)


def test_what_the_file_does_not_tell_is_said(clip: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "clip.pt", clip)
    for quick, name in ((False, "GELU"), (True, "QuickGELU")):
        line = told(load_image_weights, build_model(a_spec(quick=quick), seed=9), path)
        assert f"taken as trained with {name}, as custom computes: the file does not tell" in line


def test_a_network_without_either_takes_both(tmp_path: Path) -> None:
    vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32}
    config = CLIP | {"vision_cfg": vision}
    visual = {"architecture": "custom", "config": config, "image_size": 32, "width": 16}
    model = build_model(a_spec(visual=visual), seed=9)
    torch.manual_seed(1)
    path = saved(tmp_path / "clip.pt", openai(dict(open_clip.CLIP(**config).state_dict())))
    load_image_weights(model, path)


def test_a_training_run_with_quickgelu_needs_a_spec_with_it(weights: State, tmp_path: Path) -> None:
    content = {"state_dict": weights, "hyper_parameters": {"model": {"quick_gelu": True}}}
    path = saved(tmp_path / "run.pt", content)
    assert "QuickGELU" in str(refused(load_checkpoint, path))
    path = saved(tmp_path / "run.pt", content, a_spec(quick=True))
    assert load_checkpoint(path).spec == a_spec(quick=True)


@pytest.mark.parametrize("quick", [True, False])
def test_another_activation_is_no_beginning(tmp_path: Path, quick: bool) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(build_model(a_spec(quick=quick), seed=3), path)
    with pytest.raises(WeightsError, match='set "quick_gelu": ' + str(quick).lower()):
        train_model(
            a_spec(quick=not quick),
            Dataset(()),
            TrainSettings(epochs=1),
            Workshop(tmp_path / "cache", progress=False),
            initial=Initial(path),
        )


def test_a_preset_computes_as_its_image_weights_were_trained(clip: State, tmp_path: Path) -> None:
    lines: list[str] = []
    path = saved(tmp_path / "clip.pt", openai(clip))
    spec = fitted_to_weights(preset("b16"), path, lines.append)
    assert spec.visual.architecture == "ViT-B-16-quickgelu"
    assert "QuickGELU (OpenAI's" in lines[0]
    assert fitted_to_weights(spec, path, lines.append) == spec
    path = saved(tmp_path / "other.pt", clip)
    assert fitted_to_weights(preset("b16"), path, lines.append) == preset("b16")
    assert len(lines) == 1


# Fault 15: what training runs save beside their weights, and code.


class HistoryBuffer:
    """Stands for mmengine's, by whose name it is pickled."""

    def __init__(self) -> None:
        self._log_history = np.arange(3.0)


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> HistoryBuffer:
    name = "mmengine.logging.history_buffer"
    module = types.ModuleType(name)
    for part in ("mmengine", "mmengine.logging", name):
        monkeypatch.setitem(sys.modules, part, module)
    monkeypatch.setattr(HistoryBuffer, "__module__", name)
    monkeypatch.setattr(module, "HistoryBuffer", HistoryBuffer, raising=False)
    return HistoryBuffer()


def test_plain_things_beside_the_weights_are_no_code(
    weights: State, tmp_path: Path, history: HistoryBuffer
) -> None:
    content = {
        "state_dict": collections.defaultdict(list, weights),
        "best": np.float64(0.91),
        "flag": np.bool_(True),
        "confusion": np.eye(3, dtype=np.float32),
        "names": np.array(["a", None], dtype=object),
        "args": argparse.Namespace(lr=np.float32(0.1), out=Path("/tmp"), more={"a": [1]}),
        "message_hub": {"log_scalars": {"loss": history}},
        "optimizer": {"state": {0: {"step": np.int64(3), "exp_avg": torch.zeros(2)}}},
    }
    for zipped in (True, False):
        path = saved(tmp_path / "run.pt", None)
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        state = checkpoint_state(path)
        assert all(torch.equal(state[key], value) for key, value in weights.items())


def test_weights_as_arrays_are_read(weights: State, tmp_path: Path) -> None:
    arrays = {key: value.numpy() for key, value in weights.items()}
    path = saved(tmp_path / "run.pt", {"state_dict": arrays})
    state = checkpoint_state(path)
    assert all(torch.equal(state[key], value) for key, value in weights.items())
    turned = {
        key: np.asfortranarray(value.astype(value.dtype.newbyteorder(">")))
        for key, value in arrays.items()
    }
    state = checkpoint_state(saved(tmp_path / "turned.pt", {"state_dict": turned}))
    assert all(torch.equal(state[key], value) for key, value in weights.items())


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_code_is_not_run_wherever_it_hides(weights: State, tmp_path: Path, read: Read) -> None:
    mark = tmp_path / "mark"
    hidden = np.array([Payload(mark)], dtype=object)
    for number, extra in enumerate((Payload(mark), hidden, argparse.Namespace(a=Payload(mark)))):
        path = saved(tmp_path / f"{number}.pt", {"state_dict": weights, "extra": extra})
        assert isinstance(refused(read, path), UnsafeError)
        assert not mark.exists()


# Fault 15: positions for another image size.


def test_positions_for_another_image_size_are_told(
    weights: State, clip: State, tmp_path: Path
) -> None:
    model = build_model(a_spec(size=48), seed=9)
    for read, content in (
        (lambda path: load_image_weights(model, path), clip),
        (load_checkpoint, weights),
    ):
        path = saved(tmp_path / "run.pt", content, a_spec(size=48))
        message = str(refused(read, path))
        for words in ("a 4x4 grid of positions, expected 6x6", "for 32 pixels", "image_size is 48"):
            assert words in message


# Types that hold no plain numbers, and numbers that are none.


def with_kind(state: State, make: Callable[[Tensor], Tensor]) -> State:
    return {key: make(v) if v.is_floating_point() and v.ndim > 1 else v for key, v in state.items()}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_one_byte_become_single_precision(
    weights: State, tmp_path: Path, dtype: torch.dtype, suffix: str
) -> None:
    small = with_kind(weights, lambda value: value.to(dtype))
    path = saved(tmp_path / "run.pt", small)
    if suffix == ".safetensors":
        path = tmp_path / "run.safetensors"
        save_file({key: v.contiguous() for key, v in small.items()}, path)
    state = checkpoint_state(path)
    for key, value in small.items():
        assert torch.equal(state[key], value.to(state[key].dtype))
    assert f"{str(dtype)[6:]}, now float32" in told(load_checkpoint, path)


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "complex": (lambda value: value.to(torch.complex64), "complex64"),
    "meta": (lambda value: value.to("meta"), "without values"),
    "sparse": (lambda value: value.to_sparse(), "sparse_coo"),
    "scales": (lambda value: value.abs().to(torch.float8_e8m0fnu), "float8_e8m0fnu"),
    "quantized": (
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "quantized (qint8)",
    ),
}


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_tensors_without_plain_numbers_are_refused(
    weights: State, clip: State, tmp_path: Path, case: str, read: Read
) -> None:
    make, words = KINDS[case]
    state = weights if read is checkpoint_state else clip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(tmp_path / "run.pt", with_kind(state, make))
    message = str(refused(read, path))
    assert words in message
    assert "more; save them as float32" in message


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_weights_that_single_precision_cannot_hold_are_refused(
    weights: State, clip: State, tmp_path: Path, value: float, read: Read
) -> None:
    state = weights if read is checkpoint_state else clip
    wide = {key: v.double() if v.is_floating_point() else v for key, v in state.items()}
    wide[next(key for key in wide if key.endswith("conv1.weight"))].view(-1)[0] = value
    path = saved(tmp_path / "run.pt", wide)
    assert "got NaN or Inf in " in str(refused(read, path))


def test_an_error_names_ten_keys_and_how_many_more(weights: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pt", named("strange.", weights))
    message = str(refused(load_checkpoint, path))
    count = len(weights)
    assert message.count("strange.") == 10
    assert f"{count} missing: " in message
    assert message.count(f" and {count - 10} more") == 2
    broken = {key: torch.full_like(v, torch.nan) for key, v in weights.items()}
    path = saved(tmp_path / "run.pt", broken)
    assert f" and {count - 10} more; take an earlier" in str(refused(load_checkpoint, path))
    twice = weights | named("module.", weights)
    path = saved(tmp_path / "run.pt", twice)
    assert f" and {count - 10} more; save only one" in str(refused(load_checkpoint, path))


def test_a_spec_of_another_kind_is_named_in_few_words(weights: State, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    torch.save(weights, path)
    path.with_suffix(".json").write_text(
        json.dumps({f"key{n}": n for n in range(300)}), encoding="utf-8"
    )
    with pytest.raises(SpecError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: ")
    assert str(caught.value).endswith(" more")
    assert str(caught.value).count("not permitted") <= 10
    spec = a_spec().to_json().encode()
    path.with_suffix(".json").write_bytes(b"\xef\xbb\xbf" + spec)
    assert load_checkpoint(path).spec == a_spec()


# Files that are no weights, or a part of them.


def safetensors_of(header: Mapping[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


FILES: dict[str, tuple[str, bytes, str]] = {
    "Git LFS": (
        "run.pt",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 354\n",
        "git lfs pull",
    ),
    "Git LFS safetensors": (
        "run.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 354\n",
        "git lfs pull",
    ),
    "web page": ("run.pt", b"\n<!DOCTYPE html><html>not found</html>", "web page"),
    "web page safetensors": ("run.safetensors", b"<html>not found</html>", "web page"),
    "empty": ("run.pt", b"", "cut off"),
    "other zip": ("run.pt", b"PK\x05\x06" + bytes(18), "torch.save"),
    "safetensors by another name": (
        "run.bin",
        safetensors_of({"__metadata__": {"format": "pt"}}, b""),
        "rename it to *.safetensors",
    ),
    "zip by another name": ("run.safetensors", b"PK\x03\x04" + bytes(60), "rename it to *.pt"),
    "no tensors": ("run.safetensors", safetensors_of({"__metadata__": {}}, b""), "found none"),
    "unknown type": (
        "run.safetensors",
        safetensors_of({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}, b"0"),
        "cannot be read",
    ),
    "index that is none": ("run.safetensors.index.json", b"[1]", "weight_map"),
    "index that leads away": (
        "run.safetensors.index.json",
        b'{"weight_map": {"a": "../other.safetensors"}}',
        "weight_map",
    ),
    "index without shards": (
        "run.safetensors.index.json",
        b'{"weight_map": {"a": "run-1-of-1.safetensors"}}',
        "run-1-of-1.safetensors",
    ),
    "one of many": ("run-00001-of-00002.safetensors", b"", "run.safetensors.index.json"),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_files_that_are_no_weights_are_named(tmp_path: Path, case: str, read: Read) -> None:
    name, data, words = FILES[case]
    path = tmp_path / name
    path.write_bytes(data)
    error = refused(read, path)
    assert isinstance(error, UnreadableError)
    assert words in str(error)


def test_a_folder_is_named_with_what_lies_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.pt").touch()
    for read in (checkpoint_state, tower_state):
        assert "a folder; name a file; in it are run.pt" in str(refused(read, tmp_path))
    assert main(["model", "describe", str(tmp_path)]) == 1
    assert "a folder; name a file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("keep", [30, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_a_file_that_is_cut_off_is_refused(
    weights: State, tmp_path: Path, keep: float, suffix: str, read: Read
) -> None:
    path = tmp_path / f"run{suffix}"
    if suffix == ".pt":
        torch.save(weights, path)
    else:
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    assert isinstance(refused(read, path), UnreadableError)


@pytest.mark.parametrize("content", [[1, 2], None, {}, {"epoch": 3, "ema": None}])
@pytest.mark.parametrize("read", [checkpoint_state, tower_state])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: Any, read: Read) -> None:
    path = saved(tmp_path / "run.pt", content)
    message = str(refused(read, path))
    assert "expected a state dict" in message
    if isinstance(content, dict) and content:
        assert "it holds epoch, ema" in message


def test_a_pickle_that_holds_itself_ends(weights: State, tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": weights}
    content["self"] = content["model"] = content
    assert checkpoint_state(saved(tmp_path / "run.pt", content))


def sharded(folder: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    """Write a state in two files with an index, as transformers and accelerate do."""
    places: dict[str, str] = {}
    for number, keys in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file({key: state[key].contiguous() for key in keys}, folder / name, metadata)
        places |= dict.fromkeys(keys, name)
    path = folder / "model.safetensors.index.json"
    path.write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": places}), encoding="utf-8"
    )
    return path


def test_shards_are_read_by_their_index(weights: State, clip: State, tmp_path: Path) -> None:
    path = sharded(tmp_path, named("module.", weights))
    (tmp_path / "model.json").write_text(a_spec().to_json(), encoding="utf-8")
    assert all(torch.equal(checkpoint_state(path)[key], value) for key, value in weights.items())
    (tmp_path / "model.json").unlink()
    path = sharded(tmp_path, weights, {SPEC_KEY: a_spec().to_json()})
    assert load_checkpoint(path).spec == a_spec()
    path = sharded(tmp_path, clip)
    assert all(torch.equal(value, clip[key]) for key, value in tower_state(path).items())
    index = json.loads(path.read_text(encoding="utf-8"))
    index["weight_map"]["gone"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index), encoding="utf-8")
    assert "not in any: gone" in str(refused(tower_state, path))


@pytest.fixture(scope="module")
def archive(clip: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CLIP as OpenAI publishes it: traced, in half precision, with its sizes."""
    model = open_clip.CLIP(**CLIP, quick_gelu=True).eval()
    model.load_state_dict(clip)
    for key, size in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        delattr(model, key) if hasattr(model, key) else None
        model.register_buffer(key, torch.tensor(size))
    path = tmp_path_factory.mktemp("openai") / "clip.pt"
    example = torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, example, check_trace=False).half()  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)
    return path


def test_an_archive_of_openai_is_read_without_its_code(
    clip: State, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.jit, "load", None)
    assert "OpenAI's" in str(refused(load_image_weights, build_model(a_spec(), seed=9), archive))
    model = build_model(a_spec(quick=True, **{"text": True}), seed=9)
    load_image_weights(model, archive)
    assert model.text_encoder is not None
    state = named("visual.", model.image_encoder.tower.state_dict())
    state |= model.text_encoder.tower.state_dict()
    assert len(state) == len(clip) - 1
    for key, value in state.items():
        if key != "attn_mask":
            assert torch.equal(value, clip[key].half().float())
    # Code in the place of the module is not run.
    mark = tmp_path / "mark"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "bad.pt", "w") as new:
        for name in old.namelist():
            harmful = pickle.dumps(Payload(mark), protocol=2)
            new.writestr(name, harmful if name.endswith("/data.pkl") else old.read(name))
    error = refused(load_image_weights, model, tmp_path / "bad.pt")
    assert isinstance(error, UnsafeError)
    assert "mkdir" in str(error)
    assert not mark.exists()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(archive.read_bytes()[:-3000])
    assert isinstance(refused(load_image_weights, model, cut), UnreadableError)
