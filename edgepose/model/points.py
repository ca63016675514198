"""Names, mirror pairs, limbs and OKS constants of hands and faces, which several key-point sets share."""

from __future__ import annotations

from collections.abc import Iterable

Pairs = list[tuple[int, int]]

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def chain(first: int, last: int, *, closed: bool = False) -> Pairs:
    """Limbs from each point to the next, and where `closed` from the last back to the first."""
    limbs = [(index, index + 1) for index in range(first, last)]
    return [*limbs, (last, first)] if closed else limbs


def mirrored(first: int, last: int) -> Pairs:
    """Pairs of a row of points whose middle is the mirror: the first with the last, and so on inwards."""
    return [(first + step, last - step) for step in range((last - first + 1) // 2)]


def shifted(pairs: Iterable[tuple[int, int]], by: int) -> Pairs:
    """The same pairs of points that come later by `by`."""
    return [(first + by, second + by) for first, second in pairs]


def hand_names(root: str, side: str = "") -> list[str]:
    """21 points: the root, then four of each finger from the palm to the tip; `side` is "left_" or "right_"."""
    return [side + root, *(f"{side}{finger}{joint}" for finger in FINGERS for joint in (1, 2, 3, 4))]


HAND_LIMBS = [pair for base in (1, 5, 9, 13, 17) for pair in [(0, base), *chain(base, base + 3)]]

# 300-W's 68 points (Sagonas et al., ICCV Workshops 2013): jaw, brows, nose, eyes, mouth.
FACE68_PAIRS = [
    *mirrored(0, 16),
    *mirrored(17, 26),
    *mirrored(31, 35),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *mirrored(48, 54),
    *mirrored(55, 59),
    *mirrored(60, 64),
    (65, 67),
]
FACE68_LIMBS = [
    *chain(0, 16),
    *chain(17, 21),
    *chain(22, 26),
    *chain(27, 30),
    *chain(31, 35),
    *chain(36, 41, closed=True),
    *chain(42, 47, closed=True),
    *chain(48, 59, closed=True),
    *chain(60, 67, closed=True),
]

_BROW_PAIRS = [(33, 46), (34, 45), (35, 44), (36, 43), (37, 42), (38, 50), (39, 49), (40, 48), (41, 47)]

# WFLW's 98 points (Wu et al., "Look at Boundary", CVPR 2018).
FACE98_PAIRS = [
    *mirrored(0, 32),
    *_BROW_PAIRS,
    *mirrored(55, 59),
    *((60, 72), (61, 71), (62, 70), (63, 69), (64, 68), (65, 75), (66, 74), (67, 73)),
    *mirrored(76, 82),
    *mirrored(83, 87),
    *mirrored(88, 92),
    (93, 95),
    (96, 97),
]
FACE98_LIMBS = [
    *chain(0, 32),
    *chain(33, 41, closed=True),
    *chain(42, 50, closed=True),
    *chain(51, 54),
    *chain(55, 59),
    *chain(60, 67, closed=True),
    *chain(68, 75, closed=True),
    *chain(76, 87, closed=True),
    *chain(88, 95, closed=True),
]

# LaPa's 106 points (Liu et al., "A New Dataset and Boundary-Attention Semantic Segmentation", AAAI 2020).
FACE106_PAIRS = [
    *mirrored(0, 32),
    *_BROW_PAIRS,
    *mirrored(55, 65),
    *((66, 79), (67, 78), (68, 77), (69, 76), (70, 75), (71, 82), (72, 81), (73, 80), (74, 83)),
    *mirrored(84, 90),
    *mirrored(91, 95),
    *mirrored(96, 100),
    *mirrored(101, 103),
    (104, 105),
]
FACE106_LIMBS = [
    *chain(0, 32),
    *chain(33, 41, closed=True),
    *chain(42, 50, closed=True),
    *chain(51, 54),
    *chain(55, 65),
    *chain(66, 73, closed=True),
    *chain(75, 82, closed=True),
    *chain(84, 95, closed=True),
    *chain(96, 103, closed=True),
]

# COCO-WholeBody's constants of feet, face and one hand, in thousandths (jin-s13/COCO-WholeBody `myeval_wholebody.py`).
FOOT_SIGMAS = (68, 66, 66, 92, 94, 94)
FACE68_SIGMAS = (
    *(42, 43, 44, 43, 40, 35, 31, 25, 20, 23, 29, 32, 37, 38, 43, 41, 45),
    *(13, 12, 11, 11, 12, 12, 11, 11, 13, 15),
    *(9, 7, 7, 7, 12, 9, 8, 16, 10),
    *(17, 11, 9, 11, 9, 7, 13, 8, 11, 12, 10, 34),
    *(8, 8, 9, 8, 8, 7, 10, 8, 9, 9, 9, 7, 7, 8, 11, 8, 8, 8, 10, 8),
)
HAND_SIGMAS = (29, 22, 35, 37, 47, 26, 25, 24, 35, 18, 24, 22, 26, 17, 21, 21, 32, 20, 19, 22, 31)
