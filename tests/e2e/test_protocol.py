"""`docs/protocol.md` and its proto file: enough for a client that has nothing else of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2

from fgmclip.client import ActionClient
from fgmclip.export.release import export_release
from fgmclip.export.repository import Repository
from fgmclip.model.build import build_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import Limits, preset

MovingClip = Callable[..., NDArray[np.uint8]]

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROTO = "grpc_predict_v2.proto"
WINDOW = 4

ALONE = """
import importlib.abc, runpy, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("fgmclip", "tritonclient", "numpy"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ".")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def protoc(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{DOCS}", *options, PROTO]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def example() -> str:
    (code,) = re.findall(
        r"```python\n(.*?)```", (DOCS / "protocol.md").read_text(encoding="utf-8"), re.S
    )
    return str(code)


@pytest.fixture(scope="module")
def released(
    tmp_path_factory: pytest.TempPathFactory, tritonserver: None
) -> Iterator[tuple[Repository, EmbeddedServer]]:
    """A server of a small model; release 2 has other weights, 3 has 1's and other labels."""
    spec = preset("demo").replace(name="small", clip={"frames": WINDOW, "window_seconds": 0.5})
    path = tmp_path_factory.mktemp("protocol") / "repository"
    for seed in (1, 2):
        export_release(build_model(spec, seed=seed), path)
    renamed = build_model(spec.replace(classes=spec.classes[::-1]), seed=1)
    export_release(renamed, path)
    repository = Repository(path)
    repository.activate(1)
    with EmbeddedServer(path) as server:
        yield repository, server


@pytest.mark.e2e
def test_the_example_alone_follows_a_stream_over_releases(
    released: tuple[Repository, EmbeddedServer], moving_clip: MovingClip, tmp_path: Path
) -> None:
    repository, server = released
    protoc(tmp_path, "--python_out=.", "--grpc_python_out=.")
    (tmp_path / "watch.py").write_text(example(), encoding="utf-8")
    (tmp_path / "alone.py").write_text(ALONE, encoding="utf-8")
    frames = moving_clip(800, frames=18)
    changes = {9: 2, 12: 1, 14: 3}
    known = np.concatenate([frames[:1], frames])
    command = [sys.executable, "-W", "error", "alone.py", "watch.py", server.url, "128", "96"]
    with (
        subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as watching,
        ActionClient(server.url) as client,
    ):
        assert watching.stdin is not None
        assert watching.stdout is not None
        samples = []
        for index, frame in enumerate(frames):
            if index in changes:
                repository.activate(changes[index])
                server.reload()
                client.refresh()
            watching.stdin.write(frame.tobytes())
            watching.stdin.flush()
            if index < WINDOW - 1:
                continue
            line = watching.stdout.readline()
            assert line, "the example ended"
            said = json.loads(line)
            clip = client.classify_window(known[index - WINDOW + 1 : index + 2])
            np.testing.assert_allclose(said["logits"], clip.logits, atol=1e-5)
            assert said["label"] == clip.label
            assert said["release"] == client.manifest.release
            samples.append(said["samples"])
        watching.stdin.close()
        assert watching.wait(timeout=20) == 0
    # Release 3 has the encoders of release 1.
    assert samples == [4, 1, 1, 1, 1, 1, 4, 1, 1, 4, 1, 1, 1, 1, 1]


def test_the_proto_file_is_part_of_the_published_protocol(tmp_path: Path) -> None:
    protoc(tmp_path, "--descriptor_set_out=ours.bin")
    ours = FileDescriptorSet.FromString((tmp_path / "ours.bin").read_bytes()).file[0]
    published = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    assert ours.package == service_pb2.DESCRIPTOR.package
    compared = 0

    def compare(mine: Any, theirs: Any) -> None:
        nonlocal compared
        for field in mine.field:
            known = theirs.fields_by_name[field.name]
            assert (field.number, field.type) == (known.number, known.type), field.name
            repeated = field.label == field.LABEL_REPEATED
            assert repeated == known.is_repeated, field.name
            if known.message_type is not None:
                assert field.type_name == f".{known.message_type.full_name}"
            compared += 1
        for nested in mine.nested_type:
            compare(nested, theirs.nested_types_by_name[nested.name])

    for message in ours.message_type:
        compare(message, published[message.name])
    assert compared > 30
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for method in ours.service[0].method:
        known = theirs[method.name]
        assert method.input_type == f".{known.input_type.full_name}"
        assert method.output_type == f".{known.output_type.full_name}"


def test_the_document_names_the_limits_and_fields_that_there_are() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    limits = Limits().model_dump()
    named = re.findall(r"^\| (`m\w+`(?:, `m\w+`)*) \|.*\| ([\d, ]+) \|$", text, re.M)
    found: dict[str, int] = {}
    for names, values in named:
        found |= zip(re.findall(r"\w+", names), map(int, values.split(", ")), strict=True)
    assert found == limits
    spec = preset("demo").model_dump()
    for path in re.findall(r"`spec\.([\w.]+?)`", text):
        value: Any = spec
        for part in path.split("."):
            value = value[part]
