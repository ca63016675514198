"""Values inside a network as TensorRT computes it: its debug tensors, how they are marked and how they are heard."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepose.trt.meant import layers_of

if TYPE_CHECKING:
    from edgepose.cuda.memory import Stream  # pycuda

Take = Callable[[str, np.ndarray], None]

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def mark_layers(trt: Any, network: Any, wanted: Collection[str]) -> dict[str, str]:
    """Mark what the layers of a parsed network give for debugging; the tensors and their layers, in order.

    Args:
        wanted: names of tensors; those of other types than FP32 and FP16, and those of a Q/DQ pair, are left as they
            are.
    """
    names = {}
    for node in layers_of(network):
        if node.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE):
            continue
        for tensor in (node.get_output(index) for index in range(node.num_outputs)):
            floats = tensor.dtype in (trt.DataType.FLOAT, trt.DataType.HALF)
            if tensor.name in wanted and floats and (tensor.is_network_output or network.mark_debug(tensor)):
                names[tensor.name] = node.name
    return names


def debug_listener(trt: Any, stream: Stream, take: Take) -> Any:
    """What an execution context tells of tensors that were marked for debugging when the engine was built.

    Args:
        stream: the one that the network runs on.
        take: gets the tensor's name and its values, float32, as soon as they are computed. Of types other than FP32 and
            FP16, and of what does not lie on the GPU, it hears nothing.

    Returns:
        An IDebugListener. It must outlive the context; `error` is what failed in it, if anything did: an exception must
        not pass through TensorRT's C++.
    """
    dtypes: dict[Any, np.dtype[Any]] = {
        trt.DataType.FLOAT: np.dtype(np.float32),
        trt.DataType.HALF: np.dtype(np.float16),
    }

    class Listener(trt.IDebugListener):  # type: ignore[misc]
        def __init__(self, stream: Stream) -> None:
            trt.IDebugListener.__init__(self)
            self.stream = stream  # here and not in the class, which lives until garbage is collected
            self.error: Exception | None = None

        def process_debug_tensor(self, addr: Any, location: Any, kind: Any, shape: Any, name: str, _: int) -> bool:
            try:
                if location == trt.TensorLocation.DEVICE and kind in dtypes:
                    values = np.empty([int(size) for size in shape], dtypes[kind])
                    self.stream.download(values, _pointer_of(addr, None))
                    self.stream.wait()  # the memory is the tensor's during this call only
                    take(name, values.astype(np.float32))
            except Exception as error:
                self.error = self.error or error
            return self.error is None

    return Listener(stream)
