"""What the outputs of a foreign file may be where they are not what its spec says, told by their names and sizes.

For messages: each function gives half a sentence, or an empty one where nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgepose.model.heads.fields import OPENPOSE18_LIMBS, Fields
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import SKELETONS
from edgepose.model.spec import ModelSpec

Sizes = Mapping[str, Sequence[int | None]]  # of each output, with the batch; None is open
OPENPOSE_MAPS = 18 + 1 + 2 * len(OPENPOSE18_LIMBS)  # with the background's


def fitting_crops(found: Sizes, spec: ModelSpec) -> str:
    """What is known of the outputs of a network that should look at crops of people."""
    return unread_maps(found) or _vectors(found, spec) or _one_vector(found, spec) or _maps(found, spec)


def fitting_maps(found: Sizes, spec: ModelSpec) -> str:
    """What is known of the outputs of a network that looks at whole images and gives maps of everybody."""
    head, wanted = spec.head, spec.outputs
    fits = {name: [theirs for theirs, sizes in found.items() if list(sizes[1:]) == [*wanted[name]]] for name in wanted}
    named = [theirs[0] for theirs in fits.values() if len(theirs) == 1]
    if len(set(named)) == len(wanted) > 1:
        return f"these sizes fit: --output-name {','.join(named)}"
    channels = {theirs: sizes[1] for theirs, sizes in found.items() if len(sizes) == 4}
    count = len(spec.skeleton)
    if isinstance(head, Fields):
        maps, fields = count + 1, 2 * len(head.limbs)
        if head.joined and {maps, fields} <= set(channels.values()):
            return 'heat maps and fields are two outputs here: leave "joined" out of the head'
        if not head.joined and list(channels.values()) == [maps + fields]:
            return 'heat maps and fields are one output here: "joined": true in the head'
    if isinstance(head, Tags):
        several = channels.get("tags") or (list(channels.values())[1] if len(channels) == 2 else None)
        if len(channels) == 1:
            return "heat maps and tags must be two outputs: export it so"
        if several and several % count:
            return f"{several} maps of tags are no multiple of {count}, the key points of {spec.skeleton.name}"
        if several and several != count * head.tag_size:
            return f'{several} maps of tags for {count} key points are "tag_size": {several // count} in the head'
    return ""


def unread_maps(found: Sizes) -> str:
    """What is known of networks whose maps edgepose has no head for, told by the channels of their four outputs."""
    maps = [sizes for sizes in found.values() if len(sizes) == 4]
    for axis in (3, 1):  # channels last, channels first
        channels = sorted(sizes[axis] or 0 for sizes in maps)
        if channels == [1, 17, 34, 34]:
            return (
                "these are MoveNet's maps before its own decoding (centres, regressions, heat maps, offsets), for "
                "which edgepose has no head: export it with that decoding, whose one output is (1, 1, 17, 3)"
            )
        if channels == [17, 32, 32, 34]:
            return (
                "these are PoseNet's maps (heat maps, offsets, displacements forwards and backwards), which want a "
                "head that follows displacements from key point to key point: edgepose has none"
            )
    return ""


def skeletons_of(count: int) -> str:
    """Which skeletons have so many key points."""
    names = [name for name, skeleton in SKELETONS.items() if len(skeleton) == count]
    return f"skeletons of {count} are {', '.join(names)}" if names else f"no skeleton of {count} is known: write one"


def _vectors(found: Sizes, spec: ModelSpec) -> str:
    """Of two outputs of vectors, with a bin for each part of a px: how many key points, which split ratio."""
    vectors = {name: sizes for name, sizes in found.items() if len(sizes) == 3}
    if len(vectors) != 2:
        return ""
    names = ("simcc_x", "simcc_y") if set(vectors) == {"simcc_x", "simcc_y"} else tuple(vectors)
    (_, points, x), (_, points_y, y) = (vectors[name] for name in names)
    height, width = spec.image.size_hw
    if points is None or points != points_y or x is None or y is None:
        return ""
    if x * width == y * height != x * height:
        return f"the two vectors are swapped, that along x comes first: --output-name {names[1]},{names[0]}"
    if x * height != y * width:
        return ""
    fits = f"these are SimCC vectors of {points} key points with a split ratio of {x / width:g}"
    if points != spec.num_keypoints:
        return f"{fits}, and {spec.skeleton.name} has {spec.num_keypoints}: {skeletons_of(points)}"
    if not isinstance(spec.head, SimCC):
        return f"{fits}: a head of kind simcc, or --preset rtmpose-..."
    return f"{fits}, and the spec says {spec.head.split_ratio:g}" * (x != width * spec.head.split_ratio)


def _one_vector(found: Sizes, spec: ModelSpec) -> str:
    vectors = [sizes for sizes in found.values() if len(sizes) == 3 and sizes[1] == spec.num_keypoints]
    if len(found) != 1 or len(vectors) != 1 or not isinstance(spec.head, SimCC):
        return ""
    return "SimCC has two vectors a key point, along x and along y: export it with both"


def _maps(found: Sizes, spec: ModelSpec) -> str:
    """Of one output of maps: heat maps of how many key points, and how large."""
    if len(found) != 1 or len(sizes := next(iter(found.values()))) != 4 or None in sizes[1:]:
        return ""
    channels, height, width = (size or 0 for size in sizes[1:])
    maps = f"these are {channels} maps of {height}x{width}"
    if isinstance(spec.head, SimCC):
        return f"{maps}: a head of kind heatmaps, or --preset mmdeploy-heatmap-..."
    if "heatmaps" not in spec.outputs:
        return ""
    wanted, *size_hw = spec.outputs["heatmaps"]
    if channels == OPENPOSE_MAPS:
        return f'{maps}, as OpenPose has 19 heat maps and 38 fields: kind "fields", "joined": true, skeleton openpose18'
    if channels != wanted:
        return f"{maps}, and {spec.skeleton.name} has {spec.num_keypoints} key points: {skeletons_of(channels)}"
    return f"{maps}: size_hw of its head is [{height}, {width}]" * ([height, width] != size_hw)
