"""`fgmclip kernels build`: which compiler, which architectures, and what ptxas said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fgmclip.kernels.cuda import binary as binary_module
from fgmclip.kernels.cuda import build as module
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import FatBinary, KernelFigures, find_binary, record_path
from fgmclip.kernels.cuda.build import (
    ARCHITECTURES,
    WHEELS,
    Nvcc,
    build_binary,
    find_nvcc,
    probe_nvcc,
    read_figures,
    read_max_threads,
)
from fgmclip.kernels.errors import BuildError

LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'motion_f32' for 'sm_75'
ptxas info    : Function properties for motion_f32
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 102 registers, used 1 barriers, 16 bytes cumulative stack size, 256 bytes smem
ptxas info    : Compile time = 3.2 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'resize' for 'sm_90'
ptxas info    : Function properties for resize
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers
"""

PTX = """\
.visible .entry motion_f32(
	.param .u64 .ptr .align 1 motion_f32_param_0
)
.maxntid 512
{
.visible .entry resize(
	.param .u32 resize_param_0
)
.maxntid 16, 8, 2
.minnctapersm 1
{
.visible .entry free(
	.param .u32 free_param_0
)
{
"""

# Answers as nvcc does, notes what it was asked, and writes a binary of its own.
FAKE = """\
#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release 12.4, V12.4.131"; exit ;;
--list-gpu-code) printf 'sm_75\\nsm_80\\nsm_86\\nsm_90\\n'; exit ;;
esac
echo "$@" > "{folder}/asked"
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then echo made > "$2"; fi
    shift
done
{ending}
"""

SMALL = """\
extern "C" __global__ void __launch_bounds__(64) twice(float* values) {
    values[threadIdx.x] *= 2.0f;
}
"""


