"""Backends run a model file: one protocol, and the door that picks the backend for a file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from edgepose.backends.host import HostBackend
from edgepose.backends.runtime import Runtime
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport, read_passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from edgepose.stages.gpu_frame import Picture

BACKENDS = ("openvino", "onnxruntime")  # of an ONNX, on a CPU; in the order of preference
BF16 = "openvino-bf16"  # by name alone: FP32 in BF16, faster where the CPU has it
ENGINE_SUFFIXES = (".plan", ".engine")


class Backend(Protocol):
    """Runs one model file. One instance serves one thread at a time; several instances may live side by side.

    The whole path from image to key points is behind `keypoints`, because a GPU backend crops and decodes on
    the device and only N*K*3 floats come back.

    Its stages are crop, network and decode (on a GPU also upload and download, and network+decode as a graph), for
    whoever measures (`timing.measured`).
    """

    @property
    def name(self) -> str:
        """The runtime's: "openvino", "onnxruntime" or "tensorrt"."""
        ...

    @property
    def path(self) -> Path:
        """The model file."""
        ...

    @property
    def passport(self) -> Passport:
        """The model file's passport."""
        ...

    @property
    def arithmetic(self) -> str:
        """What the network is computed in, for people."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        ...

    def warm_up(self, *, flip_test: bool = False) -> None:
        """Do what the first runs do and later ones need not, for frames that are run with or without the flip test."""
        ...

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 3, H, W) float32 crops -> the network's outputs by name, N rows each, float32. N may be 0.

        Raises:
            ValueError: crops of another shape or dtype.
            BackendError: the runtime failed.
        """
        ...

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps. N may be 0.

        Raises:
            ValueError: crops of another shape or dtype.
            BackendError: the runtime failed.
        """
        ...

    def keypoints(
        self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None
    ) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB, or a Frame, and N regions -> (N, K, 3) float32: x, y in image px, score.

        With `ModelSpec.gives_depth` it is (N, K, 4), the depth in metres behind the root last.

        Args:
            regions: N may be 0.
            decoder: one of heads.heatmaps.DECODERS, in place of the spec's; None for the spec's.
        """
        ...

    def keypoints_of(
        self,
        images: Sequence[Picture],
        regions: Sequence[Regions],
        *,
        flip_test: bool = False,
        decoder: str | None = None,
    ) -> list[np.ndarray]:
        """What `keypoints` gives for each of several images, whose people share the runs of the network."""
        ...

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Pipelined(Backend, Protocol):
    """A backend that works on several frames at once: on a GPU, while the CPU reads and draws others."""

    frames_in_flight: int

    def submit(self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None) -> None:
        """Begin what `keypoints` does; at most frames_in_flight times more than `result` has been called."""
        ...

    def result(self) -> np.ndarray:
        """Wait for the oldest frame submitted, and give what `keypoints` gives."""
        ...


def load_runtime(
    path: str | Path,
    *,
    backend: str | None = None,
    threads: int | None = None,
    exact: bool = False,
    store_fp16: bool = False,
) -> Runtime:
    """Open an ONNX or a plan of any kind, its passport beside it: arrays by name in, arrays by name out.

    Args:
        backend: "tensorrt" for a plan; "openvino", "openvino-bf16" or "onnxruntime" for an ONNX. None takes what fits:
            of an ONNX OpenVINO in FP32, and ONNX Runtime where OpenVINO is missing and the file is FP32.
        threads: CPU threads; None leaves it to the runtime. A plan takes none.
        exact, store_fp16: as of `load_backend`.

    Raises:
        ModelFileError: the file or passport is missing, damaged or another file's.
        BackendError: that backend cannot run that file rightly.
        MissingPackageError: the backend's package is not installed.
    """
    if backend not in (None, "tensorrt", *BACKENDS, BF16):
        raise ValueError(f"backend must be one of tensorrt, {', '.join((*BACKENDS, BF16))}, got {backend!r}")
    if backend == BF16 and (exact or store_fp16):
        raise ValueError("exact and store_fp16 are of FP32 arithmetic: BF16 judges no file")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    path = Path(path)
    if path.suffix in ENGINE_SUFFIXES:
        if backend in (*BACKENDS, BF16):
            raise BackendError(
                f"{path} is a TensorRT engine, which {backend} cannot run: give the ONNX it was built from"
            )
        passport = _engine_passport(path)
        if passport.plan.kernels is not None and isinstance(passport.spec.head, (Fields, Tags)):
            from edgepose.trt.grouping import GroupingRuntime

            return GroupingRuntime(path, passport)
        from edgepose.trt.runtime import TensorRtRuntime

        return TensorRtRuntime(path, passport)
    if backend == "tensorrt":
        raise BackendError(f"{path} is no TensorRT engine: make one on this device: edgepose build {path}")
    passport = read_passport(path)
    if backend != "onnxruntime":
        try:
            from edgepose.backends.openvino import OpenVinoRuntime

            bf16 = backend == BF16
            return OpenVinoRuntime(path, passport, threads, exact=exact, store_fp16=store_fp16, bf16=bf16)
        except MissingPackageError:
            if backend in ("openvino", BF16) or passport.precision != "fp32" or find_spec("onnxruntime") is None:
                raise
    from edgepose.backends.ort import OnnxRuntimeRuntime

    return OnnxRuntimeRuntime(path, passport, threads)


