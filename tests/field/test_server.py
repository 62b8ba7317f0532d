"""What a server survives: killed processes, clients that give up, ends under load, odd paths."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from fgmclip.client import GrpcTransport, RequestTimeoutError
from fgmclip.serve import EmbeddedServer, ServeError
from fgmclip.serve.binaries import find_tritonserver
from fgmclip.serve.errors import RepositoryError, ServerDiedError, StartError
from fgmclip.serve.guard import Guard
from fgmclip.serve.stubs import stubs_of
from fgmclip.storage.errors import StorageError
from fgmclip.storage.plain import is_plain

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("tritonserver")]

Publish = Callable[[Path, int], None]
Eventually = Callable[..., bool]


@pytest.fixture
def repository(tmp_path: Path, publish: Publish) -> Path:
    """A repository with release 1."""
    publish(tmp_path / "repository", 1)
    return tmp_path / "repository"


def ask(transport: GrpcTransport, seconds: float = 0.0, *, patience: float = 20.0) -> float:
    """Return what the served release adds to X, which takes that many seconds."""
    x = np.array([seconds], np.float32)
    answer = transport.infer("public", {"X": x}, ("Y",), timeout_seconds=patience)
    return float(answer["Y"][0]) - seconds


def answers(url: str) -> Callable[[], bool]:
    """Return a question that says whether the server answers."""

    def ask_once() -> bool:
        transport = GrpcTransport(url)
        try:
            return ask(transport) >= 1
        except Exception:
            return False
        finally:
            transport.close()

    return ask_once


def server_of(server: EmbeddedServer) -> int:
    """Return the process of Triton, the supervisor's child."""
    (number,) = stubs_of_parent(server.process.pid)
    return number


def stubs_of_parent(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_a_server_that_was_killed_is_back_on_its_port_with_what_it_served(
    repository: Path, publish: Publish, eventually: Eventually
) -> None:
    said: list[str] = []
    with EmbeddedServer(repository, report=said.append) as server:
        url = server.url
        os.kill(server_of(server), signal.SIGKILL)
        assert eventually(lambda: server.restarts == 1)
        assert server.url == url
        assert answers(url)()
        server.check()
        publish(repository, 2)
        server.reload()
        os.kill(server_of(server), signal.SIGSEGV)
        assert eventually(lambda: server.restarts == 2)
        transport = GrpcTransport(url)
        assert ask(transport) == 2
        transport.close()
    assert "killed by signal 9 (SIGKILL); starting it again on the same port" in said[0]
    assert said[1].startswith("serving again after ")
    assert "(SIGSEGV)" in said[2]


def test_a_step_that_was_killed_runs_again(repository: Path, eventually: Eventually) -> None:
    said: list[str] = []
    with EmbeddedServer(repository, report=said.append) as server:
        ((pid, step),) = stubs_of(server.process.pid).items()
        assert step == "step__r1"
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: server.restarts == 1)
        assert answers(server.url)()
    assert said[0] == "the process of step__r1 died; starting it again on the same port"


def test_a_server_that_cannot_come_back_says_why(
    repository: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgmclip.serve.guard.DELAYS_SECONDS", (0.0,))
    monkeypatch.setattr("fgmclip.serve.guard.ATTEMPTS", 2)
    with EmbeddedServer(repository, report=lambda line: None) as server:
        (repository / "step__r1" / "1" / "model.py").write_text("import gone", encoding="utf-8")
        os.kill(server_of(server), signal.SIGKILL)
        with pytest.raises(ServerDiedError, match="No module named 'gone'"):
            server.wait(60)
        with pytest.raises(ServerDiedError, match="cannot be started again"):
            server.reload()
        assert "gone" in server.log_path.read_text(encoding="utf-8")


def test_a_release_that_was_refused_does_not_come_with_a_restart(
    repository: Path, publish: Publish, eventually: Eventually
) -> None:
    said: list[str] = []
    with EmbeddedServer(repository, watch=True, report=said.append) as server:
        publish(repository, 2)
        assert eventually(lambda: any("serving r2 instead of r1" in line for line in said))
        (repository / "step__r3" / "1").mkdir(parents=True)
        config = repository / "public" / "config.pbtxt"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("step__r2", "step__r3"), encoding="utf-8")
        assert eventually(lambda: any("the old one stays" in line for line in said))
        os.kill(server_of(server), signal.SIGKILL)
        assert eventually(lambda: server.restarts == 1)
        transport = GrpcTransport(server.url)
        assert ask(transport) == 2
        transport.close()


