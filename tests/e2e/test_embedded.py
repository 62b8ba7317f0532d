"""A real tritonserver over tiny hand-made releases: starts, reloads, failures, and every end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from fgmclip.serve import EmbeddedServer, releases
from fgmclip.serve.errors import (
    PortError,
    ReadyTimeoutError,
    ReloadError,
    RepositoryError,
    ServerDiedError,
    StartError,
)

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("tritonserver")]

STEP = """
import json, os, signal, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.add = float(parameters["add"]["string_value"])
        if "fail" in parameters:
            raise RuntimeError(parameters["fail"]["string_value"])
        if "hang" in parameters:
            time.sleep(600)

    def execute(self, requests):
        time.sleep(0.01)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.as_numpy() + self.add)])
            for x in (pb_utils.get_input_tensor_by_name(request, "X") for request in requests)
        ]
"""

TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


def publish(repository: Path, release: int, parameters: str = "") -> None:
    """Write a release that answers X + 11 * release in two steps, as an exporter would."""
    for step, add in (("units", release), ("tens", 10 * release)):
        folder = repository / f"{step}__r{release}"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.py").write_text(STEP, encoding="utf-8")
        extra = parameters if step == "tens" else ""
        keys = "".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
            for key, value in (("add", str(add)), *([extra.split("=")] if extra else []))
        )
        (folder / "config.pbtxt").write_text(
            f'backend: "python"\n{TENSORS}{keys}', encoding="utf-8"
        )
    for name in ("public", "public_stream"):
        ensemble = repository / name
        (ensemble / "1").mkdir(parents=True, exist_ok=True)
        temporary = ensemble / ".writing"
        temporary.write_text(
            f"""platform: "ensemble" {TENSORS}
            ensemble_scheduling {{ step [
              {{ model_name: "units__r{release}" model_version: -1
                 input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "half" }} }},
              {{ model_name: "tens__r{release}" model_version: -1
                 input_map {{ key: "X" value: "half" }} output_map {{ key: "Y" value: "Y" }} }}
            ] }}""",
            encoding="utf-8",
        )
        temporary.replace(ensemble / "config.pbtxt")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with release 1, among leftovers that Triton would refuse to start over."""
    path = tmp_path / "repository"
    publish(path, 1)
    (path / ".staging").mkdir()
    (path / "torn").mkdir()
    (path / "torn" / "config.pbtxt").write_text("platform: {{{", encoding="utf-8")
    (path / "nothing__r9" / "1").mkdir(parents=True)
    return path


@pytest.fixture
def processes(repository: Path) -> Callable[[], list[int]]:
    """Return the processes of the repository's servers, supervisors and stubs included."""

    def find() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes()
            except OSError:
                continue
            number = int(path.parent.name)
            # The server's own folder, whose link leads to the repository.
            folders = re.findall(rb"[^\0=]*/fgmclip-server-\w+", command)
            links = [Path(os.fsdecode(folder)) / "models" for folder in folders]
            mine = any(link.exists() and link.samefile(repository) for link in links)
            if mine and number != os.getpid():
                found.append(number)
        return found

    return find


def ask(server: EmbeddedServer, model: str = "public") -> float:
    with triton.InferenceServerClient(server.url) as client:
        return answer(client, model)


def answer(client: triton.InferenceServerClient, model: str = "public") -> float:
    tensor = triton.InferInput("X", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    result = client.infer(model, [tensor]).as_numpy("Y")
    assert result is not None
    return float(result[0])


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def unloaded(client: triton.InferenceServerClient, model: str) -> bool:
    return not client.is_model_ready(model)


def regions(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"fgmclip_{pid}_*"))


def listening(port: int) -> list[str]:
    lines = [
        line.split()
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        if table.exists()
        for line in table.read_text(encoding="utf-8").splitlines()[1:]
    ]
    local = [fields[1].split(":") for fields in lines if fields[3] == "0A"]
    return [address for address, number in local if int(number, 16) == port]


