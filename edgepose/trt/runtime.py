"""Plans of any network: arrays by name in, arrays by name out. The CPU makes what goes in, and reads what comes out.

Networks for crops of people have faster ways: trt/backend.py, where crops and heat maps stay on the GPU, and
trt/decoding.py, where depths and volumes do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from edgepose.cuda.graphs import recording
from edgepose.cuda.memory import CudaError, DeviceMemory, HostMemory, OutOfMemory, Stream, keep, open_device
from edgepose.errors import BackendError
from edgepose.model.passport import Passport
from edgepose.model.shapes import check_arrays
from edgepose.trt.debug import Take, debug_listener
from edgepose.trt.network import Network
from edgepose.trt.plan import check_engine, smaller_batch
from edgepose.trt.versions import load_runner


class TensorRtRuntime:
    """A `Runtime` (edgepose.backends.runtime) on a plan that `edgepose build` made.

    One instance serves one thread at a time; several, in one thread or in several, go side by side.

    Args:
        path, passport: the plan's.
        take: of a plan with debug tensors: gets their names and values while it runs, as of `debug_listener`.

    Raises:
        EngineMismatchError: built for another GPU or TensorRT.
        ModelFileError: TensorRT cannot read the plan, or its tensors are not those of the passport.
        BackendError: no GPU, no driver or one too old, TensorRT is not installed, or too little memory.
    """

    name = "tensorrt"
    arithmetic = "TensorRT"

    def __init__(self, path: Path, passport: Passport, take: Take | None = None) -> None:
        self.path, self.passport = path, passport
        self._resources: ExitStack | None = None
        self._failure = ""
        self._device = open_device()
        trt = load_runner(path, passport.plan)
        check_engine(path, passport, self._device.gpu, trt)
        with self._guarded(), recording, ExitStack() as resources:
            self._stream = Stream()  # first: on a lost device it fails with the device's error, a plan with its own
            self._listener = None if take is None else debug_listener(trt, self._stream, take)
            self._network = Network(path, passport, trt, self._listener)
            resources.callback(self._network.close)
            self._tensors = {**self._network.inputs, **self._network.outputs}
            self._on_gpu: dict[str, DeviceMemory] = {}
            self._pinned: dict[str, HostMemory] = {}  # of outputs when they are first copied: a volume may never be
            for name in self._tensors:
                self._on_gpu[name] = DeviceMemory(self._bytes(name))
                resources.callback(self._on_gpu[name].free)
            self._prepare(resources)
            self._resources = resources.pop_all()

    @property
    def fixed_batch(self) -> int | None:
        """Rows of every run, however few are asked for; None where the plan leaves that open."""
        return self._network.fixed_batch

    def _prepare(self, resources: ExitStack) -> None:
        """What else a run will need on the GPU; `resources` frees it."""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output for every input, N rows each, float32. N may be 0.

        Raises:
            ValueError: an input is missing, or of another shape or dtype; or the runtime is closed.
            BackendError: the GPU or TensorRT failed.
        """
        self._check_open()
        count, network = check_arrays(arrays, self.passport.spec), self._network
        found = {name: np.empty((count, *tensor.shape), np.float32) for name, tensor in network.outputs.items()}
        with self._guarded():
            for start in range(0, count, network.max_batch):
                part = slice(start, min(start + network.max_batch, count))
                self._run_part({name: arrays[name][part] for name in network.inputs})
                for name, output in found.items():
                    output[part] = self._rows(name, part.stop - part.start)
        return found

    def _check_open(self) -> None:
        if self._resources is None:
            raise ValueError("the runtime is closed")
        if self._failure:
            raise BackendError(f"{self.path}: the GPU failed before ({self._failure}): open the model again")

    def close(self) -> None:
        """Free the GPU's memory; that of a lost device is the driver's to free. A second call does nothing."""
        if self._resources is None:
            return
        resources, self._resources = self._resources, None
        try:
            with self._device.active(), recording:
                self._stream.wait()
                resources.close()
                del self._network, self._listener, self._stream  # pycuda frees it in the context that is current
        except CudaError:
            keep((resources, self._network, self._stream, self._on_gpu, self._pinned))

    def __del__(self) -> None:
        if getattr(self, "_resources", None) is not None:
            self.close()

    def _run_part(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Up to max_batch rows, through the pinned memory; waits for them."""
        try:
            count = self._put(arrays)
        except BackendError:
            self._check_listener()  # TensorRT may refuse to go on then, and says less
            raise
        for name in self._network.outputs:
            self._stream.download(self._rows(name, count), self._on_gpu[name].address)
        self._stream.wait()
        self._check_listener()

    def _check_listener(self) -> None:
        if self._listener is not None and self._listener.error is not None:
            raise BackendError(f"a value inside {self.path} could not be read: {self._listener.error}")

    def _put(self, arrays: Mapping[str, np.ndarray]) -> int:
        """Put a run of up to max_batch rows on the stream; how many. The pinned memory of the inputs is then in use."""
        count = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            rows = self._rows(name, count)
            np.copyto(rows, array)  # to FP16 where the engine takes that
            self._stream.upload(self._on_gpu[name].address, rows)
        addresses = {name: memory.address for name, memory in self._on_gpu.items()}
        self._network.run(count, addresses, self._stream.handle)
        return count

    def _rows(self, name: str, count: int) -> np.ndarray:
        """The first rows of a tensor's pinned memory, (count, ...)."""
        tensor = self._tensors[name]
        if name not in self._pinned:
            assert self._resources is not None
            with recording:
                self._pinned[name] = HostMemory(self._bytes(name))
            self._resources.callback(self._pinned[name].free)
        flat = self._pinned[name].array[: count * tensor.row_bytes]
        return flat.view(tensor.dtype).reshape(count, *tensor.shape)

    def _bytes(self, name: str) -> int:
        return self._network.max_batch * self._tensors[name].row_bytes

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """The primary context around a call; a failure of the GPU is one line, and the last call of this instance."""
        try:
            with self._device.active():
                yield
        except OutOfMemory as error:
            raise BackendError(smaller_batch(self.path, self.passport)) from error
        except CudaError as error:
            self._failure = " ".join(str(error).split())
            raise BackendError(
                f"the GPU failed on {self.path}: {self._failure}; open the model again, and if that fails, start anew"
            ) from error
