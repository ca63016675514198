"""A TensorRT engine and its execution contexts, all on the memory of one: a network with arrays by name on the GPU.

TensorRT keeps the shapes of its last run in the execution context, and a CUDA graph recorded from a context is good
only while these stay. So each batch size has a context of its own; they run one after the other on one stream, and
therefore share their scratch memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.cuda.graphs import recording
from edgepose.cuda.memory import DeviceMemory
from edgepose.errors import BackendError, ModelFileError
from edgepose.files import write_bytes
from edgepose.model.passport import Passport
from edgepose.model.shapes import match_tensors
from edgepose.trt.log import messages_of
from edgepose.trt.plan import open_plan, runtime_cache_path

logger = logging.getLogger(__name__)
_WIDEST = 8  # bytes of an element of an output whose type does not matter


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine: its name there, the shape of one row, float32 or float16."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape) * self.dtype.itemsize


class Network:
    """An engine in the GPU's memory. The primary context is current around every call.

    Args:
        path, passport: the plan's, already checked.
        trt: the TensorRT module.
        listener: from `debug_listener`, for a plan that was built with debug tensors.

    Attributes:
        max_batch: most rows of one run.
        fixed_batch: rows of every run, however few are asked for; None where the engine leaves that open.
        inputs, outputs: the engine's tensors, by their names in the passport's spec.

    Raises:
        ModelFileError: TensorRT cannot read the plan, or it has other tensors than its passport.
        BackendError: the GPU's memory does not hold it.
    """

    def __init__(self, path: Path, passport: Passport, trt: Any, listener: Any = None) -> None:
        self._path, self._trt, self._listener = path, trt, listener
        self._runtime: Any = None
        self._engine: Any = None
        self._settings: Any = None
        self._cache: Any = None  # of kernels that TensorRT for RTX has compiled
        self._cached = b""  # as its file holds it
        self._contexts: dict[int, Any] = {}
        self._memory: list[DeviceMemory] = []
        try:
            self._runtime, self._engine = open_plan(trt, path, passport)
            unread = self._read_tensors(passport)
            self._scratch = self._allocate(max(1, self._engine.device_memory_size_v2))
            self._unread = {name: self._allocate(nbytes) for name, nbytes in unread.items()}
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
        self._cache = runtime_cache = runtime_config.create_runtime_cache()
        with suppress(OSError):  # there is none so far
            self._cached = runtime_cache_path(self._path).read_bytes()
        if self._cached:
            runtime_cache.deserialize(self._cached)  # that of another GPU or version changes nothing
        runtime_config.set_runtime_cache(runtime_cache)
        return runtime_config

    def keep_cache(self) -> None:
        """Write the kernels that TensorRT for RTX has compiled into a file beside the plan, if any are new."""
        if self._cache is None:
            return
        runtime_cache = self._cache
        compiled = bytes(runtime_cache.serialize())
        if compiled == self._cached:
            return
        self._cached = compiled
        path = runtime_cache_path(self._path)
        try:
            write_bytes(path, compiled)
        except OSError as error:  # a folder that is not ours: they are compiled again the next time
            logger.debug("%s: %s", path, error)

    def _read_tensors(self, passport: Passport) -> dict[str, int]:
        """Which tensor is which. The outputs that nobody asks for want memory all the same: their bytes, by name."""
        trt, engine, spec = self._trt, self._engine, passport.spec
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        shapes = {name: _sizes(engine.get_tensor_shape(name)) for name in names}
        inputs = {name: shapes[name] for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        outputs = {name: shapes[name] for name in names if name not in inputs}
        if len(inputs) != len(spec.inputs):
            raise ModelFileError(
                f"{self._path} has {len(inputs)} inputs, its passport says {len(spec.inputs)}: export it again"
            )
        found, self.fixed_batch = match_tensors(self._path, spec, inputs, outputs)
        for name in found.values():
            if None in shapes[name][1:]:
                raise ModelFileError(f"{self._path}: {name} leaves more open than its batch: export it again")
        self.inputs = {key: self._tensor(found[key]) for key in spec.inputs}
        self.outputs = {key: self._tensor(found[key]) for key in spec.outputs}
        self._profiles = [(1, self.fixed_batch)] if self.fixed_batch else self._batches_of_profiles()
        self.max_batch: int = max(most for _, most in self._profiles)
        if self.fixed_batch is None and all(least == most for least, most in self._profiles):
            self.fixed_batch = self.max_batch
        unread = [name for name in outputs if name not in found.values()]
        return {name: self.max_batch * prod(abs(size or 1) for size in shapes[name][1:]) * _WIDEST for name in unread}

    def _batches_of_profiles(self) -> list[tuple[int, int]]:
        """The least and largest batch of each optimisation profile."""
        name = next(iter(self.inputs.values())).name
        shapes = (
            self._engine.get_tensor_profile_shape(name, index)
            for index in range(self._engine.num_optimization_profiles)
        )
        return [(least[0], most[0]) for least, _, most in shapes]

    def _tensor(self, name: str) -> Tensor:
        return Tensor(name, tuple(int(size) for size in self._engine.get_tensor_shape(name))[1:], self._dtype(name))

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = self._engine.get_tensor_dtype(name)
        for known, dtype in ((self._trt.DataType.FLOAT, np.float32), (self._trt.DataType.HALF, np.float16)):
            if found == known:
                return np.dtype(dtype)
        raise ModelFileError(f"{self._path}: {name} are {found}, FP32 or FP16 wanted: export the model again")

    def run(self, count: int, addresses: Mapping[str, int], stream: int) -> None:
        """Put a run of `count` rows on a stream.

        Args:
            count: 1 to max_batch. An engine of a fixed batch runs that many; what is behind the rows does not matter,
                but there must be memory for max_batch.
            addresses: of every input and output on the GPU, whole 256 bytes.
            stream: its handle.

        Raises:
            BackendError: TensorRT refused.
        """
        count = self.fixed_batch or count
        first = nullcontext() if count in self._contexts else recording
        with first, messages_of(self._trt) as log:
            context = self._contexts.get(count) or self._make_context(count, stream)
            tensors = {**self.inputs, **self.outputs}
            done = (
                context is not None
                and all(context.set_tensor_address(tensors[key].name, at) for key, at in addresses.items())
                and context.execute_async_v3(stream)
            )
            if not done:
                rows = "crops" if "crops" in self.inputs else "rows"
                raise BackendError(f"TensorRT failed on {self._path} with {count} {rows}: {log.last_errors()}")
            self._contexts[count] = context

    def profile_of(self, count: int) -> int:
        """The optimisation profile that runs 1 to max_batch rows: of several that fit, that tuned for the fewest."""
        count = self.fixed_batch or count
        return min((most, index) for index, (least, most) in enumerate(self._profiles) if least <= count <= most)[1]

    def _make_context(self, count: int, stream: int) -> Any:
        """A context for that batch, None if TensorRT refuses."""
        context = self._engine.create_execution_context(self._settings)
        if context is None:
            return None
        # names of layers for a profiler, which detailed verbosity asks for, slow every run (NvInfer.h, NVTX)
        context.nvtx_verbosity = self._trt.ProfilingVerbosity.NONE
        context.set_device_memory(self._scratch.address, self._engine.device_memory_size_v2)
        profile = self.profile_of(count)
        done = profile == 0 or context.set_optimization_profile_async(profile, stream)
        if self._listener is not None:
            done = done and context.set_debug_listener(self._listener) and context.set_all_tensors_debug_state(True)
        for tensor in self.inputs.values():
            done = done and context.set_input_shape(tensor.name, (count, *tensor.shape))
        for name, memory in self._unread.items():
            done = done and context.set_tensor_address(name, memory.address)
        return context if done else None

    def close(self) -> None:
        """Free the engine; nothing of it may be running."""
        self.keep_cache()
        self._contexts.clear()
        self._settings = self._cache = self._engine = self._runtime = None  # in this order
        for memory in self._memory:
            memory.free()


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else int(size) for size in shape)