def server_pid(processes: list[int]) -> int:
    for number in processes:
        if Path(f"/proc/{number}/exe").resolve().name == "tritonserver":
            return number
    raise AssertionError("no tritonserver runs")


def test_serves_the_ensembles_and_leaves_nothing_behind(
    repository: Path, processes: Callable[[], list[int]]
) -> None:
    # Other tests of this process may have a server of theirs.
    others = regions(os.getpid())
    with EmbeddedServer(repository) as server:
        assert server.models == ("public", "public_stream")
        assert ask(server) == ask(server, "public_stream") == 11
        assert len(processes()) >= 4
        assert len(regions(os.getpid())) > len(others)
        with urllib.request.urlopen(server.metrics_url) as response:
            assert b"nv_inference_request_success" in response.read()
        log = server.log_path
        assert log.is_file()
    assert processes() == []
    assert sorted(regions(os.getpid())) == sorted(others)
    assert not log.parent.exists()
    with pytest.raises(ServerDiedError, match="not running"):
        server.check()


def test_an_exception_in_the_block_ends_the_server(
    repository: Path, processes: Callable[[], list[int]]
) -> None:
    with pytest.raises(KeyError, match="mine"), EmbeddedServer(repository):
        raise KeyError("mine")
    assert processes() == []


def test_only_loopback_listens_and_only_what_clients_need(repository: Path) -> None:
    with EmbeddedServer(repository) as server, triton.InferenceServerClient(server.url) as client:
        for call in (
            client.get_model_repository_index,
            client.get_system_shared_memory_status,
            client.get_trace_settings,
            client.get_log_settings,
            lambda: client.load_model("public"),
        ):
            with pytest.raises(triton.InferenceServerException, match="restricted"):
                call()
        for url in (server.url, server.metrics_url.removesuffix("/metrics")):
            addresses = listening(int(url.rpartition(":")[2]))
            assert addresses
            # 127.0.0.1 as the kernel writes it, plain or mapped into IPv6.
            assert all(address.endswith("0100007F") for address in addresses)


def test_a_step_that_fails_is_named_with_its_reason(
    repository: Path, processes: Callable[[], list[int]]
) -> None:
    publish(repository, 2, parameters="fail=the engine is gone")
    server = EmbeddedServer(repository)
    with pytest.raises(StartError, match="tens__r2: RuntimeError: the engine is gone") as caught:
        server.__enter__()
    assert "\n" not in str(caught.value)
    assert "NVML" not in str(caught.value)
    assert "initialize" in server.log_path.read_text(encoding="utf-8")
    assert processes() == []


def test_a_step_that_hangs_ends_in_a_timeout(
    repository: Path, processes: Callable[[], list[int]]
) -> None:
    publish(repository, 2, parameters="hang=yes")
    with (
        pytest.raises(ReadyTimeoutError, match="within 2 s"),
        EmbeddedServer(repository, ready_timeout_seconds=2),
    ):
        pass
    assert processes() == []


def test_a_taken_port_is_refused(repository: Path) -> None:
    with EmbeddedServer(repository) as server:
        taken = int(server.url.split(":")[1])
        with (
            pytest.raises(PortError, match=f"port {taken}"),
            EmbeddedServer(repository, grpc_port=taken),
        ):
            pass