def test_deadlines_of_our_client_do_not_kill_the_server(repository: Path) -> None:
    with EmbeddedServer(repository) as server:

        def give_up(number: int) -> int:
            transport = GrpcTransport(server.url)
            late = 0
            for turn in range(25):
                try:
                    ask(transport, 0.004, patience=0.002 * (1 + (number + turn) % 4))
                except (RequestTimeoutError, ConnectionError):
                    late += 1
            transport.close()
            return late

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(give_up, range(8))) > 0
        assert answers(server.url)()
        assert server.restarts == 0


def test_a_foreign_client_that_cancels_costs_a_restart_at_most(
    repository: Path, eventually: Eventually
) -> None:
    with EmbeddedServer(repository, report=lambda line: None) as server:
        tensor = triton.InferInput("X", [1], "FP32")
        tensor.set_data_from_numpy(np.full(1, 0.005, np.float32))
        for turn in range(20):
            with triton.InferenceServerClient(server.url) as client:
                calls = [
                    client.async_infer("public", [tensor], lambda result, error: None)
                    for _ in range(10)
                ]
                time.sleep(0.003 * (turn % 5))
                for call in calls:
                    call.cancel()
        assert eventually(answers(server.url))


def test_what_was_accepted_is_answered_before_the_end(repository: Path) -> None:
    with EmbeddedServer(repository) as server, ThreadPoolExecutor(4) as pool:
        transport = GrpcTransport(server.url)
        ask(transport)
        asked = [pool.submit(ask, transport, 0.3) for _ in range(4)]
        time.sleep(0.1)
        server.__exit__(None, None, None)
        assert [one.result(20) for one in asked] == pytest.approx([1] * 4)
        transport.close()


def test_serve_answers_what_it_accepted_before_sigterm(repository: Path) -> None:
    command = [str(Path(sys.executable).with_name("fgmclip")), "serve", str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as serve:
        assert serve.stdout is not None
        url = ""
        for line in serve.stdout:
            if "gRPC" in line:
                url = line.split()[-1]
            if "log " in line:
                break
        transport = GrpcTransport(url)
        ask(transport)
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask, transport, 0.4) for _ in range(3)]
            time.sleep(0.1)
            serve.send_signal(signal.SIGTERM)
            assert [one.result(20) for one in asked] == pytest.approx([1] * 3)
        rest = serve.stdout.read()
        assert serve.wait(20) == 0
        assert "what was accepted is answered first" in rest
        assert rest.endswith("ended\n")
        transport.close()


@pytest.mark.parametrize(
    "name",
    [
        "a space; touch pwned & x|y",
        "-x$(touch${IFS}pwned)`touch pwned`",
        'it\'s "quoted" back\\slash *?[x]{y}~!#%^(',
        "üñï 名前",
        os.fsdecode(b"line\nbreak latin-\xfc"),
    ],
    ids=ascii,
)
def test_a_repository_of_any_name_is_served_and_its_name_runs_nothing(
    tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # The same for temporary files, which lie elsewhere then.
    monkeypatch.setenv("TMPDIR", str(tmp_path / name / "tmp"))
    (tmp_path / name / "tmp").mkdir(parents=True)
    publish(tmp_path / name / "repository", 1)
    with EmbeddedServer(Path(name) / "repository") as server:
        assert is_plain(str(server.log_path))
        transport = GrpcTransport(server.url)
        assert ask(transport) == 1
        transport.close()
    assert list(tmp_path.rglob("pwned")) == []


def test_a_step_whose_name_a_shell_would_run_is_refused_at_once(
    repository: Path, publish: Publish
) -> None:
    config = repository / "public" / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("step__r1", "x$(touch pwned)"), encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"x\$\(touch pwned\).*letters, digits"):
        EmbeddedServer(repository).__enter__()


