"""The networks of positions in space that edgepose can export, lifters and PoseNets: names, recipes, published files.

Sources of files and errors: mmpose's model index. Sources of the statistics: the configuration beside its file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgepose.export.zoo.licences import licence_of
from edgepose.export.zoo.lifter_statistics import MMPOSE_STATISTICS
from edgepose.export.zoo.model import MMPOSE, WEIGHTS, ChoiceError
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.volume import Volume
from edgepose.model.skeletons import BODY15, H36M16, H36M17, H36M18, MUCO21, Skeleton
from edgepose.model.spec import Input, ModelSpec, Region

if TYPE_CHECKING:
    from torch import nn

_BODY3D = f"{MMPOSE}/body3d"


@dataclass(frozen=True)
class SpaceModel:
    """One network with one recipe.

    Attributes:
        name: what `--model` takes.
        spec: how it is fed and read; its head is a Lift or a Volume.
        build: makes the network.
        gflops: of one window or crop; a multiply-add is two operations.
        params: number of trainable values.
        url, sha256_prefix: of the published file, which `--weights auto` fetches; empty where there is none.
        mpjpe_mm: published error on Human3.6M, subjects 9 and 11; None where none was published.
        embedded: a checkpoint inside the package, which `--weights auto` loads instead.
    """

    name: str
    spec: ModelSpec
    build: Callable[[], nn.Module]
    gflops: float
    params: int
    url: str = ""
    sha256_prefix: str = ""
    mpjpe_mm: float | None = None
    embedded: Path | None = None

    @property
    def accuracy(self) -> str:
        """The published result as `MPJPE 40.0 mm`; "-" if there is none."""
        return "-" if self.mpjpe_mm is None else f"MPJPE {self.mpjpe_mm:.1f} mm"

    @property
    def licence(self) -> str:
        """Of its weights, by its SPDX name; "-" if nobody published any."""
        return licence_of(self.name, self.url, embedded=self.embedded is not None)


# Windows of 3, 3, ... frames: frames -> widths, GFLOPs of a window, parameters.
_DEPTHS = {
    1: ((1, 1, 1, 1, 1), 0.017, 8_494_131),
    27: ((3, 3, 3), 0.036, 8_555_571),
    81: ((3, 3, 3, 3), 0.115, 12_753_971),
    243: ((3, 3, 3, 3, 3), 0.353, 16_952_371),
}
_VIDEOPOSE_FILES = {  # name behind videopose3d_ -> frames, file, MPJPE: key points as annotated, or found by CPN
    "27": (27, "videopose_h36m_27frames_fullconv_supervised-fe8fbba9_20210527.pth", 40.0),
    "81": (81, "videopose_h36m_81frames_fullconv_supervised-1f2d1104_20210527.pth", 38.9),
    "243": (243, "videopose_h36m_243frames_fullconv_supervised-880bea25_20210527.pth", 37.6),
    "1_cpn": (1, "videopose_h36m_1frame_fullconv_supervised_cpn_ft-5c3afaed_20210527.pth", 52.9),
    "243_cpn": (243, "videopose_h36m_243frames_fullconv_supervised_cpn_ft-88f5abbb_20210527.pth", 47.9),
    "27_semi": (27, "videopose_h36m_27frames_fullconv_semi-supervised-54aef83b_20210527.pth", 58.1),
    "27_semi_cpn": (27, "videopose_h36m_27frames_fullconv_semi-supervised_cpn_ft-71be9cde_20210527.pth", 67.4),
}


@cache
def space_models() -> tuple[SpaceModel, ...]:
    """All of them, in the order in which `edgepose models` lists them."""
    published = [_videopose(name, frames, file=file, mpjpe_mm=error)
                 for name, (frames, file, error) in _VIDEOPOSE_FILES.items()]  # fmt: skip
    causal = [_videopose(f"{frames}_causal", frames, causal=True) for frames in (27, 81, 243)]
    by_hand = [_videopose("243_coco", 243, points="coco17")]  # VideoPose3D's own pretrained_h36m_detectron_coco.bin
    return (_tiny(), *published, *causal, *by_hand, _martinez(), _mmpose_martinez(), *_posenets())


def space_names() -> list[str]:
    """What `edgepose export --model` takes for one of them."""
    return [model.name for model in space_models()]


def find_space_model(name: str) -> SpaceModel:
    """The network of that name.

    Raises:
        ChoiceError: there is none; the message lists what there is.
    """
    for model in space_models():
        if model.name == name:
            return model
    raise ChoiceError(f"unknown network {name!r}; known: {', '.join(space_names())}")


def _temporal(
    points: Skeleton, found: int, widths: tuple[int, ...], *, causal: bool, channels: int = 1024
) -> nn.Module:
    from edgepose.export.networks.temporal_convolutions import TemporalConvolutions  # torch: not for a list of names

    return TemporalConvolutions(len(points), found, widths, causal=causal, channels=channels)


def _videopose(
    name: str,
    frames: int,
    *,
    causal: bool = False,
    points: str = "h36m17",
    file: str = "",
    mpjpe_mm: float | None = None,
) -> SpaceModel:
    widths, gflops, params = _DEPTHS[frames]
    head = Lift(frames, causal=causal, points=points)
    return SpaceModel(
        name=f"videopose3d_{name}",
        spec=ModelSpec(f"videopose3d_{name}", None, head, H36M17),
        build=lambda: _temporal(head.points_skeleton, len(H36M17), widths, causal=causal),
        gflops=gflops,
        params=params,
        url=f"{_BODY3D}/videopose/{file}" if file else "",
        sha256_prefix=file.rsplit("-", 1)[1].split("_")[0] if file else "",
        mpjpe_mm=mpjpe_mm,
    )


def _martinez() -> SpaceModel:
    """3d_pose_baseline_pytorch's: 16 key points in, Human3.6M's 17 without the root out; statistics are not public."""

    def build() -> nn.Module:
        from edgepose.export.networks.linear_lifter import LinearLifter  # torch: as above

        return LinearLifter()

    head = Lift(1, points=H36M16.name, units="statistics", root_given=False)
    spec = ModelSpec("simplebaseline3d", None, head, H36M17)
    return SpaceModel(spec.name, spec, build, gflops=0.009, params=4_291_632)


def _mmpose_martinez() -> SpaceModel:
    """mmpose's form of the same network, with Human3.6M's statistics."""
    file = "simple3Dbaseline_h36m-f0ad73a4_20210419.pth"
    head = Lift(1, units="statistics", root_given=False, statistics=MMPOSE_STATISTICS)
    spec = ModelSpec("simplebaseline3d_mmpose", None, head, H36M17)
    return SpaceModel(
        name=spec.name,
        spec=spec,
        build=lambda: _temporal(H36M17, 16, (1, 1, 1), causal=False),
        gflops=0.009,
        params=4_288_560,
        url=f"{_BODY3D}/simple_baseline/{file}",
        sha256_prefix="f0ad73a4",
        mpjpe_mm=43.4,
    )


# mks0601's PoseNet feeds grey levels of 0 to 255 to constants that are meant for 0 to 1: as trained, so as run.
_POSENET_INPUT = Input((256, 256), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_POSENETS = {50: (16.85, 34_291_392), 101: (26.55, 53_283_520), 152: (36.25, 68_927_168)}  # of 18 key points
_POSENET_POINT = (0.1342, 16_448)  # what a key point more costs: GFLOPs, parameters


def _posenets() -> list[SpaceModel]:
    """3DMPPE PoseNet (Moon et al., ICCV 2019): 64 layers of depth a key point; nobody published the files' hashes."""
    return [
        _posenet(depth, dataset, skeleton)
        for depth in _POSENETS
        for dataset, skeleton in (("h36m", H36M18), ("muco", MUCO21))
    ]


