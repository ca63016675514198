"""Maps of a bottom-up network where they are, on the GPU: what grouping asks of them, answered by kernels.

Each question goes up as a table of a row each, and the answers come down; the maps stay. Kernels: maps.cu and peaks.cu.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from edgepose.cuda.launch import AT_ONCE, FOUND, SOME, enlarge_grid, flat_grid, peaks_grid, questions_grid
from edgepose.cuda.memory import DeviceMemory, HostMemory, Kernel, Stream
from edgepose.model.heads.fields import Fields, samples_that_may_fail
from edgepose.model.heads.tags import Tags
from edgepose.stages.field_points import Points, choose_points

Memory = TypeVar("Memory", DeviceMemory, HostMemory)


@dataclass(frozen=True)
class Placed:
    """Some maps of one image where the network wrote them.

    Attributes:
        address: of the first.
        half: they are float16, not float32.
    """

    address: int
    half: bool

    @property
    def letters(self) -> str:
        """What the names of kernels that read them end with."""
        return "f16" if self.half else "f32"


class _OnGpu:
    """Enlarged heat maps, and room for questions and answers.

    Args:
        module: of kernels, from `load_module`.
        stream: where all work goes; it is waited for.
        heatmaps: as they come from the network.
        maps: their number, height and width.
        factor: they are enlarged so many times.
        row: 32-bit numbers of a question.
        largest: bytes of an answer that is not in a table.
        resources: frees its memory.
    """

    def __init__(
        self,
        module: Any,
        stream: Stream,
        heatmaps: Placed,
        maps: tuple[int, int, int],
        factor: int,
        row: int,
        largest: int,
        resources: ExitStack,
    ) -> None:
        count, height, width = maps
        self._stream, self._heatmaps, self._given_hw, self._factor = stream, heatmaps, (height, width), factor
        self._maps = (count, height * factor, width * factor)
        self._enlarge = Kernel(module, f"enlarge_{heatmaps.letters}", "PPiiii")
        self._resources = resources
        self._enlarged = self._kept(DeviceMemory(4 * int(np.prod(self._maps))))
        self._table = self._kept(DeviceMemory(4 * row * AT_ONCE))
        self._table_pinned = self._kept(HostMemory(4 * row * AT_ONCE))
        self._answers = self._kept(DeviceMemory(max(8 * AT_ONCE, largest)))
        self._answers_pinned = self._kept(HostMemory(max(8 * AT_ONCE, largest)))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the enlarged maps, px."""
        return self._maps[1:]

    def _kept(self, memory: Memory) -> Memory:
        self._resources.callback(memory.free)
        return memory

    def _enlarge_heatmaps(self, *, cubic: bool) -> None:
        height, width = self._given_hw
        block, grid = enlarge_grid(self._maps)
        addresses = (self._heatmaps.address, self._enlarged.address)
        self._stream.launch(self._enlarge, block, grid, 0, *addresses, height, width, self._factor, int(cubic))

    def _asked(self, table: np.ndarray, dtype: Any, ask: Callable[[int], None]) -> np.ndarray:
        """(P,) of a dtype: the answers to P questions; `ask` launches what answers those in the table."""
        table = np.ascontiguousarray(table, np.int32)
        found = np.empty(len(table), dtype)
        for start in range(0, len(table), AT_ONCE):
            part = table[start : start + AT_ONCE]
            pinned = self._table_pinned.array[: part.nbytes]
            pinned[:] = part.view(np.uint8).ravel()
            self._stream.upload(self._table.address, pinned)
            ask(len(part))
            found[start : start + len(part)] = self._downloaded(self._answers.address, dtype, len(part))
        return found

    def _downloaded(self, address: int, dtype: Any, count: int) -> np.ndarray:
        """(count,) of a dtype, as many as there is room for; the next call writes over them."""
        values = self._answers_pinned.array[: count * np.dtype(dtype).itemsize].view(dtype)
        self._stream.download(values, address)
        self._stream.wait()
        return values


