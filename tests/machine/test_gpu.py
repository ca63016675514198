"""The CUDA driver's answers, from a stand-in compiled for the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgepose.errors import BackendError
from edgepose.machine.gpu import Gpu, find_gpu

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuGetErrorName(int status, const char **name) { *name = status == 803 ? "CUDA_ERROR_X" : 0; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Orin", size); return NAME; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)7620 << 20; return 0; }
int cuDeviceGetAttribute(int *value, int number, int device) {
    *value = number == 75 ? 8 : number == 76 ? 7 : number == 16 ? 16 : number == 18 ? 1 : -1;
    return 0;
}
"""


def make_driver(folder: Path, init: int | str = 0, count: int = 1, name: int = 0) -> str:
    source, library = folder / "driver.c", folder / "libcuda.so.1"
    source.write_text(DRIVER)
    flags = [f"-DINIT={init}", f"-DCOUNT={count}", f"-DNAME={name}"]
    subprocess.run(["gcc", "-shared", "-fPIC", *flags, "-o", library, source], check=True, timeout=60)
    return str(library)


def test_a_gpu_is_described(tmp_path):
    gpu = find_gpu(make_driver(tmp_path))

    assert gpu == Gpu("Orin", (8, 7), multiprocessors=16, integrated=True, driver_cuda=(12, 6), memory_mib=7620)
    assert gpu.target == "sm_87"


def test_no_driver_is_no_gpu(tmp_path):
    assert find_gpu(str(tmp_path / "absent.so")) is None


@pytest.mark.parametrize(
    ("init", "told"),
    [(803, r"cuInit with error 803 \(CUDA_ERROR_X\): edgepose doctor"), (999, "cuInit with error 999: ")],
)
def test_a_driver_that_cannot_start_is_not_taken_for_no_gpu(tmp_path, init, told):
    with pytest.raises(BackendError, match=told):
        find_gpu(make_driver(tmp_path, init=init))


@pytest.mark.parametrize("fault", [{"init": 100}, {"count": 0}])
def test_a_driver_without_a_device_is_no_gpu(tmp_path, fault):
    assert find_gpu(make_driver(tmp_path, **fault)) is None


def test_a_failing_call_is_named(tmp_path):
    with pytest.raises(BackendError, match="cuDeviceGetName with error 999"):
        find_gpu(make_driver(tmp_path, name=999))
