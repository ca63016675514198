"""The acceptance run's checks of kernels, on a stand-in device that runs the kernels' own source on the CPU.

That a check passes here shows that its reference is right; each is also seen to fail. Nothing here runs on a GPU.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from edgepose.benchmarks.gpu import kernel_checks, kernel_speed
from edgepose.benchmarks.gpu.kernel_checks import SPEC, as_frame, compare_keypoints, drawn_maps
from edgepose.benchmarks.gpu.kernel_speed import bytes_seen, limit_us
from edgepose.benchmarks.gpu.launch import KERNELS, Kernels, kernel_code, open_kernels
from edgepose.benchmarks.gpu.rows import SKIPPED, SkippedError, run_check
from edgepose.errors import BuildError
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from tests.fake_device.gpu import FATBIN
from tests.fake_device.install import fake_device
from tests.makers import TWO_POINTS
from tests.nvcc import needs_nvcc
from tests.shared_data import SHARED, needs_shared


@pytest.fixture(scope="module")
def kernels():
    with fake_device() as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepose.benchmarks.gpu.launch.kernel_code", lambda gpu, folder: FATBIN)
        patch.setattr(gpu.libcuda, "cuMemcpyDtoDAsync_v2", copier(gpu), raising=False)
        patch.setattr(kernel_checks, "PEOPLE", 1)
        patch.setattr(kernel_checks, "FRAME_HW", (64, 96))
        patch.setattr(kernel_checks, "ALIGNMENTS", ("corner",))
        for module in (kernel_checks, kernel_speed):
            patch.setattr(module, "SPEC", SPEC.changed(input_hw=(64, 48), skeleton=TWO_POINTS))
        with open_kernels() as kernels:
            yield kernels
        assert gpu.problems == []


def copier(gpu):
    def copy(target, source, nbytes, stream):
        work = lambda: ctypes.memmove(target.value, source.value, nbytes.value)  # noqa: E731
        gpu.streams[stream.value].put("copy", work)
        return 0

    return copy


@needs_nvcc
@pytest.mark.parametrize("name", [name for name, _ in kernel_checks.kernel_checks(None, None) if "mmpose" not in name])
def test_every_check_of_a_kernel_passes_with_the_kernels_own_source(kernels, name):
    check = dict(kernel_checks.kernel_checks(kernels, None))[name]

    finding = check()

    assert finding.ok, finding


@needs_nvcc
@needs_shared
@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp", "udp-combined"])
def test_the_golden_checks_pass_with_the_kernels_own_source(kernels, monkeypatch, decoder):
    monkeypatch.setattr(kernel_checks, "SPEC", SPEC)

    assert kernel_checks.check_golden(kernels, SHARED / "golden", decoder).ok


def test_without_golden_files_those_checks_are_skipped_by_name():
    for name, check in kernel_checks.kernel_checks(None, None):
        if "mmpose" in name:
            row = run_check("kernels", name, check)

            assert row.result == SKIPPED
            assert "--golden" in row.found


@needs_nvcc
@pytest.mark.parametrize(
    "name",
    [
        "crop NV12 to float16, mirrored too",
        "decode quarter, float16, flip test",
        "decode dark, float32, one run",
        "decode: empty, flat, infinite and NaN maps",
        "decode: key points in the image",
        "peaks, float16",
        "simcc and depth, float32",
        "volume, float16",
    ],
)
def test_a_check_of_a_kernel_sees_a_wrong_answer(kernels, monkeypatch, name):
    run = Kernels.run

    def run_wrong(self, launch):
        first, *others = run(self, launch)
        first[0, -1] += 0.25
        return [first, *others]

    monkeypatch.setattr(Kernels, "run", run_wrong)

    finding = dict(kernel_checks.kernel_checks(kernels, None))[name]()

    assert not finding.ok, finding


@needs_nvcc
def test_times_come_with_those_of_a_copy_and_their_limit(kernels, monkeypatch):
    monkeypatch.setattr(kernel_speed, "DECODE_PEOPLE", 1)
    monkeypatch.setattr(kernel_speed, "MEMORY_TO_GO_ROUND", 20 << 10)
    monkeypatch.setattr(kernel_speed, "LAUNCHES", 1)
    monkeypatch.setattr(kernel_speed, "REPEATS", 1)
    checks = dict(kernel_speed.speed_checks(kernels))

    for where in ("L2", "DRAM"):
        finding = checks[f"decode quarter, 64 x 17 x 64 x 48 FP16, from {where}"]()
        assert " us; a copy of its 0.0 MB " in finding.found
        assert "2x the copy, or 4 us" in finding.wanted
    crop = kernel_speed.time_crop(kernels, 1, "nv12", np.float16, "L2")
    assert crop.wanted.endswith("or 5 us")
    unlimited = kernel_speed.time_decode(kernels, "dark", "L2", limited=False)
    assert unlimited.ok
    assert not unlimited.wanted


@needs_nvcc
def test_a_launch_that_is_slower_than_its_limit_fails(kernels, monkeypatch):
    monkeypatch.setattr(kernel_speed, "DECODE_PEOPLE", 1)
    times = iter([4.1, 1.0])  # the kernel's, then the copy's
    monkeypatch.setattr(Kernels, "time_us", lambda *_: next(times))

    assert not kernel_speed.time_decode(kernels, "quarter", "L2").ok


@pytest.mark.parametrize(("bytes_us", "floor_us", "wanted"), [(3.0, 4.0, 6.0), (1.5, 4.0, 4.0), (2.6, 5.0, 5.2)])
def test_a_limit_is_twice_the_bytes_time_or_the_floor(bytes_us, floor_us, wanted):
    assert limit_us(bytes_us, floor_us) == pytest.approx(wanted)


def test_pixels_that_two_regions_share_are_read_once():
    frame = Frame(np.zeros((1080, 1920, 3), np.uint8))
    inside = Regions(np.array([[100.0, 100.0], [100.0, 100.0]]), np.array([[40.0, 60.0], [40.0, 60.0]]), "corner")
    outside = Regions(np.array([[0.0, 0.0], [-900.0, 50.0]]), np.array([[40.0, 60.0], [40.0, 60.0]]), "corner")

    assert bytes_seen(frame, inside) == 40 * 60 * 3
    assert bytes_seen(frame, outside) == 20 * 30 * 3


def test_an_nv12_frame_shows_what_it_was_made_of():
    image = kernel_checks.smooth_image(256, 384)

    frame, seen = as_frame(image, "nv12")

    assert frame.hw == (256, 384)
    assert np.abs(seen.astype(int) - image).mean() < 2  # chroma has half the resolution


def test_key_points_are_compared_where_they_mean_something():
    wanted = np.array([[[5, 5, 0.9], [3, 3, 0.01]]], np.float32)
    moved = wanted.copy()
    moved[0, 1, 0] += 1  # of the one without a peak

    assert compare_keypoints(moved, wanted, exact=False).ok
    assert not compare_keypoints(moved, wanted, exact=True).ok
    assert not compare_keypoints(wanted, wanted * 0, exact=False).ok  # nothing to compare


def test_drawn_maps_have_a_channel_for_each_output():
    assert drawn_maps(SPEC, 2, 0, np.float16).shape == (2, 17, 64, 48)


def test_without_nvcc_the_kernels_come_from_the_folder(monkeypatch, tmp_path):
    def no_nvcc(targets):
        raise BuildError("nvcc was not found")

    monkeypatch.setattr("edgepose.benchmarks.gpu.launch.compile_kernels", no_nvcc)
    with fake_device() as gpu:
        with pytest.raises(SkippedError, match="--models"):
            kernel_code(gpu.gpu, tmp_path)
        (tmp_path / KERNELS).write_bytes(b"compiled beforehand")

        assert kernel_code(gpu.gpu, tmp_path) == b"compiled beforehand"
