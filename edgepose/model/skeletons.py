"""Key-point sets: names, mirror pairs, limbs and OKS constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepose.errors import ModelFileError
from edgepose.model import points


@dataclass(frozen=True)
class Skeleton:
    """What a model's K channels mean.

    Attributes:
        name: how messages and passports call it.
        keypoints: K names, in channel order; left_/right_ are the person's own sides.
        flip_pairs: index pairs that change places in a mirrored image.
        limbs: index pairs to draw as lines.
        sigmas: K constants of object key-point similarity (COCO's, e = d^2 / (2 sigma)^2 / area / 2);
            empty where none are published.
        eye_corners: of faces the two outer corners, whose distance is the unit of NME; empty for others.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    eye_corners: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if (count == 0 and self.name != "none") or len(set(self.keypoints)) != count:
            raise ValueError(f"skeleton {self.name!r} needs distinct key-point names, got {self.keypoints}")
        for pair in (*self.flip_pairs, *self.limbs, *([self.eye_corners] if self.eye_corners else [])):
            if len(pair) != 2 or not all(isinstance(index, int) and 0 <= index < count for index in pair):
                raise ValueError(f"skeleton {self.name!r} has {count} key points, but a pair {pair}")
        mirrored = [index for pair in self.flip_pairs for index in pair]
        if len(set(mirrored)) != len(mirrored):
            raise ValueError(f"skeleton {self.name!r} names a key point in two flip pairs: {self.flip_pairs}")
        if self.sigmas and len(self.sigmas) != count:
            raise ValueError(f"skeleton {self.name!r} has {count} key points, but {len(self.sigmas)} sigmas")
        if not all(0 < sigma < 10 for sigma in self.sigmas):  # False for NaN
            raise ValueError(f"skeleton {self.name!r} has sigmas that are not small positive numbers: {self.sigmas}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_order(self) -> list[int]:
        """The channel order of a mirrored person: out[k] = mirrored[flip_order[k]]."""
        order = list(range(len(self.keypoints)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    def to_json(self) -> dict[str, Any] | str:
        """The name of a built-in skeleton, or the whole of another."""
        if SKELETONS.get(self.name) == self:
            return self.name
        told = {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "limbs": [list(pair) for pair in self.limbs],
            "sigmas": list(self.sigmas),
        }
        return told | ({"eye_corners": list(self.eye_corners)} if self.eye_corners else {})

    @classmethod
    def from_json(cls, data: Any) -> Skeleton:
        """Read what `to_json` wrote; flip pairs left out are found from left_/right_ names."""
        if isinstance(data, str):
            if data not in SKELETONS:
                raise ModelFileError(f"unknown skeleton {data!r}; known: {', '.join(sorted(SKELETONS))}")
            return SKELETONS[data]
        try:
            keypoints = tuple(data["keypoints"])
            if not (isinstance(data["keypoints"], list) and all(isinstance(name, str) for name in keypoints)):
                raise TypeError(f"keypoints must be a list of names, got {data['keypoints']!r}")
            pairs = data["flip_pairs"] if "flip_pairs" in data else pairs_from_names(keypoints)
            return cls(
                name=str(data.get("name", "custom")),
                keypoints=keypoints,
                flip_pairs=tuple((a, b) for a, b in pairs),
                limbs=tuple((a, b) for a, b in data.get("limbs", ())),
                sigmas=tuple(float(sigma) for sigma in data.get("sigmas", ())),
                eye_corners=tuple(data.get("eye_corners", ())),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelFileError(
                f"a skeleton must be a known name ({', '.join(sorted(SKELETONS))}) or an object "
                f"with 'keypoints' (names) and optional 'flip_pairs', 'limbs', 'sigmas', 'eye_corners': {error}"
            ) from error


def pairs_from_names(keypoints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Mirror pairs of names that differ in left_/right_ only."""
    index = {name: i for i, name in enumerate(keypoints)}
    return tuple(
        (i, index["right_" + name[5:]])
        for name, i in index.items()
        if name.startswith("left_") and "right_" + name[5:] in index
    )


def _skeleton(name: str, keypoints: str, limbs: str, sigmas: tuple[float, ...] = ()) -> Skeleton:
    names = tuple(keypoints.split())
    index = {key: i for i, key in enumerate(names)}
    pairs = [limb.split("-") for limb in limbs.split()]
    return Skeleton(name, names, pairs_from_names(names), tuple((index[a], index[b]) for a, b in pairs), sigmas)


# Order, pairs and sigmas: COCO key-point challenge (cocodataset.org, pycocotools Params.kpt_oks_sigmas).
COCO17 = _skeleton(
    "coco17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    "left_ankle-left_knee left_knee-left_hip right_ankle-right_knee right_knee-right_hip left_hip-right_hip "
    "left_shoulder-left_hip right_shoulder-right_hip left_shoulder-right_shoulder left_shoulder-left_elbow "
    "right_shoulder-right_elbow left_elbow-left_wrist right_elbow-right_wrist nose-left_eye nose-right_eye "
    "left_eye-left_ear right_eye-right_ear left_ear-left_shoulder right_ear-right_shoulder",
    (
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ),
)

# Order: MPII Human Pose (Andriluka et al., CVPR 2014), as in its published annotations.
MPII16 = _skeleton(
    "mpii16",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    "right_ankle-right_knee right_knee-right_hip right_hip-pelvis left_hip-pelvis left_knee-left_hip "
    "left_ankle-left_knee pelvis-thorax thorax-upper_neck upper_neck-head_top right_wrist-right_elbow "
    "right_elbow-right_shoulder right_shoulder-thorax left_shoulder-thorax left_elbow-left_shoulder "
    "left_wrist-left_elbow",
)

_BODY_LIMBS = (
    "left_ankle-left_knee left_knee-left_hip right_ankle-right_knee right_knee-right_hip "
    "left_shoulder-left_elbow right_shoulder-right_elbow left_elbow-left_wrist right_elbow-right_wrist "
)
_TRUNK_LIMBS = "left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip left_shoulder-right_shoulder "

# Order and pairs: Halpe-FullBody's first 26 points (Fang-Haoshu/Halpe-FullBody; Li et al., PaStaNet, CVPR 2020).
# Sigmas: its HalpeCOCOAPI, halpecocotools/cocoeval.py.
HALPE26 = _skeleton(
    "halpe26",
    " ".join(COCO17.keypoints) + " head neck hip left_big_toe right_big_toe left_small_toe right_small_toe "
    "left_heel right_heel",
    _BODY_LIMBS + "left_hip-hip right_hip-hip head-neck neck-hip neck-left_shoulder neck-right_shoulder "
    "left_eye-right_eye nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear left_ear-left_shoulder "
    "right_ear-right_shoulder left_ankle-left_big_toe left_ankle-left_small_toe left_ankle-left_heel "
    "right_ankle-right_big_toe right_ankle-right_small_toe right_ankle-right_heel",
    (*COCO17.sigmas, 0.026, 0.026, 0.066, *[0.079] * 6),
)

# Order: AI Challenger (Wu et al., "AI Challenger", 2017). Sigmas: half of the deltas in its keypoint_eval.py.
AIC14 = _skeleton(
    "aic14",
    "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee right_ankle "
    "left_hip left_knee left_ankle head_top neck",
    _BODY_LIMBS + "right_hip-left_hip left_shoulder-left_hip right_shoulder-right_hip right_shoulder-neck "
    "left_shoulder-neck head_top-neck",
    (
        *(0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642, 0.03686941),
        *(0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173),
    ),
)

# Order and sigmas: CrowdPose (Li et al., CVPR 2019; Jeff-sjtu/CrowdPose, crowdposetools/cocoeval.py).
CROWDPOSE14 = _skeleton(
    "crowdpose14",
    "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee "
    "right_knee left_ankle right_ankle top_head neck",
    _BODY_LIMBS + _TRUNK_LIMBS + "top_head-neck right_shoulder-neck left_shoulder-neck",
    (0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)

# Order: OpenPose's COCO model (CMU-Perceptual-Computing-Lab/openpose), which lightweight OpenPose and
# tf-pose-estimation share. Sigmas: COCO's, and the neck's as lightweight OpenPose has it (modules/pose.py).
OPENPOSE18 = _skeleton(
    "openpose18",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
    _BODY_LIMBS + "neck-right_shoulder neck-left_shoulder neck-right_hip neck-left_hip neck-nose nose-right_eye "
    "right_eye-right_ear nose-left_eye left_eye-left_ear",
    (0.026, 0.079, *[0.079, 0.072, 0.062] * 2, *[0.107, 0.087, 0.089] * 2, 0.025, 0.025, 0.035, 0.035),
)

# Order: PoseTrack18 (Andriluka et al., CVPR 2018). Sigmas: COCO's, index by index, as mmpose evaluates it.
POSETRACK17 = _skeleton(
    "posetrack17",
    "nose head_bottom head_top " + " ".join(COCO17.keypoints[3:]),
    _BODY_LIMBS + _TRUNK_LIMBS + "nose-head_bottom nose-head_top head_bottom-left_shoulder head_bottom-right_shoulder",
    COCO17.sigmas,
)

# Order: MediaPipe's Pose Landmarker (Bazarevsky et al., "BlazePose", 2020); nobody published sigmas.
BLAZEPOSE33 = _skeleton(
    "blazepose33",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
    "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
    "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle left_heel right_heel left_foot_index right_foot_index",
    _BODY_LIMBS + _TRUNK_LIMBS + "nose-left_eye_inner left_eye_inner-left_eye left_eye-left_eye_outer "
    "left_eye_outer-left_ear nose-right_eye_inner right_eye_inner-right_eye right_eye-right_eye_outer "
    "right_eye_outer-right_ear left_mouth-right_mouth left_wrist-left_pinky left_wrist-left_index "
    "left_wrist-left_thumb left_pinky-left_index right_wrist-right_pinky right_wrist-right_index "
    "right_wrist-right_thumb right_pinky-right_index left_ankle-left_heel left_heel-left_foot_index "
    "left_ankle-left_foot_index right_ankle-right_heel right_heel-right_foot_index right_ankle-right_foot_index",
)

# Order: OneHand10K, FreiHAND and COCO-WholeBody's hands (wrist, then thumb to little finger); nobody published sigmas.
HAND21 = Skeleton("hand21", tuple(points.hand_names("wrist")), (), tuple(points.HAND_LIMBS))


def _face(
    name: str, count: int, pairs: Sequence[tuple[int, int]], limbs: Sequence[tuple[int, int]], corners: tuple[int, int]
) -> Skeleton:
    names = tuple(f"face_{index}" for index in range(count))
    return Skeleton(name, names, tuple(pairs), tuple(limbs), eye_corners=corners)


# WFLW and LaPa; no sigmas published. Eye corners: mmpose 1.x, `DEFAULT_KEYPOINT_INDICES` of its NME.
FACE98 = _face("face98", 98, points.FACE98_PAIRS, points.FACE98_LIMBS, (60, 72))
FACE106 = _face("face106", 106, points.FACE106_PAIRS, points.FACE106_LIMBS, (66, 79))


def _whole_body() -> Skeleton:
    """Body, feet, face, left hand, right hand."""
    feet = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
    face = [f"face_{index}" for index in range(68)]
    hands = [name for side in ("left_", "right_") for name in points.hand_names("hand_root", side)]
    names = (*COCO17.keypoints, *feet, *face, *hands)
    at = {name: index for index, name in enumerate(names)}
    to_feet = [(at[f"{side}_ankle"], at[foot]) for side in ("left", "right") for foot in feet if foot.startswith(side)]
    to_hands = [(at[f"{side}_wrist"], at[f"{side}_hand_root"]) for side in ("left", "right")]
    of_hands = [pair for root in (91, 112) for pair in points.shifted(points.HAND_LIMBS, root)]
    thousandths = (*points.FOOT_SIGMAS, *points.FACE68_SIGMAS, *points.HAND_SIGMAS, *points.HAND_SIGMAS)
    return Skeleton(
        "wholebody133",
        names,
        (*pairs_from_names(names), *points.shifted(points.FACE68_PAIRS, 23)),
        (*COCO17.limbs, *to_feet, *points.shifted(points.FACE68_LIMBS, 23), *to_hands, *of_hands),
        (*COCO17.sigmas, *(value / 1000 for value in thousandths)),
    )


# Order: COCO-WholeBody (Jin et al., ECCV 2020). Sigmas: its myeval_wholebody.py.
WHOLEBODY133 = _whole_body()

# Order: the 17 key points of Human3.6M (Ionescu et al., TPAMI 2014) that Martinez et al. (ICCV 2017) and VideoPose3D
# keep of its 32. Both call the tenth "Neck/Nose" and the eleventh "Head".
H36M17 = _skeleton(
    "h36m17",
    "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head "
    "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
    "pelvis-right_hip right_hip-right_knee right_knee-right_ankle pelvis-left_hip left_hip-left_knee "
    "left_knee-left_ankle pelvis-spine spine-thorax thorax-nose nose-head thorax-left_shoulder "
    "left_shoulder-left_elbow left_elbow-left_wrist thorax-right_shoulder right_shoulder-right_elbow "
    "right_elbow-right_wrist",
)


def _without(skeleton: Skeleton, name: str, *left_out: str) -> Skeleton:
    """The skeleton without some key points, and without the limbs that end in them."""
    names = " ".join(key for key in skeleton.keypoints if key not in left_out)
    ends = ([skeleton.keypoints[index] for index in limb] for limb in skeleton.limbs)
    return _skeleton(name, names, " ".join(f"{a}-{b}" for a, b in ends if a not in left_out and b not in left_out))


# Order: mks0601's 3DMPPE PoseNet, of Human3.6M with the middle of the shoulders added, and of MuCo-3DHP.
H36M18 = _skeleton(
    "h36m18",
    " ".join(H36M17.keypoints).replace("thorax", "neck") + " thorax",
    "pelvis-spine spine-neck neck-nose nose-head neck-left_shoulder left_shoulder-left_elbow left_elbow-left_wrist "
    "neck-right_shoulder right_shoulder-right_elbow right_elbow-right_wrist pelvis-right_hip right_hip-right_knee "
    "right_knee-right_ankle pelvis-left_hip left_hip-left_knee left_knee-left_ankle",
)
MUCO21 = _skeleton(
    "muco21",
    "head_top thorax right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle pelvis spine head right_hand left_hand right_toe left_toe",
    "head_top-head head-thorax thorax-spine spine-pelvis pelvis-right_hip pelvis-left_hip right_hip-right_knee "
    "right_knee-right_ankle right_ankle-right_toe left_hip-left_knee left_knee-left_ankle left_ankle-left_toe "
    "thorax-right_shoulder right_shoulder-right_elbow right_elbow-right_wrist right_wrist-right_hand "
    "thorax-left_shoulder left_shoulder-left_elbow left_elbow-left_wrist left_wrist-left_hand",
)
H36M16 = _without(H36M17, "h36m16", "nose")  # what Martinez et al. lift: stacked hourglasses find no "Neck/Nose"
BODY15 = _without(H36M17, "body15", "nose", "head")  # trunk and limbs, which COCO-17 and MPII-16 both tell

NO_KEYPOINTS = Skeleton("none", (), ())  # of a network that finds boxes only

SKELETONS = {
    skeleton.name: skeleton
    for skeleton in (
        *(COCO17, MPII16, HALPE26, AIC14, CROWDPOSE14, POSETRACK17, OPENPOSE18, WHOLEBODY133),
        *(BLAZEPOSE33, HAND21, FACE98, FACE106),
        *(H36M17, H36M16, H36M18, BODY15, MUCO21),
    )
}
