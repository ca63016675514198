"""The pose backend of the CPU: crops are cut in numpy, and outputs decoded, unless the runtime does that itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from edgepose.backends.runtime import Decoding, Runtime
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out_of, mirror
from edgepose.stages.geometry import Regions, join_regions, split_rows
from edgepose.stages.gpu_frame import Picture, on_cpu
from edgepose.stages.one_person import check_person_head, decode_flipped_outputs, decode_outputs
from edgepose.timing import stage

MAX_PEOPLE = 16  # at a time: bounds memory, and a CPU gains nothing from larger batches


class HostBackend:
    """Crop, network and decode on the CPU. A context manager.

    Args:
        runtime: runs the network; it is closed with the backend.

    Raises:
        ModelFileError: the network does not look at one person a crop.
    """

    def __init__(self, runtime: Runtime) -> None:
        check_person_head(runtime.passport.spec)
        self.runtime = runtime

    @property
    def name(self) -> str:
        """The runtime's."""
        return self.runtime.name

    @property
    def arithmetic(self) -> str:
        """What the runtime computes in, for people."""
        return self.runtime.arithmetic

    @property
    def path(self) -> Path:
        """The model file."""
        return self.runtime.path

    @property
    def passport(self) -> Passport:
        """The model file's passport."""
        return self.runtime.passport

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        return self.runtime.passport.spec

    def warm_up(self, *, flip_test: bool = False) -> None:
        """Run the network once, and its decoding where the runtime does that: the first run is slow."""
        crops = np.zeros((1, *self._crop_shape), np.float32)
        if isinstance(self.runtime, Decoding) and self.runtime.decodes(flip_test=flip_test):
            self.runtime.keypoints(crops, flip_test=flip_test)
        else:
            self.run(crops)

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 3, H, W) float32 crops -> the network's outputs by name, N rows each, float32. N may be 0.

        Raises:
            ValueError: crops of another shape or dtype, or the backend is closed.
            BackendError: the runtime failed.
        """
        return self.runtime.run({"crops": crops})

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) float32 crops -> (N, C, h, w) float32 heat maps. N may be 0.

        Raises:
            ValueError, BackendError: as `run`.
            ModelFileError: the network gives something else.
        """
        _ = self.spec.heatmaps
        return self.run(crops)["heatmaps"]

    def keypoints(
        self, image: Picture, regions: Regions, *, flip_test: bool = False, decoder: str | None = None
    ) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB, or a Frame, and N regions -> (N, K, 3) float32: x, y in image px, score.

        With `ModelSpec.gives_depth` it is (N, K, 4), the depth in metres behind the root last. N may be 0. The
        flip test runs the crops and their mirror images in one batch.
        """
        return self.keypoints_of([image], [regions], flip_test=flip_test, decoder=decoder)[0]

    def keypoints_of(
        self,
        images: Sequence[Picture],
        regions: Sequence[Regions],
        *,
        flip_test: bool = False,
        decoder: str | None = None,
    ) -> list[np.ndarray]:
        """What `keypoints` gives for each of several images, whose people share the runs of the network."""
        if not images:
            return []
        spec = self.spec if decoder is None else self.spec.changed(decoder=decoder)
        together, frame_of = join_regions(regions)
        with stage("crop"):
            pictures = [on_cpu(image) for image in images]
        keypoints = np.empty((len(together), spec.num_keypoints, 3 + spec.gives_depth), np.float32)
        for start in range(0, len(together), MAX_PEOPLE):
            part = slice(start, start + MAX_PEOPLE)
            some = together.rows(part)
            with stage("crop"):
                crops = cut_out_of(pictures, frame_of[part], some, spec)
            found, grid_hw = self._found(crops, spec, flip_test)
            keypoints[part] = found
            keypoints[part, :, :2] = some.to_image(found[..., :2], grid_hw)
        return split_rows(keypoints, regions)

    def _found(self, crops: np.ndarray, spec: ModelSpec, flip_test: bool) -> tuple[np.ndarray, tuple[int, int]]:
        """Key points of some crops, and the height and width of the grid whose px they are."""
        if isinstance(self.runtime, Decoding) and self.runtime.decodes(flip_test=flip_test):
            with stage("network+decode"):
                found = self.runtime.keypoints(crops, flip_test=flip_test)
            return found, spec.grid_hw
        if not flip_test:
            with stage("network"):
                outputs = self.run(crops)
            with stage("decode"):
                return decode_outputs(outputs, spec)
        with stage("crop"):
            both = np.concatenate([crops, mirror(crops)])
        with stage("network"):
            outputs = self.run(both)
        with stage("decode"):
            straight, mirrored = (
                {name: array[rows] for name, array in outputs.items()}
                for rows in (slice(len(crops)), slice(len(crops), None))
            )
            return decode_flipped_outputs(straight, mirrored, spec)

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        self.runtime.close()

    def __enter__(self) -> HostBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _crop_shape(self) -> tuple[int, int, int]:
        return (3, *self.spec.image.size_hw)
