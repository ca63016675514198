"""Find a network by what the user asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from edgepose.export.zoo import families
from edgepose.export.zoo.bottom_up import bottom_up_names
from edgepose.export.zoo.model import ChoiceError, Model
from edgepose.export.zoo.space import space_names
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets

TRAINED_FOR = {"udp-v0": "udp", "udp-original": "udp", "udp-combined-v0": "udp-combined"}  # other ways to read them


@cache
def models() -> tuple[Model, ...]:
    """All entries, family by family, in the order in which `edgepose models` lists them."""
    names = sorted(module.name for module in iter_modules(families.__path__))
    return tuple(entry for name in names for entry in import_module(f"{families.__name__}.{name}").entries())


ALIASES = {"simplebaseline": "simplebaseline_resnet50"}


def find_model(
    name: str, *, dataset: str | None = None, input_hw: tuple[int, int] | None = None, decoder: str | None = None
) -> Model:
    """The entry of that name; of several the first that fits, so COCO at the smaller input with the plain recipe.

    Args:
        decoder: an entry trained for that decoder if there is one; else the plain entry, read with "argmax",
            "quarter" or "dark", which go with any heat map. One of TRAINED_FOR is how the checkpoint is read,
            whatever its origin.

    Raises:
        ChoiceError: nothing fits; the message lists what there is.
    """
    wanted = ALIASES.get(name, name)
    named = [model for model in models() if model.name == wanted]
    if not named:
        known = ", ".join(
            dict.fromkeys([*ALIASES, *(model.name for model in models()), *space_names(), *bottom_up_names()])
        )
        raise ChoiceError(f"unknown model {name!r}; known: {known}")
    fitting = [
        model for model in named if dataset in (None, model.dataset) and input_hw in (None, model.spec.image.size_hw)
    ]
    if not fitting:
        known = ", ".join(dict.fromkeys(model.label.removeprefix(f"{model.name} ") for model in named))
        asked = " ".join(([dataset] if dataset else []) + (["{}x{}".format(*input_hw)] if input_hw else []))
        raise ChoiceError(f"{name} has no {asked} form; it has: {known}")
    if decoder is None:
        return fitting[0]
    if not isinstance(fitting[0].spec.head, (Heatmaps, HeatmapsWithOffsets)):
        raise ChoiceError(
            f"{fitting[0].label} gives no heat maps (its head is {fitting[0].spec.head.kind}), and is read in one way "
            f"only: leave the decoder out"
        )
    for model in fitting:
        if model.spec.decoder == decoder:
            return model
        if model.spec.decoder == TRAINED_FOR.get(decoder):
            others = {
                key: {name: value for name, value in recipe.items() if name != "decoder"}
                for key, recipe in model.recipes.items()
            }
            return replace(model, spec=model.spec.changed(decoder=decoder), recipes=others)
    if decoder not in ("argmax", "quarter", "dark"):
        raise ChoiceError(f"{fitting[0].label} was not trained for the {decoder} decoder; it goes with quarter or dark")
    return replace(fitting[0], spec=fitting[0].spec.changed(decoder=decoder))