def _posenet(depth: int, dataset: str, skeleton: Skeleton) -> SpaceModel:
    name, head = f"posenet_resnet{depth}_{dataset}", Volume((64, 64, 64))
    gflops, params = _POSENETS[depth]
    more = len(skeleton) - len(H36M18)

    def build() -> nn.Module:
        from edgepose.export.networks.simple_baseline import SimpleBaseline  # torch: as above

        return SimpleBaseline(depth, len(skeleton) * head.volume_dhw[0])

    spec = ModelSpec(name, _POSENET_INPUT, head, skeleton, Region())
    return SpaceModel(name, spec, build, gflops + more * _POSENET_POINT[0], params + more * _POSENET_POINT[1])


def _tiny() -> SpaceModel:
    """The embedded one; the file that came out of its training describes it."""
    data = json.loads((WEIGHTS / "lifter_tiny.json").read_text(encoding="utf-8"))
    widths, channels = tuple(data["widths"]), data["channels"]
    head = Lift(math.prod(widths), points=BODY15.name, units="person")
    return SpaceModel(
        name=data["name"],
        spec=ModelSpec(data["name"], None, head, BODY15),
        build=lambda: _temporal(BODY15, len(BODY15), widths, causal=False, channels=channels),
        gflops=data["gflops"],
        params=data["params"],
        embedded=WEIGHTS / "lifter_tiny.pth",
    )