def load_backend(
    path: str | Path,
    *,
    backend: str | None = None,
    threads: int | None = None,
    exact: bool = False,
    store_fp16: bool = False,
    cuda_graphs: bool = True,
    frame_memory: str = "copied",
) -> Backend:
    """Open a model that finds one person's key points in a crop, with the backend that computes it rightly.

    Args:
        path: an ONNX or a TensorRT plan (.plan, .engine), its passport beside it. Around a plan of heat maps, or of
            SimCC's vectors along x and y, crops and decoding are the GPU's; around other plans crops are the CPU's, and
            so is decoding if no kernels lie beside.
        backend: "tensorrt" for a plan; "openvino", "openvino-bf16" or "onnxruntime" for an ONNX. None takes what fits:
            of an ONNX OpenVINO in FP32, and ONNX Runtime where OpenVINO is missing and the file is FP32.
        threads: CPU threads; None leaves it to the runtime. A plan takes none.
        exact: of an INT8 ONNX: compute in FP32 on the quantised values, the same on every CPU: for all that judges a
            file. False takes INT8 kernels, on a CPU without VNNI only for layers that they compute rightly.
            `Backend.arithmetic` says what was taken.
        store_fp16: of an FP16 or INT8 ONNX: round every result that the file has in FP16, as a GPU stores it; slow.
        cuda_graphs: of a plan: replay the network as a CUDA graph.
        frame_memory: of a plan of heat maps: where the GPU reads frames. "copied" is its own memory; "mapped" the
            CPU's, which saves the copy on a Jetson but is not cached there; "managed" is cached by both. To be
            measured, not guessed.

    Raises:
        ModelFileError: the file or passport is missing, damaged or another file's; or it takes no crops of people.
        EngineMismatchError: a plan of another GPU or TensorRT.
        BackendError: that backend cannot run that file rightly; or there is no GPU for a plan; or a frame_memory is
            named for a plan whose frames the CPU reads.
        MissingPackageError: the backend's package is not installed.
    """
    path = Path(path)
    if path.suffix in ENGINE_SUFFIXES:
        if backend in (*BACKENDS, BF16):
            raise BackendError(
                f"{path} is a TensorRT engine, which {backend} cannot run: give the ONNX it was built from"
            )
        return _load_engine(path, cuda_graphs, frame_memory)
    return _on_host(load_runtime(path, backend=backend, threads=threads, exact=exact, store_fp16=store_fp16))


def _on_host(runtime: Runtime) -> Backend:
    """Crops and decoding on the CPU around any runtime."""
    try:
        return HostBackend(runtime)
    except ModelFileError as error:
        runtime.close()
        raise ModelFileError(f"{runtime.path}: {error}") from error


def gpu_reads_frames(spec: ModelSpec) -> bool:
    """Whether a plan's GPU does all from frame to key points: with heat maps of crops, and with SimCC without depth."""
    return isinstance(spec.head, (Heatmaps, HeatmapsWithOffsets)) or (
        isinstance(spec.head, SimCC) and not spec.head.depth_bins
    )


def _load_engine(path: Path, cuda_graphs: bool, frame_memory: str) -> Backend:
    passport = _engine_passport(path)
    head, kernels = passport.spec.head, passport.plan.kernels
    if gpu_reads_frames(passport.spec) and (kernels is not None or not isinstance(head, SimCC)):
        from edgepose.trt.backend import TensorRtBackend

        return TensorRtBackend(path, passport, cuda_graphs=cuda_graphs, frame_memory=frame_memory)
    if frame_memory != "copied":
        why = "was built without kernels" if gpu_reads_frames(passport.spec) else f"gives {head.kind}"
        raise BackendError(f"{path} {why}, and the CPU reads its frames: leave out frame_memory")
    if kernels is None or not isinstance(head, (SimCC, Volume)):
        return _on_host(load_runtime(path))
    from edgepose.trt.decoding import DecodingRuntime

    return _on_host(DecodingRuntime(path, passport))


def _engine_passport(path: Path) -> Passport:
    """A plan's passport, on a machine with a GPU: said before a package is missed that could not be used."""
    from edgepose.machine.gpu import find_gpu
    from edgepose.trt.plan import read_engine_passport

    passport = read_engine_passport(path)
    if find_gpu() is None:
        raise BackendError(
            f"{path} runs on a GPU, and no NVIDIA GPU or driver was found: see edgepose doctor, or run the ONNX it was "
            f"built from"
        )
    return passport
