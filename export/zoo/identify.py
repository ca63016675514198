"""Which entry of the zoo a checkpoint of unnamed network belongs to.

Its keys tell the family, the size and the key points; they do not tell the input size, nor whether it was trained
for plain, DARK or UDP decoding. A published file is known by its hash, the name of another often says it; else the
user is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.fingerprint import Family, recognize
from edgepose.export.checkpoints.state_dict import COUNTER, StateDict, read_checkpoint
from edgepose.export.checkpoints.vitpose import EXPERTS, experts_of, is_vitpose, to_original
from edgepose.export.zoo.bottom_up import bottom_up_names
from edgepose.export.zoo.find import find_model, models
from edgepose.export.zoo.model import Model
from edgepose.files import sha256_of

# Files whose place in the zoo others have, mmpose v0's and one trained on more: first 8 digits of the sha256 -> entry.
_EARLIER = {
    "ec54d7f3": ("simplebaseline_resnet50", 256, "quarter"),
    "e6f795e9": ("simplebaseline_resnet50", 384, "quarter"),
    "43379d20": ("simplebaseline_resnet50", 256, "dark"),
    "33d3e5e5": ("simplebaseline_resnet50", 384, "dark"),
    "6e6babf0": ("simplebaseline_resnet101", 256, "quarter"),
    "64d433e6": ("simplebaseline_resnet101", 256, "dark"),
    "cb45c88d": ("simplebaseline_resnet101", 384, "dark"),
    "f6e307c2": ("simplebaseline_resnet152", 256, "quarter"),
    "3860d4c9": ("simplebaseline_resnet152", 384, "quarter"),
    "ab4840d5": ("simplebaseline_resnet152", 256, "dark"),
    "d3b8ebd7": ("simplebaseline_resnet152", 384, "dark"),
    "c78dce93": ("hrnet_w32", 256, "quarter"),
    "d9f0d786": ("hrnet_w32", 384, "quarter"),
    "07f147eb": ("hrnet_w32", 256, "dark"),
    "307dafc2": ("hrnet_w32", 384, "dark"),
    "aba0be42": ("hrnet_w32", 256, "udp"),
    "e97c1a0f": ("hrnet_w32", 384, "udp"),
    "be2dbba4": ("hrnet_w32", 256, "udp-combined"),
    "b9e0b3ab": ("hrnet_w48", 256, "quarter"),
    "314c8528": ("hrnet_w48", 384, "quarter"),
    "8cba3197": ("hrnet_w48", 256, "dark"),
    "e881a4b6": ("hrnet_w48", 384, "dark"),
    "2554c524": ("hrnet_w48", 256, "udp"),
    "0f89c63e": ("hrnet_w48", 384, "udp"),
    "aa4ba095": ("cpm", 256, "quarter"),
    "80feb4bc": ("cpm", 384, "quarter"),
    "b05435b9": ("hrnet_w32", 256, "quarter"),  # v1, trained on AI Challenger's people too, of COCO's key points
}


@dataclass(frozen=True)
class Identified:
    """A checkpoint's entry in the zoo, and by what it was found."""

    model: Model
    evidence: str

    def __str__(self) -> str:
        spec = self.model.spec
        return f"{self.model.label}, {spec.num_keypoints} key points, {spec.decoder} decoder ({self.evidence})"


