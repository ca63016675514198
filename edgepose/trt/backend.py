"""TensorRT on an NVIDIA GPU: image to key points on the device, N*K*3 floats come back.

This file guards: what is called in which context, by whom, after which failure. The work is in pipeline.py
and stages.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from types import TracebackType

import numpy as np

from edgepose.cuda.arrays import GpuArray
from edgepose.cuda.graphs import GraphError, recording
from edgepose.cuda.memory import CudaError, OutOfMemory, keep, open_device
from edgepose.cuda.nvcc import read_kernels
from edgepose.errors import BackendError
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import MEMORIES
from edgepose.stages.geometry import Regions, join_regions, split_rows
from edgepose.stages.gpu_frame import Picture, as_frame
from edgepose.timing import add_seconds
from edgepose.trt.pipeline import FRAMES_IN_FLIGHT, Pipeline, Request
from edgepose.trt.plan import check_engine, smaller_batch
from edgepose.trt.versions import load_runner

WARMED = 16  # people: up to so many each count has its context and graph made ready by warm_up


class TensorRtBackend:
    """Runs a plan that `edgepose build` made. A context manager.

    One instance serves one thread at a time; several, in one thread or in several, go side by side. Besides the
    protocol's calls there is `submit` and `result`, with which two frames are under way at once. The memory
    for frames grows to the largest frame; all other memory is taken when the plan is opened.

    Args:
        path: the plan.
        passport: its passport.
        cuda_graphs: replay the network as a CUDA graph, one for each number of people; they are recorded as they come.
            Where a network cannot be recorded it is launched layer by layer, which is said once, as a warning.
        frame_memory: where frames lie for the GPU: one of frames.MEMORIES.

    Raises:
        ValueError: frame_memory is none of these.
        EngineMismatchError: built for another GPU or TensorRT, or its kernels are missing or others.
        ModelFileError: TensorRT cannot read the plan, or its tensors are not those of the passport.
        BackendError: no GPU, no driver or one too old, TensorRT is not installed, or too little memory.
    """

    name = "tensorrt"
    arithmetic = "TensorRT"
    frames_in_flight = FRAMES_IN_FLIGHT

    def __init__(
        self, path: Path, passport: Passport, *, cuda_graphs: bool = True, frame_memory: str = "copied"
    ) -> None:
        self.path, self.passport = path, passport
        self._pipeline: Pipeline | None = None
        if frame_memory not in MEMORIES:
            raise ValueError(f"frame_memory must be one of {', '.join(MEMORIES)}, got {frame_memory!r}")
        self._failure = ""
        self._device = open_device()
        trt = load_runner(path, passport.plan)
        check_engine(path, passport, self._device.gpu, trt)
        kernels = read_kernels(path, passport)
        with self._guarded():
            try:
                self._pipeline = Pipeline(
                    path, passport, trt, self._device, kernels, use_graphs=cuda_graphs, frame_memory=frame_memory
                )
            except ValueError as error:  # outputs that the decoding kernel cannot take
                raise BackendError(f"{path}: {error}") from error

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        return self.passport.spec

    @property
    def cuda_graphs(self) -> bool:
        """Whether runs are replayed as CUDA graphs: as asked for, and False where the network could not be recorded."""
        return self._opened().stages.use_graphs

    @cuda_graphs.setter
    def cuda_graphs(self, use: bool) -> None:
        self._opened().stages.use_graphs = use

    def warm_up(self, *, flip_test: bool = False) -> None:
        """Make what frames of any count of people will need, so that none of them waits for it.

        That is an execution context and a CUDA graph for 1 to WARMED people and for the engine's largest batch. Those
        of other counts are made when they come. TensorRT for RTX compiles its kernels here; they are kept in a file
        beside the plan for the next time.

        Raises:
            ValueError: frames are under way, or the backend is closed.
            BackendError: the GPU or TensorRT failed.
        """
        network, spec = self._opened().stages.network, self.spec
        black, refine = np.zeros((2, 2, 3), np.uint8), spec.refine
        for count in sorted({*range(1, min(network.max_batch, WARMED) + 1), network.max_batch}):
            regions = Regions.around(np.tile(np.array([[0, 0, 2, 2]], np.float32), (count, 1)), spec)
            for decoder in (None, *([refine.decoder] if refine else [])):
                self.keypoints(black, regions, flip_test=flip_test, decoder=decoder)
        with self._guarded():
            network.keep_cache()

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 3, H, W) float32 crops -> the network's outputs by name, N rows each, float32. N may be 0.

        Raises:
            ValueError: crops of another shape or dtype, or the backend is closed.
            BackendError: the GPU or TensorRT failed.
        """
        pipeline, (height, width) = self._opened(), self.spec.image.size_hw
        if crops.ndim != 4 or crops.shape[1:] != (3, height, width) or crops.dtype != np.float32:
            raise ValueError(f"crops must be (N, 3, {height}, {width}) float32, got {crops.shape} {crops.dtype}")
        with self._guarded():
            return pipeline.stages.outputs(crops)

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps. N may be 0.

        Raises:
            ValueError, BackendError: as `run`.
            ModelFileError: the network gives something else.
        """
        _ = self.spec.heatmaps
        return self.run(crops)["heatmaps"]

    def crops(self, image: Picture, regions: Regions) -> np.ndarray:
        """What the GPU cuts out of a picture for 1 to max_batch regions: (N, 3, H, W) float32.

        Raises:
            ValueError: frames are under way, or the backend is closed.
            BackendError: the GPU failed.
        """
        pipeline = self._idle(len(regions))
        with self._guarded():
            return pipeline.crops(as_frame(image), regions)

    def decode(self, outputs: Mapping[str, np.ndarray], regions: Regions) -> np.ndarray:
        """What the GPU reads from outputs by name, float32, of 1 to max_batch regions: (N, K, 3), image px.

        Raises:
            ValueError: frames are under way, or the backend is closed.
            BackendError: the GPU failed.
        """
        pipeline = self._idle(len(regions))
        with self._guarded():
            return pipeline.decode(outputs, regions)

    def _idle(self, count: int) -> Pipeline:
        pipeline = self._opened()
        if pipeline.in_flight:
            raise ValueError("frames are under way: take their result() first")
        if not 1 <= count <= pipeline.stages.network.max_batch:
            raise ValueError(f"1 to {pipeline.stages.network.max_batch} regions wanted, got {count}")
        return pipeline

    def keypoints(
        self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None
    ) -> np.ndarray:
        """An image and N regions -> (N, K, 3) float32: x, y in image px, score.

        Args:
            image: (H, W, 3) uint8 RGB, a Frame, or a picture on the GPU (`GpuFrame`).
            decoder: one of heads.heatmaps.DECODERS, in place of the spec's; None for the spec's.

        Raises:
            ValueError: an image of another shape or dtype; or frames are under way.
            BackendError: the GPU or TensorRT failed.
        """
        if self._opened().in_flight:
            raise ValueError("frames are under way: take their result() first")
        self.submit(image, regions, flip_test=flip_test, decoder=decoder)
        return self.result()

    def keypoints_of(
        self,
        images: Sequence[Picture],
        regions: Sequence[Regions],
        *,
        flip_test: bool = False,
        decoder: str | None = None,
    ) -> list[np.ndarray]:
        """What `keypoints` gives for each of several images, whose people share the runs of the network.

        Raises:
            ValueError, BackendError: as `keypoints`.
        """
        if self._opened().in_flight:
            raise ValueError("frames are under way: take their result() first")
        if not images:
            return []
        self._submit(images, regions, flip_test, decoder)
        return split_rows(self.result(), regions)

    def keypoints_on_gpu(
        self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None
    ) -> GpuArray:
        """What `keypoints` gives, left on the GPU for what goes on there; nobody waits for it.

        Returns:
            (N, K, 3) float32 with `__cuda_array_interface__`. A frame that was on the GPU already must stay as it is
            until the array's stream has come so far.

        Raises:
            ValueError, BackendError: as `keypoints`.
        """
        if self._opened().in_flight:
            raise ValueError("frames are under way: take their result() first")
        self._submit([image], [regions], flip_test, decoder, on_gpu=True)
        keypoints = self._result()
        assert isinstance(keypoints, GpuArray)
        return keypoints

    def submit(self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None) -> None:
        """Begin what `keypoints` does, and return at once. The image may be changed afterwards; one on the GPU may not,
        until its result was taken.

        More people than the engine's batch are done in parts, and only the last part is not waited for.

        Raises:
            ValueError: as of `keypoints`, or frames_in_flight frames are under way.
            BackendError: the GPU or TensorRT failed.
        """
        self._submit([image], [regions], flip_test, decoder)

    def _submit(
        self,
        images: Sequence[Picture],
        regions: Sequence[Regions],
        flip_test: bool,
        decoder: str | None,
        on_gpu: bool = False,
    ) -> None:
        pipeline = self._opened()
        frames = [as_frame(image) for image in images]
        together, frame_of = join_regions(regions)
        request = Request(frames, together, frame_of, flip_test, decoder, on_gpu)
        with self._guarded():
            seconds = pipeline.submit(request)
        add_seconds(seconds)

    def result(self) -> np.ndarray:
        """Wait for the oldest frame submitted: its (N, K, 3) key points, as `keypoints` gives them.

        Raises:
            ValueError: none is under way.
            BackendError: the GPU failed.
        """
        keypoints = self._result()
        assert isinstance(keypoints, np.ndarray)
        return keypoints

    def _result(self) -> np.ndarray | GpuArray:
        pipeline = self._opened()
        with self._guarded():
            keypoints, seconds = pipeline.result()
        add_seconds(seconds)
        return keypoints

    def close(self) -> None:
        """Free the GPU's memory; that of a lost device is the driver's to free. A second call does nothing."""
        if self._pipeline is None:
            return
        try:
            with self._device.active():
                self._pipeline.close()
                self._pipeline = None  # the last reference: pycuda frees its stream in the context that is current
        except CudaError:
            keep(self._pipeline)
            self._pipeline = None

    def __enter__(self) -> TensorRtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pipeline", None) is not None:
            self.close()

    def _opened(self) -> Pipeline:
        if self._pipeline is None:
            raise ValueError("the backend is closed")
        if self._failure:
            raise BackendError(f"{self.path}: the GPU failed before ({self._failure}): open the model again")
        return self._pipeline

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """The primary context around a call; a failure of the GPU is one line, and the last call of this instance."""
        try:
            with self._device.active():
                try:
                    yield
                except BaseException as error:
                    with recording:  # what only its frames still hold, an engine say, is freed here and in this context
                        clear_frames(error.__traceback__)
                    raise
        except OutOfMemory as error:
            raise BackendError(smaller_batch(self.path, self.passport)) from error
        except (CudaError, GraphError) as error:
            # a module's error brings the compiler's log along, or its dash
            self._failure = " ".join(str(error).split()).rstrip(" -")
            raise BackendError(
                f"the GPU failed on {self.path}: {self._failure}; open the model again, and if that fails, start anew"
            ) from error