def test_every_request_during_reloads_is_answered_by_exactly_one_release(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "DRAIN_SECONDS", 1.0)
    answers: list[float] = []
    failures: list[Exception] = []
    done = threading.Event()

    def hammer(url: str) -> None:
        with triton.InferenceServerClient(url) as client:
            while not done.is_set():
                try:
                    answers.append(answer(client))
                except triton.InferenceServerException as error:
                    failures.append(error)

    def longer(count: int) -> bool:
        return len(answers) > count

    def answers_with(value: float) -> bool:
        return answers[-1] == value

    with EmbeddedServer(repository, watch=True) as server:
        threads = [threading.Thread(target=hammer, args=(server.url,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            for release in (2, 3):
                assert eventually(partial(longer, 20))
                publish(repository, release)
                assert eventually(partial(answers_with, 11.0 * release))
                assert eventually(partial(longer, len(answers) + 50))
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert set(answers) == {11.0, 22.0, 33.0}
        assert ask(server, "public_stream") == 33
        with triton.InferenceServerClient(server.url) as client:
            for old in ("units__r1", "tens__r2"):
                assert eventually(partial(unloaded, client, old))
            assert client.is_model_ready("tens__r3")


def test_a_release_that_fails_leaves_the_old_one_serving(repository: Path) -> None:
    with EmbeddedServer(repository) as server, triton.InferenceServerClient(server.url) as client:
        publish(repository, 2, parameters="fail=out of memory")
        with pytest.raises(ReloadError, match="tens__r2: RuntimeError: out of memory") as caught:
            server.reload()
        assert "\n" not in str(caught.value)
        assert answer(client) == 11
        assert client.is_server_ready()
        assert eventually(partial(unloaded, client, "units__r2"))
        publish(repository, 3)
        server.reload()
        assert answer(client) == 33
        (repository / "public" / "config.pbtxt").unlink()
        with pytest.raises(RepositoryError, match="being served"):
            server.reload()
        assert answer(client) == 33


@pytest.mark.parametrize("old", ["public", "public_stream"])
def test_an_ensemble_that_does_not_fit_its_steps_leaves_the_old_one_serving(
    repository: Path, old: str
) -> None:
    with EmbeddedServer(repository) as server, triton.InferenceServerClient(server.url) as client:
        publish(repository, 2)
        config = repository / old / "config.pbtxt"
        config.write_text(
            config.read_text(encoding="utf-8").replace('value: "half"', 'value: "hal"', 1),
            encoding="utf-8",
        )
        with pytest.raises(ReloadError, match="the old one stays"):
            server.reload()
        # Neither ensemble went over, so no client sees two releases.
        assert answer(client) == answer(client, "public_stream") == 11
        assert eventually(partial(unloaded, client, "units__r2"))
        other = (repository / "public" / "config.pbtxt").read_text(encoding="utf-8")
        config.write_text(other.replace('"hal"', '"half"'), encoding="utf-8")
        server.reload()
        assert answer(client) == answer(client, "public_stream") == 22


PROGRAM = """
import sys, time
from pathlib import Path
from fgmclip.serve import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.log_path.parent, flush=True)
    time.sleep(600)
"""

FOREVER = """
import sys
from pathlib import Path
from rich.console import Console
from fgmclip.serve import serve_forever
serve_forever(Path(sys.argv[1]), console=Console(width=200))
print("returned", flush=True)
"""


@pytest.fixture
def program(repository: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a Python program on the repository; it is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text), str(repository)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_program_leaves_nothing_behind(
    program: Callable[[str], subprocess.Popen[str]], processes: Callable[[], list[int]]
) -> None:
    process = program(PROGRAM)
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    assert directory.is_dir()
    assert regions(process.pid)
    process.kill()
    process.wait()
    assert eventually(lambda: processes() == [])
    assert regions(process.pid) == []
    assert eventually(lambda: not directory.exists())


def test_a_killed_supervisor_takes_the_server_along_and_another_is_started(
    program: Callable[[str], subprocess.Popen[str]], processes: Callable[[], list[int]]
) -> None:
    process = program(PROGRAM)
    assert process.stdout is not None
    process.stdout.readline()
    before = processes()
    status = Path(f"/proc/{server_pid(before)}/stat").read_text(encoding="utf-8")
    os.kill(int(status.rpartition(")")[2].split()[1]), signal.SIGKILL)
    assert eventually(lambda: not set(before) & set(processes()))
    assert eventually(lambda: len(processes()) >= len(before))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_forever_ends_on_a_signal(
    program: Callable[[str], subprocess.Popen[str]],
    processes: Callable[[], list[int]],
    number: signal.Signals,
) -> None:
    process = program(FOREVER)
    assert process.stdout is not None
    said = ""
    while "vulnerabilities" not in said and "log " not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    assert "public, public_stream" in said
    assert "127.0.0.1:" in said
    assert "/metrics" in said
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "returned" in rest
    assert processes() == []
