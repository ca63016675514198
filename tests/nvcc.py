"""Whether this machine can compile CUDA."""

from __future__ import annotations

import pytest

from edgepose.errors import BuildError
from edgepose.machine.nvcc import find_nvcc


def has_nvcc() -> bool:
    """True where `edgepose build` would find nvcc."""
    try:
        find_nvcc()
    except BuildError:
        return False
    return True


needs_nvcc = pytest.mark.skipif(not has_nvcc(), reason="nvcc is not installed")
