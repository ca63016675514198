"""edgepose export: checkpoint to verified ONNX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgepose.model.heads.heatmaps import DECODERS


def _input_hw(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value)
    if not match:
        raise click.BadParameter(f"{value[:40]!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(match[1]), int(match[2])


@click.command("export")
@click.option(
    "--model",
    help="A name from `edgepose models`, such as simplebaseline.  [default: what --weights FILE is recognised as]",
)
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="auto|random|FILE",
    help="auto: the published checkpoint, fetched once into a cache ($EDGEPOSE_CACHE); random: for timing only; FILE: "
    "a PyTorch checkpoint, or Keras's .h5, .weights.h5 or .npz for simplebaseline_keras.",
)
@click.option(
    "--input",
    "input_hw",
    callback=_input_hw,
    metavar="HxW",
    help="Input size.  [default: a published FILE's, else the smallest]",
)
@click.option(
    "--dataset",
    help="What it was trained on, as edgepose models lists it; of ViTPose+ also which expert.  [default: coco]",
)
@click.option(
    "--decoder",
    type=click.Choice(DECODERS),
    help="How its heat maps are read; with auto, also which checkpoint is fetched.  udp and "
    "udp-combined are read as a FILE's publisher does, the others as said.  "
    "[default: a published FILE's, or dark or udp for a FILE whose name says so, else quarter]",
)
@click.option(
    "--style",
    type=click.Choice(("pytorch", "caffe", "bearpaw", "princeton", "torch", "tf")),
    help="SimpleBaseline: where a bottleneck of ResNet-50 and deeper has its stride, which a checkpoint does not "
    "tell; Stacked Hourglass: whose form, which a checkpoint tells; "
    "simplebaseline_keras: the preprocess_input mode it was trained with, torch (ImageNet mean and deviation), caffe "
    "or tf, which a weight file does not tell.  "
    "[default: caffe for a FILE whose name says so, else what FILE fits, else the first]",
)
@click.option(
    "--color",
    type=click.Choice(("rgb", "bgr")),
    help="Order of the colours it was trained on.  "
    "[default: by the checkpoint's names; Microsoft's and leoxiaobin's pose_resnet: bgr, mmpose's: rgb]",
)
@click.option(
    "--alignment",
    type=click.Choice(("corner", "darkpose")),
    help="darkpose: for checkpoints of DarkPose's own training, which lays pixels differently.  "
    "[default: what the network is known for]",
)
@click.option(
    "--statistics",
    type=click.Path(path_type=Path),
    help="Lifters of Martinez' kind: JSON with input_mean, input_std, output_mean and output_std of their training.",
)
@click.option(
    "--fp16-io", is_flag=True, help="FP16 crops and heat maps in NAME.fp16.onnx: half the bytes at both ends."
)
@click.option("-o", "--output-dir", type=click.Path(path_type=Path), default=".", help="Default: this folder.")
def command(
    model: str | None,
    weights: str,
    input_hw: tuple[int, int] | None,
    dataset: str | None,
    decoder: str | None,
    style: str | None,
    color: str | None,
    alignment: str | None,
    statistics: Path | None,
    fp16_io: bool,
    output_dir: Path,
) -> None:
    """Turn a network and its weights into NAME.onnx and NAME.fp16.onnx, and check that they compute the same.

    Each file gets a passport (NAME.onnx.json) that tells the other commands how to feed and read it.
    """
    from edgepose.export import require_workstation

    require_workstation()
    from edgepose.export.zoo.bottom_up import bottom_up_names
    from edgepose.export.zoo.model import ChoiceError
    from edgepose.export.zoo.space import space_names

    recipe = {"style": style, "color": color, "alignment": alignment}
    trained = {"dataset": dataset, "decoder": decoder}
    try:
        if model in space_names():
            _refuse(model, "--weights, --statistics and -o", input_hw, fp16_io, *trained.values(), *recipe.values())
            _export_into_space(model, statistics, output_dir, weights)
            return
        if statistics is not None:
            raise click.UsageError("--statistics goes with a lifter")
        if model is None and weights not in ("auto", "random"):
            model = _bottom_up_name(Path(weights))
        if model in bottom_up_names():
            _refuse(model, "--weights, --input and -o", fp16_io, *trained.values(), *recipe.values())
            _export_bottom_up(model, output_dir, weights, input_hw)
            return
        half = _export_crops(model, output_dir, weights, {"input_hw": input_hw, **trained}, recipe)
    except ChoiceError as error:
        raise click.UsageError(str(error)) from error
    if fp16_io:
        from edgepose.export.graph.half_io import halve_io

        halve_io(half)
        click.echo(f"{half} takes and gives FP16")


def _refuse(model: str | None, taken: str, *others: object) -> None:
    if any(others):
        raise click.UsageError(f"of the options {model} takes {taken} only")


def _step(step: str) -> None:
    click.echo(step, err=True)


def _export_into_space(model: str, statistics: Path | None, output_dir: Path, weights: str) -> None:
    from edgepose.export.space import export_space_model, space_model

    done = export_space_model(space_model(model, statistics), output_dir, weights=weights, report=_step)
    click.echo(done.summary())


def _export_bottom_up(model: str, output_dir: Path, weights: str, input_hw: tuple[int, int] | None) -> None:
    from edgepose.export.bottom_up import export_bottom_up_model
    from edgepose.export.zoo.bottom_up import find_bottom_up_model

    found = find_bottom_up_model(model)
    done = export_bottom_up_model(found, output_dir, weights=weights, input_hw=input_hw, report=_step)
    click.echo(done.summary())


def _export_crops(
    model: str | None, output_dir: Path, weights: str, wanted: Mapping[str, Any], recipe: Mapping[str, str | None]
) -> Path:
    """Find the entry of the zoo by its name, its checkpoint, or both, and export it; the FP16 file."""
    from edgepose.export.pipeline import export_model
    from edgepose.export.zoo.find import find_model
    from edgepose.export.zoo.identify import find_named, identify

    note, decoder = "", wanted["decoder"]
    if model and weights in ("auto", "random"):
        chosen = find_model(model, **wanted)
    elif model:
        chosen, note = find_named(Path(weights), model, **wanted)
        decoder = chosen.spec.decoder
    elif weights in ("auto", "random"):
        raise click.UsageError(f"--weights {weights} needs a --model: edgepose models lists them")
    else:
        identified = identify(Path(weights), **wanted)
        click.echo(f"took {weights} for {identified}")
        chosen, decoder = identified.model, identified.model.spec.decoder
    exported = export_model(chosen, output_dir, weights=weights, decoder=decoder, report=_step, **recipe)
    if note:  # of a file that turned out to be whole
        click.echo(note, err=True)
    click.echo(exported.summary())
    return exported.fp16


def _bottom_up_name(checkpoint: Path) -> str | None:
    """The bottom-up network whose keys a checkpoint has; None for others, which are looked at elsewhere."""
    from edgepose.export.checkpoints.fingerprint import recognize
    from edgepose.export.checkpoints.state_dict import read_checkpoint
    from edgepose.export.zoo.bottom_up import bottom_up_names

    family = recognize(read_checkpoint(checkpoint)[0])
    if family is None or family.name not in bottom_up_names():
        return None
    click.echo(f"took {checkpoint} for {family.name} (by its keys)")
    return family.name
