"""No thread of a block reads shared memory while another writes it, which a right answer alone does not show."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgepose.cuda.nvcc import FOLDER
from tests.cuda.on_cpu import cuda_headers
from tests.nvcc import needs_nvcc

HERE = Path(__file__).parent


def run_under_sanitizer(source: Path, kernels: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile and run a program on the CPU grid; ThreadSanitizer ends it with 66 where threads race."""
    program = folder / "races"
    command = ["g++", "-std=c++20", "-O1", "-fsanitize=thread", "-DEDGEPOSE_ON_CPU", "-pthread"]
    subprocess.run(
        [*command, "-isystem", cuda_headers(), f"-I{kernels}", f"-I{HERE}", source, "-o", program], check=True
    )
    fixed_addresses = ["setarch", "-R"] if shutil.which("setarch") else []  # which older sanitizers need
    try:
        return subprocess.run([*fixed_addresses, program], capture_output=True, text=True, check=False, timeout=120)
    except subprocess.TimeoutExpired as late:  # a missing barrier may also make the threads wait for ever
        return subprocess.CompletedProcess(late.cmd, 1, "", f"no end after 120 s; {(late.stderr or b'').decode()}")


@pytest.fixture(scope="module", autouse=True)
def _a_sanitizer_that_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sanitizer")
    (folder / "empty.cpp").write_text("int main() {}\n")
    try:
        works = run_under_sanitizer(folder / "empty.cpp", FOLDER, folder).returncode == 0
    except (OSError, subprocess.CalledProcessError):
        works = False
    if not works:
        pytest.skip("ThreadSanitizer does not work here")


@needs_nvcc
def test_kernels_do_not_race(tmp_path):
    done = run_under_sanitizer(HERE / "races.cpp", FOLDER, tmp_path)

    assert done.returncode == 0, done.stderr[:4000]


@needs_nvcc
def test_a_missing_barrier_is_seen(tmp_path):
    for path in [*FOLDER.glob("*.cu"), *FOLDER.glob("*.h")]:
        shutil.copy(path, tmp_path)
    shared = tmp_path / "highest.h"
    barrier = "__syncthreads();  // of_warp may still be read by an earlier call"
    assert shared.read_text().count(barrier) == 1
    shared.write_text(shared.read_text().replace(barrier, ""))

    assert "data race" in run_under_sanitizer(HERE / "races.cpp", tmp_path, tmp_path).stderr