def identify(
    path: Path, *, dataset: str | None = None, input_hw: tuple[int, int] | None = None, decoder: str | None = None
) -> Identified:
    """The zoo's entry for a checkpoint.

    Args:
        dataset, input_hw, decoder: what the user says of it; None for what the file is to tell.

    Raises:
        CheckpointError: the file cannot be read, is of no network of the zoo, contradicts what the user says, or
            leaves open what the user must say; the message names the options.
    """
    state, origin = read_checkpoint(path)
    if is_vitpose(state):
        of_dataset = EXPERTS.index(dataset) if experts_of(state) and dataset in EXPERTS else 0
        try:
            state = to_original(state, expert=of_dataset)
        except (ValueError, RuntimeError) as error:  # the second is torch's, of shapes that do not go together
            raise CheckpointError(f"{path}: {error}") from error
    family = recognize(state)
    if family is None:
        raise CheckpointError(f"{path} is of no network that edgepose knows: {_nearest(state)}")
    named = [model for model in models() if model.name == family.name]
    entries = [
        model
        for model in named
        if model.spec.channels == family.channels
        and dataset in (None, model.dataset)
        and input_hw in (None, model.spec.image.size_hw)
        and family.input_hw in (None, model.spec.image.size_hw)
    ]
    if not entries:
        raise CheckpointError(f"{path} is {family}, {_what_there_is(family, named, dataset, input_hw)}")
    if published := _published(path, entries):
        decoder = decoder or published.spec.decoder
        entries, evidence = [published], ["a published file, known by its sha256"]
    else:
        given = input_hw or decoder or dataset
        entries, decoder, evidence = _narrow(path, family, entries, decoder, dark_moves=origin == "original")
        evidence += ["the rest as given"] if given else []
    only = entries[0]
    model = find_model(only.name, dataset=only.dataset or None, input_hw=only.spec.image.size_hw, decoder=decoder)
    if model.spec.channels != family.channels:
        fitting = dict.fromkeys(each.spec.decoder for each in named if each.spec.channels == family.channels)
        raise CheckpointError(
            f"{path} is {family}, which are not for the {decoder} decoder but for {' or '.join(fitting)}"
        )
    return Identified(model, ", ".join(evidence))


def find_named(
    path: Path,
    name: str,
    *,
    dataset: str | None = None,
    input_hw: tuple[int, int] | None = None,
    decoder: str | None = None,
) -> tuple[Model, str]:
    """The zoo's entry of a name, as `find_model` finds it, for a checkpoint: what the user leaves open is as the
    checkpoint was published, or as its file name says, or else the first entry's.

    Args:
        dataset, input_hw, decoder: what the user says of it.

    Returns:
        The entry, and a line for the user where something was taken that nobody said; else an empty one.

    Raises:
        ChoiceError: there is no such entry.
    """
    model = find_model(name, dataset=dataset, input_hw=input_hw, decoder=decoder)
    if not path.is_file() or (input_hw and decoder):
        return model, ""
    named = [entry for entry in models() if entry.name == model.name]
    if published := _published(path, [entry for entry in named if dataset in (None, entry.dataset)]):
        spec = published.spec
        model = find_model(
            name,
            dataset=published.dataset,
            input_hw=input_hw or spec.image.size_hw,
            decoder=decoder or spec.decoder,
        )
        return model, f"took {path} for {Identified(model, 'a published file, known by its sha256')}"
    if decoder is None and (hint := decoder_in_name(path.name)):
        return find_model(name, dataset=dataset, input_hw=input_hw, decoder=hint), ""
    size, channels = model.spec.image.size_hw, model.spec.channels
    alike = [
        entry.spec.decoder
        for entry in named
        if (entry.dataset, entry.spec.image.size_hw, entry.spec.channels) == (model.dataset, size, channels)
    ]
    others = [other for other in dict.fromkeys(alike) if other != model.spec.decoder]
    if decoder is None and others and _recipe_matters(model.name):
        return model, (
            f"{path} does not tell how it was trained: it is read by the plain recipe; if it had another, give "
            f"--decoder {' or '.join(others)} (for DarkPose's own files --decoder dark --alignment darkpose)"
        )
    return model, ""


def decoder_in_name(file_name: str) -> str | None:
    """The decoder for which a file of this name was trained, as its publishers name their files."""
    name = file_name.lower()
    if "udp" in name:
        return "udp-combined" if "regress" in name or "combined" in name else "udp"
    return "dark" if "dark" in name else None


