"""Stacked Hourglass with 1, 2 and 8 stacks, in its two published forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepose.export.zoo.model import ByHand, Model, spec_of

if TYPE_CHECKING:
    from torch import nn

_STACKED: dict[int, tuple[float, int, ByHand | None]] = {  # stacks -> GFLOPs, parameters, both of the first style; file
    1: (11.61, 3_586_960, None),
    2: (17.98, 6_730_912, ByHand("princeton-vl's 2HG checkpoint.pt", 0.883)),
    8: (56.19, 25_594_624, ByHand("princeton-vl's 8HG checkpoint.pt", 0.902)),
}
# Grey levels; neither divides by a standard deviation. Princeton's code also moves peaks on the border, outwards.
_STACKED_RECIPES: dict[str, dict[str, Any]] = {
    "bearpaw": {"mean": (112.302, 113.22, 110.3385), "std": (255.0, 255.0, 255.0)},  # 255 * (.4404, .4440, .4327)
    "princeton": {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)},
}


def entries() -> list[Model]:
    """1, 2 and 8 stacks in the two published forms; both are on drives without a stable address."""
    return [_stacked_hourglass_entry(stacks, *entry) for stacks, entry in _STACKED.items()]


def _stacked_hourglass_entry(stacks: int, gflops: float, params: int, by_hand: ByHand | None) -> Model:
    spec = spec_of(
        f"stacked_hourglass_{stacks}",
        ("mpii", 256, 256),
        alignment="half-pixel",
        flip_shift=0,
        quarter_guard="interior",
    )

    def build(style: str) -> nn.Module:
        from edgepose.export.networks import stacked_hourglass  # torch: not for a mere list of names

        form = {"bearpaw": stacked_hourglass.BearpawHourglass, "princeton": stacked_hourglass.PrincetonHourglass}
        return form[style](stacks, spec.num_keypoints)

    return Model(
        name=spec.name,
        dataset="mpii",
        spec=spec,
        build=build,
        gflops=gflops,
        params=params,
        by_hand=by_hand,
        styles=tuple(_STACKED_RECIPES),
        recipes=_STACKED_RECIPES,
    )