def test_without_a_plain_place_for_its_files_the_reason_is_told_at_once(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "a b"
    odd.mkdir()
    monkeypatch.setattr("fgmclip.storage.plain._places", lambda: iter([odd]))
    with pytest.raises(StorageError, match=r"a b: its path is not plain.*set TMPDIR"):
        EmbeddedServer(repository).__enter__()


def test_an_installation_is_left_as_it_was_by_starts_that_fail(repository: Path) -> None:
    wheel = find_tritonserver().wheel
    if wheel is None:
        pytest.skip("the tritonserver of this machine is no wheel's")

    def state() -> str:
        digest = hashlib.sha256()
        for path in sorted((wheel / "pytriton" / "tritonserver").rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            digest.update(f"{path} {status.st_mode:o} {len(content)}".encode())
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    before = state()
    (repository / "step__r1" / "1" / "model.py").write_text("import gone", encoding="utf-8")
    with pytest.raises(ServeError, match="No module named 'gone'"):
        EmbeddedServer(repository).__enter__()
    assert state() == before


def test_a_damaged_ensemble_is_told(repository: Path, eventually: Eventually) -> None:
    (repository / "other").mkdir()
    (repository / "other" / "config.pbtxt").write_text('platform: "ensemble', encoding="utf-8")
    said: list[str] = []
    with EmbeddedServer(repository, watch=True, report=said.append):
        assert len(said) == 1
        assert "other/config.pbtxt is unreadable" in said[0]
        (repository / "third").mkdir()
        (repository / "third" / "config.pbtxt").write_bytes(b"\xff")
        assert eventually(lambda: len(said) == 2)
        assert "third/config.pbtxt is unreadable: expected UTF-8" in said[1]


def test_a_server_ends_in_time_while_it_is_being_started_again(repository: Path) -> None:
    ended = threading.Event()

    def run() -> None:
        with EmbeddedServer(repository, report=lambda line: None) as server:
            os.kill(server_of(server), signal.SIGKILL)
            time.sleep(0.3)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(30)


def test_a_triton_that_aborts_at_its_start_is_started_once_more(
    repository: Path, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    step = repository / "step__r1" / "1" / "model.py"
    once = (
        "import os, pathlib, signal\n"
        f"if not pathlib.Path({str(died)!r}).exists():\n"
        f"    pathlib.Path({str(died)!r}).touch()\n"
        "    os.kill(os.getppid(), signal.SIGABRT)\n"
    )
    step.write_text(once + step.read_text(encoding="utf-8"), encoding="utf-8")
    said: list[str] = []
    with EmbeddedServer(repository, report=said.append) as server:
        assert answers(server.url)()
    assert len(said) == 1
    assert "killed by signal 6 (SIGABRT)" in said[0]
    assert said[0].endswith("; starting it again")
    died.unlink()
    step.write_text(once.replace(".touch()", ".exists()"), encoding="utf-8")
    with pytest.raises(StartError, match="SIGABRT"):
        EmbeddedServer(repository, report=lambda line: None).__enter__()


def test_a_step_that_dies_before_it_was_seen_runs_again(
    repository: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it had died between the server's readiness and the guard's first look.
    start = Guard.start

    def start_late(guard: Guard) -> None:
        for pid in stubs_of(guard._server.process.pid):
            os.kill(pid, signal.SIGKILL)
        while stubs_of(guard._server.process.pid):
            time.sleep(0.01)
        start(guard)

    monkeypatch.setattr(Guard, "start", start_late)
    with EmbeddedServer(repository, report=lambda line: None) as server:
        assert eventually(lambda: server.restarts == 1)
        assert answers(server.url)()