def fake_nvcc(folder: Path, ending: str = f"cat <<'EOF'\n{LOG}EOF") -> Path:
    path = folder / "nvcc"
    path.write_text(FAKE.format(folder=folder, ending=ending), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide every compiler of this machine, and return an empty folder."""
    folder = tmp_path / "nowhere"
    folder.mkdir()
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr(module, "TOOLKIT", folder / "toolkit")
    monkeypatch.setattr(module, "wheel_roots", lambda: [folder / "nvidia"])
    return folder


@pytest.fixture(scope="module")
def nvcc() -> Nvcc:
    """Return this machine's compiler, or skip."""
    try:
        return find_nvcc()
    except BuildError as error:
        pytest.skip(str(error))


def test_ptxas_is_understood() -> None:
    assert list(read_figures(LOG, {"motion_f32": 512})) == [
        KernelFigures("motion_f32", "sm_75", 102, 8, 12, 16, 256, 1, 512),
        KernelFigures("resize", "sm_90", 12, 0, 0, 0, 0, 0, 0),
    ]


def test_launch_bounds_are_read_from_ptx(tmp_path: Path) -> None:
    (tmp_path / "kernels.ptx").write_text(PTX, encoding="utf-8")
    assert read_max_threads(tmp_path) == {"motion_f32": 512, "resize": 256}


def test_what_the_environment_names_comes_before_the_path(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = fake_nvcc(nowhere)
    assert find_nvcc().path == on_path
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        home = tmp_path / variable
        (home / "bin").mkdir(parents=True)
        named = fake_nvcc(home / "bin")
        monkeypatch.setenv(variable, str(home))
        found = find_nvcc()
        assert (found.path, found.version) == (named, "12.4.131")
        assert found.codes == {"sm_75", "sm_80", "sm_86", "sm_90"}


def test_a_compiler_of_wheels_must_be_whole(nowhere: Path) -> None:
    root = nowhere / "nvidia" / "cu13"
    for file in ("bin/nvcc", *WHEELS.values()):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    path = fake_nvcc(root / "bin")
    assert find_nvcc().path == path
    (root / WHEELS["nvidia-nvvm"]).unlink()
    with pytest.raises(BuildError, match=r"wheels: .*nvcc without nvidia-nvvm"):
        find_nvcc()


def test_without_a_compiler_the_remedy_is_named(nowhere: Path) -> None:
    with pytest.raises(BuildError) as caught:
        find_nvcc()
    message = str(caught.value)
    assert "PATH: none at nvcc" in message
    assert message.endswith(f"pip install {' '.join(WHEELS)}")


def test_something_else_is_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "nvcc"
    path.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    path.chmod(0o755)
    with pytest.raises(BuildError, match="expected an nvcc, got 'hello' from --version"):
        probe_nvcc(path)
    with pytest.raises(BuildError, match="expected an answer, got"):
        probe_nvcc(tmp_path / "absent")


def test_an_older_compiler_makes_what_it_knows(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    built = build_binary(
        nvcc=probe_nvcc(fake_nvcc(tmp_path)),
        out=tmp_path / "out" / "kernels.fatbin",
        progress=lambda *step: seen.append(step),
    )
    assert built.record.architectures == ("sm_75", "sm_80", "sm_86", "sm_90")
    assert built.record.virtual == ("compute_75", "compute_90")
    assert built.record.left_out == ("sm_89", "sm_100", "sm_120")
    assert built.record.compiler == "12.4.131"
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    for words in (
        "-fatbin",
        "--fmad=false",
        "-gencode=arch=compute_75,code=[sm_75,compute_75]",
        "-gencode=arch=compute_80,code=[sm_80]",
        "-gencode=arch=compute_90,code=[sm_90,compute_90]",
    ):
        assert words in asked.split()
    assert seen == [("nvcc", 0, 4), ("sm_75", 1, 4), ("sm_90", 2, 4)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "kernels.fatbin",
        "kernels.fatbin.json",
    ]


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvcc(tmp_path)
    monkeypatch.chdir(tmp_path)
    built = build_binary(nvcc=probe_nvcc(Path("nvcc")), out=Path("made/kernels.fatbin"))
    assert (tmp_path / "asked").is_file()
    assert built.path == tmp_path / "made" / "kernels.fatbin"
    monkeypatch.chdir("made")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert probe_nvcc(Path("nvcc")).path == tmp_path / "nvcc"


def test_a_compiler_that_knows_none_is_refused(tmp_path: Path) -> None:
    old = Nvcc(tmp_path / "nvcc", "10.2.89", frozenset({"sm_30"}))
    with pytest.raises(BuildError, match="expected one that knows any of sm_75"):
        build_binary(nvcc=old, out=tmp_path / "kernels.fatbin")


def test_a_failed_build_says_why_and_leaves_the_old_binary(tmp_path: Path) -> None:
    out = tmp_path / "out" / "kernels.fatbin"
    old = build_binary(nvcc=probe_nvcc(fake_nvcc(tmp_path)), out=out).record
    failing = fake_nvcc(tmp_path, "echo 'kernels.cu(3): error: no such thing'; echo more; exit 1")
    with pytest.raises(BuildError, match=r"got: kernels\.cu\(3\): error: no such thing;") as caught:
        build_binary(nvcc=probe_nvcc(failing), out=out)
    assert caught.value.log.endswith("more\n")
    assert binary_module.read_binary(out).record == old
    assert len(list(out.parent.iterdir())) == 2


def test_a_small_kernel_is_built_for_every_architecture(nvcc: Nvcc, tmp_path: Path) -> None:
    source = tmp_path / "kernels.cu"
    source.write_text(SMALL, encoding="utf-8")
    built = build_binary(source=source, nvcc=nvcc, out=tmp_path / "kernels.fatbin")
    wanted = tuple(name for name in ARCHITECTURES if name in nvcc.codes)
    assert built.record.architectures == wanted
    assert [item.architecture for item in built.record.figures] == list(wanted)
    assert {item.max_threads for item in built.record.figures} == {64}
    assert all(item.registers > 0 for item in built.record.figures)
    # The magic number of a fat binary.
    assert built.read()[:4] == bytes.fromhex("50ed55ba")
    cuobjdump = shutil.which("cuobjdump")
    if cuobjdump is not None:
        command = [cuobjdump, "--list-elf", "--list-ptx", str(built.path)]
        listed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
        assert all(f"{name}." in listed for name in wanted)


def test_a_source_that_is_wrong_is_reported(nvcc: Nvcc, tmp_path: Path) -> None:
    source = tmp_path / "kernels.cu"
    source.write_text("__global__ void broken() { undeclared = 1; }", encoding="utf-8")
    with pytest.raises(BuildError, match="undeclared") as caught:
        build_binary(source=source, nvcc=nvcc, out=tmp_path / "kernels.fatbin")
    assert "undeclared" in caught.value.log


@pytest.fixture(scope="module")
def shipped(nvcc: Nvcc) -> FatBinary:
    """Return the fat binary of the kernels, built once for each state of their source."""
    try:
        return find_binary(KERNELS)
    except BuildError:
        return build_binary(nvcc=nvcc)


def test_every_kernel_is_in_the_binary_for_every_architecture(shipped: FatBinary) -> None:
    figures = shipped.record.figures
    assert shipped.record.kernels == set(KERNELS)
    assert {(item.kernel, item.architecture) for item in figures} == {
        (kernel, name) for kernel in KERNELS for name in shipped.record.architectures
    }


def test_no_kernel_spills_on_any_architecture(shipped: FatBinary) -> None:
    spilling = [item for item in shipped.record.figures if item.spill_stores or item.spill_loads]
    assert spilling == []


def test_a_wheel_builds_it_with_the_standard_library_alone(tmp_path: Path) -> None:
    fake_nvcc(tmp_path)
    root = Path(module.__file__).resolve().parents[2] / "src"
    out = tmp_path / "wheel" / "kernels.fatbin"
    done = subprocess.run(
        # No site-packages: what is imported is fgmclip's own or Python's.
        [sys.executable, "-S", "-m", "fgmclip.kernels.cuda.build", "--out", str(out)],
        env={"PYTHONPATH": str(root), "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: sm_75, sm_80, sm_86, sm_90, compute_75, compute_90\n"
    assert record_path(out).is_file()