class FieldsOnGpu(_OnGpu):
    """Heat maps and part affinity fields: the points and how strongly limbs connect them.

    Args:
        module, stream, heatmaps, resources: as above.
        pafs: the fields.
        head: theirs.
    """

    def __init__(
        self, module: Any, stream: Stream, heatmaps: Placed, pafs: Placed, head: Fields, resources: ExitStack
    ) -> None:
        count = 1 + max(max(limb) for limb in head.limbs)
        super().__init__(module, stream, heatmaps, (count, *head.size_hw), head.upsample, 5, 0, resources)
        self._head, self._pafs = head, pafs
        self._candidates = Kernel(module, "candidates", "PPiiif")
        self._strengths = Kernel(module, f"strengths_{pafs.letters}", "PPPiiiiiif")
        _, height, width = self._maps
        most = count * -(-height * width // 2)  # of two neighbours one alone is higher
        self._found = self._kept(DeviceMemory(FOUND.itemsize * (1 + max(most, SOME))))

    def find_points(self) -> Points:
        """The key points in the heat maps that lie there now."""
        self._enlarge_heatmaps(cubic=True)
        none = self._table_pinned.array[: FOUND.itemsize]
        none[:] = 0
        self._stream.upload(self._found.address, none)
        (count, height, width), at = self._maps, self._found.address
        pixels = count * height * width
        block, grid = flat_grid(pixels, 256)
        threshold = np.float32(self._head.peak_threshold)
        arguments = (self._enlarged.address, at, pixels, height, width, threshold)
        self._stream.launch(self._candidates, block, grid, 0, *arguments)
        first = self._downloaded(at, FOUND, 1 + SOME).copy()
        parts, held, many = [first[1 : 1 + first["place"][0]]], SOME, int(first["place"][0])
        while held < many:
            more = min(many - held, AT_ONCE)
            parts.append(self._downloaded(at + FOUND.itemsize * (1 + held), FOUND, more).copy())
            held += more
        found = np.concatenate(parts)
        return choose_points(found["place"].astype(int), found["value"], self._maps, self._head)

    def strengths(self, limb: np.ndarray, start_xy: np.ndarray, end_xy: np.ndarray) -> np.ndarray:
        """What `limb_strengths` gives, (P,) float64."""
        head = self._head
        fields = 2 * np.asarray(head.fields)[limb]
        options = (head.upsample, head.samples, samples_that_may_fail(head), np.float32(head.field_threshold))

        def ask(count: int) -> None:
            block, grid = flat_grid(count, 128)
            addresses = (self._pafs.address, self._table.address, self._answers.address)
            self._stream.launch(self._strengths, block, grid, 0, *addresses, count, *self._given_hw, *options)

        return self._asked(np.column_stack([fields, start_xy, end_xy]), np.float64, ask)


class TagsOnGpu(_OnGpu):
    """Heat maps and tags: `TagMaps`, and the peaks.

    Args:
        module, stream, heatmaps, resources: as above.
        tags: the tags.
        head: theirs.
    """

    def __init__(
        self, module: Any, stream: Stream, heatmaps: Placed, tags: Placed, head: Tags, resources: ExitStack
    ) -> None:
        count = len(head.order)
        self._rows = count * head.top_k
        largest = self._rows * 12 + count * 4
        row = max(3, 1 + head.tag_size)
        super().__init__(module, stream, heatmaps, (count, *head.size_hw), head.upsample, row, largest, resources)
        self._head, self._placed = head, tags
        self._peaks = Kernel(module, "peaks_f32", "PPPiiifi")
        self._read = {each: Kernel(module, f"read_{each.letters}", "PPPiiii") for each in {heatmaps, tags}}
        self._best = Kernel(module, f"best_{tags.letters}", "PPPPiiiiif")

    def find_peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """What `find_peaks` gives of the heat maps that lie there now, without the batch."""
        self._enlarge_heatmaps(cubic=False)
        head, (count, height, width), at = self._head, self._maps, self._answers.address
        block, grid = peaks_grid(count)
        counts_at = at + self._rows * 12
        options = (height, width, head.window, np.float32(head.peak_threshold), head.top_k)
        self._stream.launch(self._peaks, block, grid, 0, self._enlarged.address, at, counts_at, *options)
        words = self._downloaded(at, np.int32, self._rows * 3 + count).copy()
        peaks = words[: self._rows * 3].view(np.float32)
        return peaks.reshape(count, head.top_k, 3), words[self._rows * 3 :]

    def heights(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        return self._values(self._heatmaps, kind, y, x)

    def tags(self, kind: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """As of TagMaps."""
        numbers = self._head.tag_size
        maps = np.arange(numbers)[:, None] * self._maps[0] + kind
        return self._values(self._placed, maps.ravel(), np.tile(y, numbers), np.tile(x, numbers)).reshape(numbers, -1)

    def best_places(self, kind: np.ndarray, means: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """As of TagMaps."""
        wanted = np.ascontiguousarray(means.T, np.float32).view(np.int32)
        options = (self._maps[0], len(means), *self._given_hw, self._factor, np.float32(weight))

        def ask(count: int) -> None:
            block, grid = questions_grid(count)
            addresses = (self._enlarged.address, self._placed.address, self._table.address, self._answers.address)
            self._stream.launch(self._best, block, grid, 0, *addresses, *options)

        found = self._asked(np.column_stack([kind, wanted]), FOUND, ask)
        return found["place"].astype(int), found["value"]

    def _values(self, placed: Placed, maps: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        def ask(count: int) -> None:
            block, grid = flat_grid(count, 128)
            addresses = (placed.address, self._table.address, self._answers.address)
            self._stream.launch(self._read[placed], block, grid, 0, *addresses, count, *self._given_hw, self._factor)

        return self._asked(np.column_stack([maps, y, x]), np.float32, ask)
