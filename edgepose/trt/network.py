"""A TensorRT engine and its execution contexts, all on the memory of one: the network as the GPU's data path calls it.

TensorRT keeps the shapes of its last run in the execution context, and a CUDA graph recorded from a context is good
only while these stay. So each batch size has a context of its own; they run one after the other on one stream, and
therefore share their scratch memory.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.graphs import recording
from edgepose.cuda.memory import DeviceMemory
from edgepose.errors import BackendError, ModelFileError
from edgepose.model.passport import Passport
from edgepose.model.shapes import match_tensors
from edgepose.trt.log import messages_of
from edgepose.trt.plan import open_plan


class Network:
    """An engine in the GPU's memory. The primary context is current around every call.

    Attributes:
        max_batch: most crops of one run.
        crops_dtype, heatmaps_dtype: float32 or float16, as the engine has them.

    Raises:
        ModelFileError: TensorRT cannot read the plan, or it has other tensors than its passport.
        BackendError: the GPU's memory does not hold it.
    """

    def __init__(self, path: Path, passport: Passport, trt: Any) -> None:
        self._path, self._trt = path, trt
        self._runtime: Any = None
        self._engine: Any = None
        self._settings: Any = None
        self._contexts: dict[int, Any] = {}
        self._memory: list[DeviceMemory] = []
        try:
            self._runtime, self._engine = open_plan(trt, path, passport)
            self._read_tensors(passport)
            self._scratch = self._allocate(max(1, self._engine.device_memory_size_v2))
            self._unread = {  # outputs that nobody asks for want memory all the same
                name: self._allocate(self.max_batch * _elements(tuple(self._engine.get_tensor_shape(name))[1:]) * 8)
                for name in self._outputs[1:]
            }
            user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
            self._settings = user_managed if trt.__name__ != "tensorrt_rtx" else self._rtx_settings(user_managed)
        except BaseException:
            self.close()
            raise

    def _allocate(self, nbytes: int) -> DeviceMemory:
        memory = DeviceMemory(nbytes)
        self._memory.append(memory)
        return memory

    def _rtx_settings(self, user_managed: Any) -> Any:
        """TensorRT for RTX compiles its kernels when they first run: at once, or a recording would keep slow ones."""
        runtime_config = self._engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(user_managed)
        eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
        return runtime_config

    def _read_tensors(self, passport: Passport) -> None:
        trt, engine = self._trt, self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = sorted((name for name in names if name not in inputs), key=lambda name: name != "heatmaps")
        if len(inputs) != 1 or not outputs:
            raise ModelFileError(f"{self._path} has {len(inputs)} inputs and {len(outputs)} outputs: 1 and 1 wanted")
        self._crops, self._outputs = inputs[0], outputs
        shapes = [
            {name: _sizes(engine.get_tensor_shape(name)) for name in each} for each in ((self._crops,), outputs[:1])
        ]
        _, self._fixed_batch = match_tensors(self._path, passport.spec, *shapes)
        if self._fixed_batch is None:
            least, _, most = engine.get_tensor_profile_shape(self._crops, 0)
            self.max_batch: int = most[0]
            self._fixed_batch = most[0] if least[0] == most[0] else None
        else:
            self.max_batch = self._fixed_batch
        self.crops_dtype, self.heatmaps_dtype = (self._dtype(name) for name in (self._crops, outputs[0]))

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = self._engine.get_tensor_dtype(name)
        for known, dtype in ((self._trt.DataType.FLOAT, np.float32), (self._trt.DataType.HALF, np.float16)):
            if found == known:
                return np.dtype(dtype)
        raise ModelFileError(f"{self._path}: {name} are {found}, FP32 or FP16 wanted: export the model again")

    def run(self, count: int, crops: int, heatmaps: int, stream: int) -> None:
        """Put a run of `count` crops on a stream.

        Args:
            count: 1 to max_batch. An engine of a fixed batch runs that many; what is behind the crops does not matter,
                but there must be memory for max_batch.
            crops, heatmaps: addresses on the GPU, whole 256 bytes.
            stream: its handle.

        Raises:
            BackendError: TensorRT refused.
        """
        count = self._fixed_batch or count
        first = nullcontext() if count in self._contexts else recording
        with first, messages_of(self._trt) as log:
            context = self._contexts.get(count) or self._make_context(count)
            done = (
                context is not None
                and context.set_tensor_address(self._crops, crops)
                and context.set_tensor_address(self._outputs[0], heatmaps)
                and context.execute_async_v3(stream)
            )
            if not done:
                raise BackendError(f"TensorRT failed on {self._path} with {count} crops: {log.last_errors()}")
            self._contexts[count] = context

    def _make_context(self, count: int) -> Any:
        context = self._engine.create_execution_context(self._settings)
        if context is None:
            return None
        context.set_device_memory(self._scratch.address, self._engine.device_memory_size_v2)
        shape = (count, *tuple(self._engine.get_tensor_shape(self._crops))[1:])
        outputs = (context.set_tensor_address(name, memory.address) for name, memory in self._unread.items())
        return context if context.set_input_shape(self._crops, shape) and all(outputs) else None

    def close(self) -> None:
        """Free the engine; nothing of it may be running."""
        self._contexts.clear()
        self._settings = self._engine = self._runtime = None  # in this order
        for memory in self._memory:
            memory.free()


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else int(size) for size in shape)


def _elements(shape: Any) -> int:
    count = 1
    for size in shape:
        count *= max(1, int(size))
    return count