def _narrow(
    path: Path, family: Family, entries: Sequence[Model], decoder: str | None, *, dark_moves: bool
) -> tuple[list[Model], str, list[str]]:
    """The entries of one size, the decoder, and the evidence; a CheckpointError if the file's name leaves one open.

    Args:
        dark_moves: the file may come from DarkPose's own training, which has another alignment.
    """
    evidence, questions = ["by its keys"], []
    sizes = list(dict.fromkeys(_size(model) for model in entries))
    size = _only(sizes, [size for size in sizes if size in path.name])
    if size is None:
        questions.append(f"its input size: give --input {' or '.join(sizes)}")
    elif len(sizes) > 1:
        evidence.append("the input by its name")
    decoders = list(dict.fromkeys(model.spec.decoder for model in entries))
    in_name = [name for name in [decoder_in_name(path.name)] if name in decoders]
    if decoder is None and len(decoders) > 1 and in_name:
        evidence.append("the recipe by its name")
    decoder = decoder or _only(decoders, in_name or ([] if _recipe_matters(family.name) else ["quarter"]))
    if decoder is None:
        darkpose = ", for DarkPose's own files --decoder dark --alignment darkpose" if dark_moves else ""
        plain = "quarter is the plain recipe"
        questions.append(f"how it was trained: give --decoder {' or '.join(decoders)} ({plain}{darkpose})")
    if size is None or decoder is None:
        raise CheckpointError(f"{path} is {family}, but a checkpoint does not tell {'; nor '.join(questions)}")
    return [model for model in entries if _size(model) == size], decoder, evidence


def _recipe_matters(name: str) -> bool:
    """Whether a network's recipes lay pixels differently: a wrong guess would move every key point."""
    return len({model.spec.crop.alignment for model in models() if model.name == name}) > 1


def _only(choices: Sequence[str], hints: Sequence[str]) -> str | None:
    """The one of several that there is or that is hinted at."""
    left = choices if len(choices) == 1 else hints
    return left[0] if len(left) == 1 else None


def _published(path: Path, entries: Sequence[Model]) -> Model | None:
    digest = sha256_of(path)
    for model in entries:
        if model.published and digest.startswith(model.published.sha256_prefix):
            return model
        place = (model.name, model.spec.image.size_hw[0], model.spec.decoder)
        if model.dataset == "coco" and _EARLIER.get(digest[:8]) == place:
            return model
    return None


def _nearest(state: StateDict) -> str:
    """The network whose keys a state dict that is of none comes nearest to, or how its keys begin."""
    found = {key for key in state if not key.endswith(COUNTER)}
    nearest, best, missing = "", (0.5, 0), [""]  # less than half in common is no likeness, but of a part of a network
    for name, style in dict.fromkeys((model.name, style) for model in models() for style in model.styles):
        with torch.device("meta"):  # names and shapes only
            wanted = find_model(name).build(style).state_dict()
        keys = [key for key in wanted if not key.endswith(COUNTER)]
        alike = sum(key in found and state[key].shape == wanted[key].shape for key in keys)
        likeness = (len(found.intersection(keys)) / len(found.union(keys)), alike)
        is_part = not nearest and len(found) > 1 and found.issubset(keys)
        if likeness > best or is_part:
            nearest, best, missing = name, likeness, [key for key in keys if key not in found]
    if not nearest:
        return f"its {len(state)} keys begin with {next(iter(state))}; edgepose models lists the networks"
    return (
        f"it comes nearest to {nearest}, of whose keys {len(missing)} are missing (first: {missing[0]}); "
        f"save or fetch the file again"
    )


def _what_there_is(
    family: Family, named: Sequence[Model], dataset: str | None, input_hw: tuple[int, int] | None
) -> str:
    if family.name in bottom_up_names():
        return f"a network of whole images: edgepose export --model {family.name} takes it"
    if not named:
        names = ", ".join(dict.fromkeys(model.name for model in models()))
        return f"which edgepose does not export; it exports {names}"
    of_dataset = {model.spec.channels for model in named if model.dataset == dataset}
    fitting = dict.fromkeys(model.dataset for model in named if model.spec.channels == family.channels)
    if dataset and of_dataset and fitting and family.channels not in of_dataset:
        counts = " or ".join(map(str, sorted(of_dataset)))
        return f"but {dataset} has {counts}: this file's head fits --dataset {' or '.join(fitting)}"
    forms = dict.fromkeys(
        f"{model.dataset} {_size(model)} with {model.spec.channels} channels".strip() for model in named
    )
    asked = [*filter(None, [dataset]), *(["{}x{}".format(*input_hw)] if input_hw else [])]
    wanted = f", not for {' '.join(asked)}" if asked else ""
    return f"but {family.name} is exported for: {', '.join(forms)}{wanted}"


def _size(model: Model) -> str:
    return "{}x{}".format(*model.spec.image.size_hw)
