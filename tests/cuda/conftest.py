"""What the tests of the kernels share."""

from __future__ import annotations

import ctypes

import pytest

from tests.cuda.on_cpu import kernels_on_cpu
from tests.nvcc import has_nvcc


@pytest.fixture(scope="session")
def kernels() -> ctypes.CDLL:
    """The kernels as functions of this process."""
    if not has_nvcc():
        pytest.skip("nvcc is not installed, whose headers hold the FP16 type that the CPU build uses too")
    return kernels_on_cpu()
