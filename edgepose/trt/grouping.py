"""Plans that find everybody in a whole image: maps stay on the GPU, and what grouping asks of them comes down."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgepose.cuda.maps import FieldsOnGpu, Placed, TagsOnGpu
from edgepose.cuda.memory import load_module
from edgepose.cuda.nvcc import read_kernels
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.passport import Passport
from edgepose.model.shapes import check_arrays
from edgepose.stages.field_grouping import group_connected, keypoints_of
from edgepose.stages.tag_grouping import people_of
from edgepose.timing import stage
from edgepose.trt.runtime import TensorRtRuntime


class GroupingRuntime(TensorRtRuntime):
    """A runtime that also groups, of a head of fields or tags, with the kernels beside the plan.

    `run` gives the maps as of any plan: what a flip test and several scales merge comes down whole.

    Raises:
        EngineMismatchError: as of TensorRtRuntime, or the kernels are missing or another plan's.
        ModelFileError, BackendError: as of TensorRtRuntime.
    """

    def __init__(self, path: Path, passport: Passport) -> None:
        self._kernels = read_kernels(path, passport)
        super().__init__(path, passport)

    def _prepare(self, resources: ExitStack) -> None:
        module, head = load_module(self._kernels), self.passport.spec.head
        self._maps: list[FieldsOnGpu | TagsOnGpu] = []
        resources.callback(self._maps.clear)  # pycuda frees the module in the context that is current then
        if isinstance(head, Fields):
            maps: FieldsOnGpu | TagsOnGpu = FieldsOnGpu(module, self._stream, *self._fields(head), head, resources)
        else:
            assert isinstance(head, Tags)
            placed = self._placed("heatmaps"), self._placed("tags")
            maps = TagsOnGpu(module, self._stream, *placed, head, resources)
        self._maps.append(maps)

    def people(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `decode_fields` or `decode_tags` gives of the network's maps of one picture.

        Args:
            picture: (1, 3, H, W) float32, as the network takes it.

        Raises:
            ValueError: pictures of another shape or dtype, or the runtime is closed.
            BackendError: the GPU or TensorRT failed.
        """
        self._check_open()
        if check_arrays({"images": picture}, self.passport.spec) != 1:
            raise ValueError(f"wanted one picture, got {len(picture)}")
        (maps,), head = self._maps, self.passport.spec.head
        with self._guarded():
            with stage("network"):
                self._put({"images": picture})
                self._stream.wait()
            if isinstance(maps, FieldsOnGpu):
                assert isinstance(head, Fields)
                with stage("peaks"):
                    points = maps.find_points()
                with stage("grouping"):
                    return keypoints_of(points, group_connected(points, maps.strengths, head), head)
            assert isinstance(head, Tags)
            with stage("peaks"):
                peaks, counts = maps.find_peaks()
            with stage("grouping"):
                return people_of(maps, peaks, counts, head)

    def _fields(self, head: Fields) -> tuple[Placed, Placed]:
        """Heat maps and fields; where they are one output the fields lie behind."""
        heatmaps = self._placed("heatmaps")
        if not head.joined:
            return heatmaps, self._placed("pafs")
        tensor, fields = self._network.outputs["heatmaps"], 2 * len(head.limbs)
        maps = tensor.shape[0]
        return heatmaps, Placed(heatmaps.address + tensor.row_bytes // maps * (maps - fields), heatmaps.half)

    def _placed(self, name: str) -> Placed:
        return Placed(self._on_gpu[name].address, self._network.outputs[name].dtype == np.float16)
