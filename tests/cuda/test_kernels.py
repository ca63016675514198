"""The kernels compiled for every target, and their launches."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from edgepose.benchmarks.studies.kernel_use import cell, compiler
from edgepose.cuda.launch import (
    LARGEST_BLUR,
    WHOLE,
    blur_weights,
    crop_grid,
    decode_grid,
    enlarge_grid,
    flat_grid,
    peaks_grid,
)
from edgepose.cuda.nvcc import TARGETS, compile_kernels
from edgepose.errors import BuildError
from edgepose.machine.nvcc import find_nvcc
from edgepose.model.heads.heatmaps import DECODERS
from tests.makers import make_spec
from tests.nvcc import needs_nvcc
from tests.packaging.conftest import ROOT

TABLE = (ROOT / "docs/measurements/kernel_use.md").read_text(encoding="utf-8")


def put_nvcc(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    nvcc = folder / "nvcc"
    nvcc.write_text(content)
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@needs_nvcc
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles_for_every_target_without_warning_or_spill(target):
    compiled = compile_kernels([target])

    assert compiled.warnings == ()
    assert {use.name for use in compiled.uses} == {"candidates"} | {
        f"{name}_{kind}"
        for name in ("best", "crop", "decode", "depth", "enlarge", "peaks", "read", "simcc", "strengths", "volume")
        for kind in ("f16", "f32")
    }
    for use in compiled.uses:
        assert use.target == target
        assert use.spilled_bytes == 0
        assert 0 < use.registers <= 64
        if f" {compiler()} " in TABLE:  # another compiler takes other registers
            row = next(line for line in TABLE.splitlines() if line.startswith(f"| {use.name} |"))
            assert row.split(" | ")[1 + TARGETS.index(target)].removesuffix(" |") == cell(use), "write the table anew"


@needs_nvcc
def test_one_module_holds_the_code_of_several_targets():
    compiled = compile_kernels(["sm_75", "sm_87"])

    assert compiled.fatbin[:4] == b"\x50\xed\x55\xba"  # a fat binary's mark
    assert {use.target for use in compiled.uses} == {"sm_75", "sm_87"}


@needs_nvcc
def test_spills_and_compiler_warnings_are_told(tmp_path, monkeypatch):
    (tmp_path / "spills.cu").write_text(
        """extern "C" __global__ void __launch_bounds__(1024, 2) f32(const float* in, float* out) {
        float kept[64]; int unused;
        for (int i = 0; i < 64; ++i) kept[i] = in[i * 1024 + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < 64; ++i) out[i * 1024 + threadIdx.x] = kept[63 - i] * kept[i]; }"""
    )
    monkeypatch.setattr("edgepose.cuda.nvcc.FOLDER", tmp_path)

    compiled = compile_kernels(["sm_80"], "spills.cu")

    assert compiled.uses[0].spilled_bytes > 0
    assert any("never referenced" in warning for warning in compiled.warnings)
    assert any("spill" in warning.lower() for warning in compiled.warnings)


@needs_nvcc
def test_what_nvcc_refuses_is_one_error():
    with pytest.raises(BuildError, match=r"compute_12.*list-gpu-code"):
        compile_kernels(["sm_12"])


@pytest.mark.parametrize(
    ("answer", "cure"),
    [
        ("nvcc fatal   : Unsupported gpu architecture 'compute_110'", "the CUDA toolkit must know the GPU"),
        (
            "nvcc fatal   : Failed to preprocess host compiler properties.",
            "install g++: sudo apt install build-essential",
        ),
        ("sh: 1: g++: not found", "install g++: sudo apt install build-essential"),
        ("error: something else", "see edgepose doctor"),
    ],
)
def test_each_failure_of_nvcc_has_its_own_cure(tmp_path, monkeypatch, answer, cure):
    put_nvcc(tmp_path, monkeypatch, f'#!/bin/sh\necho "{answer}" >&2\nexit 1\n')

    with pytest.raises(BuildError, match=rf"{re.escape(answer)}; {re.escape(cure)}"):
        compile_kernels(["sm_87"])


@needs_nvcc
def test_a_machine_without_a_host_compiler_is_told_to_install_one(tmp_path, monkeypatch):
    nvcc = Path(find_nvcc()).resolve()
    monkeypatch.setattr("edgepose.cuda.nvcc.find_nvcc", lambda: str(nvcc))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildError, match=r"install g\+\+: sudo apt install build-essential"):
        compile_kernels(["sm_86"])


def test_an_nvcc_that_cannot_be_run_is_a_build_error(tmp_path, monkeypatch):
    put_nvcc(tmp_path, monkeypatch, "\x7fELF of another machine")

    with pytest.raises(BuildError, match=r"nvcc cannot be run \(Exec format error\): sudo apt install nvidia-cuda-dev"):
        compile_kernels(["sm_87"])


def test_a_blur_too_wide_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match=str(LARGEST_BLUR)):
        blur_weights(make_spec(decoder="dark", blur_kernel=LARGEST_BLUR + 2))


def test_a_launch_covers_every_pixel_and_map():
    spec = make_spec(input_hw=(257, 193), heatmap_hw=(64, 48))

    assert crop_grid(spec, 3) == ((32, 8, 1), (4, 17, 3))  # a block makes 64 x 16 pixels
    assert crop_grid(spec, 17) == ((32, 8, 1), (4, 9, 17))  # or 64 x 32
    assert decode_grid(spec, 3) == ((128, 1, 1), (3 * spec.num_keypoints, 1, 1), 0)
    for decoder in DECODERS:
        whole = decoder in ("udp-combined", "udp-combined-v0", "udp-original")
        assert decode_grid(make_spec(heatmap_hw=(64, 48), decoder=decoder), 1)[2] == whole * 64 * 48 * 4


@pytest.mark.parametrize("count", [0, 65536])
def test_no_launch_of_nobody_or_of_more_than_a_grid_holds(count):
    for grid in (crop_grid, decode_grid):
        with pytest.raises(ValueError, match=f"65535 people, got {count}"):
            grid(make_spec(), count)
    with pytest.raises(ValueError, match="at least one map"):
        peaks_grid(0)
    with pytest.raises(ValueError, match="at least one thread"):
        flat_grid(0, 128)


def test_each_pixel_of_an_enlarged_map_has_its_thread():
    assert enlarge_grid((18, 185, 216)) == ((32, 8, 1), (7, 24, 18))
    assert flat_grid(257, 256) == ((256, 1, 1), (2, 1, 1))


@pytest.mark.parametrize("decoder", WHOLE)
def test_maps_larger_than_shared_memory_are_refused(decoder):
    with pytest.raises(ValueError, match=f"{decoder}: .* 10240 px"):
        decode_grid(make_spec(decoder=decoder, heatmap_hw=(128, 96)), 1)
