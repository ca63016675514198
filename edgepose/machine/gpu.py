"""The GPU of this machine, as the CUDA driver describes it. Needs the driver alone: no toolkit, no pycuda.

Driver calls and attribute numbers: CUDA Driver API reference, `cuInit`, `cuDeviceGetAttribute`, `cuGetErrorName`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgepose.errors import BackendError

_MULTIPROCESSORS, _INTEGRATED, _CC_MAJOR, _CC_MINOR = 16, 18, 75, 76  # CU_DEVICE_ATTRIBUTE_*
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the driver calls it.
        compute_capability: (8, 7) for an Orin.
        multiprocessors: number of SMs.
        integrated: True on a Jetson, where CPU and GPU share their memory.
        driver_cuda: the newest CUDA this driver can run, (12, 6) say.
        memory_mib: the GPU's memory; on a Jetson what CPU and GPU share. None where it was not asked.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    integrated: bool
    driver_cuda: tuple[int, int]
    memory_mib: int | None = None

    @property
    def target(self) -> str:
        """The architecture as nvcc names it: sm_87."""
        return "sm_{}{}".format(*self.compute_capability)


def find_gpu(library: str = "libcuda.so.1") -> Gpu | None:
    """The first GPU, or None where there is no driver or no GPU.

    Raises:
        BackendError: a driver is installed but a call to it failed.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return None
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()

    def ask(function: str, *arguments: object, but: int = 0) -> int:
        """Call a function and return its status: 0, or `but`, the one error that is no error here."""
        status: int = getattr(cuda, function)(*arguments)
        if status not in (0, but):
            name = ctypes.c_char_p()
            cuda.cuGetErrorName(status, ctypes.byref(name))  # null for a number it does not know
            known = f" ({name.value.decode()})" if name.value else ""
            raise BackendError(
                f"the CUDA driver answered {function} with error {status}{known}: edgepose doctor says why"
            )
        return status

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        ask("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    if ask("cuInit", 0, but=_NO_DEVICE) == _NO_DEVICE:
        return None
    ask("cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        return None
    ask("cuDriverGetVersion", ctypes.byref(version))
    ask("cuDeviceGet", ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    ask("cuDeviceGetName", name, len(name), device)
    ask("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=(attribute(_CC_MAJOR), attribute(_CC_MINOR)),
        multiprocessors=attribute(_MULTIPROCESSORS),
        integrated=bool(attribute(_INTEGRATED)),
        driver_cuda=(version.value // 1000, version.value % 1000 // 10),
        memory_mib=memory.value >> 20,
    )
