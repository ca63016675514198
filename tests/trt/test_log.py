"""What to do about TensorRT's errors."""

from __future__ import annotations

import pytest

from edgepose.trt.log import advice


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ("Error Code 10: Internal Error (Could not find any implementation for node conv1.)", "raise --workspace"),
        ("[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (Requested size was 1048576 bytes.)", "add swap"),
        ("Cuda Runtime (out of memory)", "--max-batch"),
        ("CUDA driver version is insufficient for CUDA runtime version", "newer driver"),
    ],
)
def test_a_known_error_comes_with_its_cure(error, cure):
    assert cure in advice([error])[0]


def test_an_unknown_error_has_no_cure():
    assert advice(["something else"]) == []
