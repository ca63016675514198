"""Does what a graph takes and gives have the names and shapes that its spec says?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepose.errors import ModelFileError
from edgepose.model.heads import Shape
from edgepose.model.spec import ModelSpec


def check_arrays(arrays: Mapping[str, np.ndarray], spec: ModelSpec) -> int:
    """The number of rows of a run's inputs.

    Raises:
        ValueError: an input is missing, or of another shape or dtype.
    """
    counts = set()
    for name, shape in spec.inputs.items():
        array = arrays.get(name)
        if array is None:
            raise ValueError(f"{name} is missing; {spec.name} takes {', '.join(spec.inputs)}")
        if array.dtype != np.float32 or array.ndim != len(shape) + 1 or not fits_shape(array.shape[1:], shape):
            raise ValueError(f"{name} must be (N, {as_text(shape)}) float32, got {array.shape} {array.dtype}")
        counts.add(len(array))
    if len(counts) != 1:
        raise ValueError(f"inputs of one run must have one number of rows, got {sorted(counts)}")
    return counts.pop()


def match_tensors(
    path: Path, spec: ModelSpec, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> tuple[dict[str, str], int | None]:
    """Which of a graph's tensors is which of the spec's.

    Args:
        inputs, outputs: the graph's, in its order, with the batch; None is a size that it leaves open.

    Returns:
        The graph's name of each of the spec's inputs and outputs. A single one may bear any name. And the only batch
        size that the graph takes, None if any.

    Raises:
        ModelFileError: one is missing, or of another shape.
    """
    found: dict[str, str] = {}
    batches = set()
    for wanted, given in ((spec.inputs, inputs), (spec.outputs, outputs)):
        for name, shape in wanted.items():
            graph_name = name if name in given else next(iter(given), None) if len(wanted) == 1 else None
            if graph_name is None:
                raise ModelFileError(
                    f"{path} has no {name}; it has {', '.join(given) or 'nothing'}: export or import it again"
                )
            size = given[graph_name]
            if len(size) != len(shape) + 1 or not fits_shape(size[1:], shape):
                raise ModelFileError(
                    f"{path}: the graph's {name} are {as_text(size)}, its passport says N, {as_text(shape)}: "
                    f"export or import it again"
                )
            found[name] = graph_name
            if name in spec.inputs:
                batches.add(size[0])
    return found, next(iter(batches - {None}), None)


def as_text(shape: Sequence[int | None]) -> str:
    """A shape for messages; a size that is not known is a question mark."""
    return ", ".join("?" if size is None else str(size) for size in shape)


def fits_shape(found: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    """Whether two shapes agree; a size that is None fits any."""
    return len(found) == len(wanted) and all(
        size is None or want is None or size == want for size, want in zip(found, wanted, strict=True)
    )
