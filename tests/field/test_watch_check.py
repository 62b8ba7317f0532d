"""`fgmclip watch --check` says what the run says, and what is wrong around it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from fgmclip.cli import main
from fgmclip.client.gateway.config import check_config, read_config
from fgmclip.client.gateway.parts import unknown_classes
from fgmclip.client.gateway.settings import EventSettings, WatchSettings
from fgmclip.spec import Limits, PublicManifest, preset
from fgmclip.spec.manifest import MANIFEST_PARAMETER

Write = Callable[..., Path]

NO_SERVER = 'servers: {urls: ["127.0.0.1:1"]}'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a watch.yaml: a recording, a server and an outbox where none is given."""
    (tmp_path / "a.mp4").touch()

    def write(*lines: str, servers: str = NO_SERVER, source: str = "a.mp4") -> Path:
        text = [servers, f"cameras: [{{name: door, source: '{tmp_path / source}'}}]", *lines]
        if not any(line.startswith("outbox") for line in lines):
            text.append(f"outbox: {{path: '{tmp_path / 'outbox.sqlite'}'}}")
        file = tmp_path / "watch.yaml"
        file.write_text("\n".join(text) + "\n", encoding="utf-8")
        return file

    return write


def run(*arguments: str) -> int:
    """Return the exit code, by whichever way the command line ends."""
    try:
        return main(["watch", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def check(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and standard error of `--check`."""
    code = run("--config", str(file), "--check")
    return code, capsys.readouterr().err


@pytest.fixture
def labels_served() -> Iterator[str]:
    """The address of what tells the demo's manifest, and answers nothing else."""
    spec = preset("demo")
    manifest = PublicManifest(
        release=7,
        model_tag="m" * 16,
        embedding_tag="e" * 16,
        precision="fp32",
        dt=spec.clip.dt,
        spec=spec,
        limits=Limits(max_tracks=3, max_rows=16, max_side=640, max_pixels=640 * 480),
    )

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerLiveResponse(live=True)

        def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

        def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerReadyResponse(ready=True)

        def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ModelReadyResponse(ready=True)

        def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
            config = model_config_pb2.ModelConfig(name=request.name)
            config.parameters[MANIFEST_PARAMETER].string_value = manifest.model_dump_json()
            return service_pb2.ModelConfigResponse(config=config)

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sinks: {mqtt: {url: 'mqtt://user:12#34@127.0.0.1'}}", "sinks.mqtt.url: expected HOST"),
        ("sinks: {mqtt: {url: 'http://broker'}}", "sinks.mqtt.url: expected mqtt://"),
        ("sinks: {mqtt: {url: 'mqtt://broker:0'}}", "sinks.mqtt.url: expected a port"),
        ("sinks: {mqtt: {url: 'mqtt://broker:65536'}}", "sinks.mqtt.url: expected a port"),
        ("sinks: {mqtt: {url: 'mqtts://b', ca_file: /nowhere}}", "sinks.mqtt.ca_file: /nowhere"),
        ("sinks: {mqtt: {url: 'mqtt://b', prefix: 'a/#'}}", "a topic without # \\+ and blanks"),
        ("sinks: {webhook: {url: 'https://'}}", "sinks.webhook.url: expected HOST"),
        ("sinks: {webhook: {url: 'https://h:99999/x'}}", "sinks.webhook.url: expected a port"),
        ("sinks: {webhook: {url: 'https://h /x'}}", "sinks.webhook.url: .* without blanks"),
        ("web: {port: 8099, host: 203.0.113.9}", "live page: .* 203.0.113.9:8099"),
        ("outbox: {limit_mb: 0.1}", "outbox.limit_mb: expected at least 0.25"),
        ("events: {default: {strat: 0.5}}", "events.default.strat: unknown, did you mean start"),
    ],
)
def test_what_the_run_refuses_the_check_refuses(
    write: Write, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    file = write(line)
    code, checked = check(file, capsys)
    ran = run("--config", str(file))
    assert (code, ran) == (2, 2)
    assert capsys.readouterr().err == checked
    assert re.search(said, checked)
    assert "12#34" not in checked


@pytest.mark.parametrize(
    "url",
    ["http://h:8001", "h:8001/", "h:8001 ", "h", "h:0", "h:65536", "::1:8001", "grpc://u:pw@h:1"],
)
def test_a_servers_address_is_checked(
    write: Write, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    code, said = check(write(servers=f'servers: {{urls: ["{url}"]}}'), capsys)
    assert code == 2
    assert "expected HOST:PORT of Triton's gRPC endpoint and nothing around it" in said
    assert "pw" not in said


def test_a_class_that_no_model_has_is_refused_where_a_server_says_so(
    write: Write, capsys: pytest.CaptureFixture[str], labels_served: str
) -> None:
    servers = f'servers: {{urls: ["{labels_served}"]}}'
    code, said = check(write("events: {classes: {jmup: null}}", servers=servers), capsys)
    assert code == 2
    assert "events.classes: expected classes of the model, got 'jmup'; did you mean jump?" in said
    code, said = check(write("events: {classes: {jump: null}}", servers=servers), capsys)
    assert (code, said) == (0, "")


def test_a_run_goes_on_without_a_class_that_no_model_has_and_says_so(
    write: Write, capsys: pytest.CaptureFixture[str], labels_served: str
) -> None:
    servers = f'servers: {{urls: ["{labels_served}"]}}'
    file = write("events: {classes: {jmup: null}}", servers=servers, source="none.mp4")
    assert run("--config", str(file)) == 1
    assert "events.classes: expected classes of the model, got 'jmup'; did you mean jump?" in (
        capsys.readouterr().err
    )


def test_an_unreachable_server_is_a_warning_as_the_run_would_wait(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = check(write("events: {classes: {jmup: null}}"), capsys)
    assert code == 0
    assert said.startswith("warning: server 127.0.0.1:1: no server takes requests")


@pytest.mark.parametrize(
    ("lines", "source", "said"),
    [
        ((), "none.mp4", "error: camera door: .*none.mp4: No such file"),
        ((), ".", "error: camera door: .*expected recordings"),
        (("outbox: {path: /nowhere/o.sqlite}",), "a.mp4", "error: outbox.path: .*no such folder"),
    ],
)
def test_what_would_end_the_run_with_1_is_1(
    write: Write,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    lines: tuple[str, ...],
    source: str,
    said: str,
) -> None:
    if source == ".":
        (tmp_path / "empty").mkdir()
        source = "empty"
    code, errors = check(write(*lines, source=source), capsys)
    assert code == 1
    assert re.search(said, errors)


def test_a_gateway_that_runs_is_no_fault_of_its_file(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, said = check(write(f"web: {{port: {other.getsockname()[1]}}}"), capsys)
    assert code == 0
    assert "warning: live page: " in said


def test_nothing_is_written_by_a_check(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write(f"sinks: {{jsonl: {{path: '{tmp_path / 'e.jsonl'}'}}}}")
    assert check(file, capsys)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "watch.yaml"]


def test_machines_get_errors_and_warnings(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--config", str(write(source="x.mp4")), "--check", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["errors"]) == len(report["warnings"]) == 1


def settings_of(tmp_path: Path, *lines: str) -> WatchSettings:
    file = tmp_path / "watch.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return check_config(read_config(file), "watch.yaml", {})


LEAST = ('servers: {urls: ["h:1"]}', "cameras: [{name: a, source: a.mp4}]")


def test_yaml_means_what_people_write(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        "version: 1",
        'servers: {urls: ["h:1"], in_flight: 010}',
        "cameras:",
        "- {name: 101, source: C:\\videos\\door.mp4, edge: off, stride: 2}",
        "- {name: on, source: rtsp://h/a, user: admin, password: 0123456}",
        "events:",
        "  unknown: yes",
        "  classes: {no: null, off: {start: 0.7}, 1: null, ~: null, 12:30: null}",
        "web: {port: 08080}",
        "sinks: {mqtt: {url: 'mqtt://my_broker', discovery_prefix: null, client_id: 7}}",
    )
    assert settings.servers.in_flight == 10
    assert [camera.name for camera in settings.cameras] == ["101", "on"]
    assert settings.cameras[0].source.get_secret_value() == "C:\\videos\\door.mp4"
    assert settings.cameras[0].edge is False
    password = settings.cameras[1].password
    assert password is not None
    assert password.get_secret_value() == "0123456"
    assert settings.events.unknown is True
    assert list(settings.events.classes) == ["no", "off", "1", "~", "12:30"]
    assert settings.events.classes["no"] is None
    assert settings.web is not None
    assert settings.web.port == 8080
    assert settings.sinks.mqtt is not None
    assert settings.sinks.mqtt.discovery_prefix is None


def test_anchors_and_merges_go_on_working(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        'servers: {urls: ["h:1"]}',
        "cameras:",
        "- &first {name: a, source: a.mp4, stride: 3}",
        "- {<<: *first, name: b}",
    )
    assert [(camera.name, camera.stride) for camera in settings.cameras] == [("a", 3), ("b", 3)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((*LEAST, "web: {port: 1}", "web: {port: 2}"), "'web' stands twice"),
        ((*LEAST, "sink: {}"), "sink: unknown, did you mean sinks\\?"),
        ((*LEAST, "colour: red"), "colour: unknown, expected one of version, servers"),
        (("servers:", "\turls: [a]"), "a fault in line 2, column 1: .* '\\\\t'"),
        ((*LEAST, "---", *LEAST), "got a fault"),
        ((LEAST[0], "cameras: [{name: a, sorce: b}]"), "did you mean source\\? \\(got 'b'\\)$"),
        ((LEAST[0], "cameras: [{name: a/b, source: b}]"), "expected letters a to z, digits and"),
        ((LEAST[0], "cameras: [{name: Tür, source: b}]"), "expected letters a to z, digits and"),
        ((LEAST[0], "cameras: [{name: a, source: b, start: 20261124}]"), "expected a time"),
        ((*LEAST, "web: {port: 80:80}"), "web.port: .*integer"),
        ((*LEAST, "web: {port: 65536}"), "web.port: .*65535"),
    ],
)
def test_a_wrong_line_is_named_with_the_remedy(
    tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        settings_of(tmp_path, *lines)


def test_the_nearest_class_is_said_and_else_those_that_there_are() -> None:
    events = EventSettings.of(classes={"Jump": None, "zzz": None})
    assert unknown_classes(events, ["jump", "kick"]).endswith("did you mean jump?")
    events = EventSettings.of(classes={"zzz": None})
    assert unknown_classes(events, ["jump", "kick"]).endswith("it has jump, kick")
    assert unknown_classes(EventSettings.of(classes={"kick": None}), ["jump", "kick"]) == ""
