"""cuda-bindings in pycuda's place: the tests of pycuda's door once more, on the same stand-in. Not run on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgepose
from edgepose.backends import load_backend
from edgepose.errors import BackendError
from tests.fake_device.install import fake_device, write_toy_plan
from tests.nvcc import needs_nvcc
from tests.trt.test_backend import (  # noqa: F401  # collected here again, with this file's `gpu`
    SPEC,
    plan,
    test_a_crowd_in_parts_and_a_larger_frame_come_through_each_kind_of_memory,
    test_a_frame_that_memory_does_not_hold_costs_that_frame_only,
    test_a_lost_device_is_one_line_and_the_instances_last_call,
    test_an_fp16_engine_gets_and_gives_fp16,
    test_bgr_nv12_and_strided_frames_need_no_conversion,
    test_everything_is_given_back,
    test_four_threads_have_their_own_instances,
    test_from_the_second_time_on_the_network_is_a_graph,
    test_kernels_of_another_gpu_are_one_line,
    test_pycuda_never_destroys_the_primary_context,
    test_stages_are_measured_and_a_graph_is_not_taken_apart,
    test_too_little_memory_at_load_is_one_line_and_leaves_nothing,
    test_two_frames_are_under_way_and_come_back_in_order,
)

pytestmark = needs_nvcc


@pytest.fixture
def gpu():
    with fake_device(door="cuda-bindings") as gpu:
        yield gpu
        assert gpu.problems == []


def test_it_is_taken_where_pycuda_is_not_and_pycuda_where_both_are():
    for door in ("pycuda", "cuda-bindings"):
        with fake_device(door=door):
            from edgepose.cuda.memory import DRIVER_PACKAGE

            assert door == DRIVER_PACKAGE


def test_bindings_of_a_newer_cuda_than_the_drivers_are_one_line(gpu, tmp_path):
    path = write_toy_plan(tmp_path / "m.plan", SPEC)
    sys.modules["cuda.bindings.driver"].CUDA_VERSION = 13050
    with pytest.raises(BackendError, match=r"cuda-bindings .*CUDA 13.5, .*up to 12.6: .*==12\.\*'"):
        load_backend(path)


RELEASES = ("cuda-bindings==12.9.10", "cuda-bindings==13.5.0")  # JetPack 6's CUDA 12, and 13
NAMES = """
import json, re, sys
from cuda.bindings import driver
names = sorted(set(re.findall(r"cu[A-Z]\\w+", open(sys.argv[1]).read())))
print(json.dumps({name: (getattr(driver, name).__doc__ or "").split("\\n")[0] for name in names}))
"""
ARGUMENTS = {  # how many each takes, as the source calls it
    "cuCtxPopCurrent": 0,
    "cuDevicePrimaryCtxRetain": 1,
    "cuEventElapsedTime": 2,
    "cuLaunchKernel": 11,
    "cuMemAllocManaged": 2,
    "cuMemHostGetDevicePointer": 2,
    "cuMemcpyDtoDAsync": 4,
    "cuMemcpyDtoHAsync": 4,
    "cuMemcpyHtoDAsync": 4,
    "cuModuleGetFunction": 2,
    "cuModuleLoadData": 1,
    "cuStreamAttachMemAsync": 4,
}


@pytest.mark.parametrize("release", RELEASES)
def test_every_call_exists_in_cuda_bindings_with_as_many_arguments(release, tmp_path):
    if sys.version_info < (3, 11) and release.endswith("==13.5.0"):
        pytest.skip("it wants Python 3.11")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--target", tmp_path, release]
    subprocess.run(pip, check=True, timeout=300)
    source = Path(edgepose.__file__).parent / "cuda" / "bindings.py"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    listed = subprocess.run(
        [sys.executable, "-c", NAMES, source], check=True, capture_output=True, env=environment, timeout=60
    )

    known = json.loads(listed.stdout)
    assert set(ARGUMENTS) <= set(known)
    assert len(known) == 28
    for name, count in ARGUMENTS.items():
        arguments = known[name].partition("(")[2].rstrip(")")
        assert len([each for each in arguments.split(",") if each.strip()]) == count, known[name]
