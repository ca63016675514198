"""edgepose models: what can be exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

COLUMNS = ("GFLOPs", "parameters", "published", "licence", "file")  # the last ones of each table
LICENCES = (
    "Licences are those of the publishers' repositories; what a network was trained on may bring terms of its own. "
    "simplebaseline_keras takes your own weights."
)


@click.command("models")
@click.option("--markdown", is_flag=True, help="As the tables of docs/models.md, with the addresses of the files.")
def command(markdown: bool) -> None:
    """List the networks that can be exported, with their published accuracy.

    Accuracy is COCO val2017 AP (flip test, the usual detector's boxes) or MPII PCKh@0.5, as published; GFLOPs count
    a multiply-add as two.
    """
    from edgepose.export.zoo.bottom_up import bottom_up_models
    from edgepose.export.zoo.find import ALIASES, models
    from edgepose.export.zoo.space import space_models
    from edgepose.io.columns import aligned

    if markdown:
        tables = (_markdown(models()), _whole_markdown(bottom_up_models()), _space_markdown(space_models()))
        for line in (*tables[0], "", *tables[1], "", *tables[2]):
            click.echo(line)
        return
    head = (
        "name",
        "data set",
        "input",
        "key points",
        "decoder",
        "GFLOPs",
        "params",
        "published",
        "licence",
        "--weights auto",
    )
    rows = [head]
    for model in models():
        published = model.published
        rows.append(
            (
                model.name,
                model.dataset or "-",
                f"{model.spec.image.size_hw[0]}x{model.spec.image.size_hw[1]}",
                str(model.spec.num_keypoints),
                model.spec.decoder,
                f"{model.gflops:.2f}",
                f"{model.params / 1e6:.1f} M",
                model.accuracy,
                model.licence,
                published.url.rsplit("/", 1)[1] if published else "in the package" if model.embedded else "-",
            )
        )
    click.echo("\n".join(aligned(rows)))
    for alias, name in ALIASES.items():
        click.echo(f"\n{alias} is {name}.")
    click.echo("\nPositions in space; published: MPJPE on Human3.6M. GFLOPs of one window of frames, or of one crop.\n")
    space = [("name", "input", "key points", "GFLOPs", "params", "published", "licence", "--weights auto")]
    for each in space_models():
        file = each.url.rsplit("/", 1)[1] if each.url else "in the package" if each.embedded else "-"
        size = "x".join(str(side) for shape in each.spec.inputs.values() for side in shape)
        cost = (f"{each.gflops:.3f}", f"{each.params / 1e6:.1f} M")
        space.append((each.name, size, each.spec.skeleton.name, *cost, each.accuracy, each.licence, file))
    click.echo("\n".join(aligned(space)))
    click.echo("\nWhole images, everybody in them; published: COCO val2017 AP.\n")
    whole = [("name", "input", "head", "GFLOPs", "params", "published", "licence", "--weights auto")]
    for one in bottom_up_models():
        file = one.url.rsplit("/", 1)[1] if one.url else "-"
        size = "{}x{}".format(*one.spec.image.size_hw)
        cost = (f"{one.gflops:.2f}", f"{one.params / 1e6:.1f} M")
        whole.append((one.name, size, one.spec.head.kind, *cost, one.accuracy, one.licence, file))
    click.echo("\n".join(aligned(whole)))
    click.echo(f"\n{LICENCES}")


def _markdown(models: Sequence[Any]) -> list[str]:
    """The table of docs/models.md, line by line, from the zoo's entries."""
    head = (
        "model",
        "data set",
        "input",
        "decoder",
        "key points",
        *COLUMNS,
    )
    rows = []
    for model in models:
        if model.published:
            file = f"[{model.published.sha256_prefix}]({model.published.url})"
        else:
            file = "in the package" if model.embedded else model.by_hand.file if model.by_hand else "-"
        rows.append(
            (
                f"`{model.name}`",
                model.dataset or "-",
                f"{model.spec.image.size_hw[0]}x{model.spec.image.size_hw[1]}",
                model.spec.decoder,
                str(model.spec.num_keypoints),
                f"{model.gflops:.1f}",
                f"{model.params / 1e6:.1f} M",
                model.accuracy,
                model.licence,
                file,
            )
        )
    return _lines(head, rows)


def _whole_markdown(models: Sequence[Any]) -> list[str]:
    """The table of the networks that find everybody in a whole image."""
    head = (
        "model of whole images",
        "input",
        "head",
        "key points",
        *COLUMNS,
    )
    rows = []
    for model in models:
        size = "{}x{}".format(*model.spec.image.size_hw)
        cost = (f"{model.gflops:.1f}", f"{model.params / 1e6:.1f} M")
        file = f"[{model.sha256_prefix}]({model.url})" if model.url else model.by_hand or "-"
        points = str(len(model.spec.skeleton))
        rows.append((f"`{model.name}`", size, model.spec.head.kind, points, *cost, model.accuracy, model.licence, file))
    return _lines(head, rows)


def _space_markdown(models: Sequence[Any]) -> list[str]:
    """The table of lifters, and of networks that find positions in space from a crop."""
    head = (
        "model of positions in space",
        "input",
        "head",
        "skeleton",
        *COLUMNS,
    )
    rows = []
    for model in models:
        size = "x".join(str(side) for shape in model.spec.inputs.values() for side in shape)
        cost = (f"{model.gflops:.3f}", f"{model.params / 1e6:.1f} M")
        file = f"[{model.sha256_prefix}]({model.url})" if model.url else "in the package" if model.embedded else "-"
        rows.append(
            (
                f"`{model.name}`",
                size,
                model.spec.head.kind,
                model.spec.skeleton.name,
                *cost,
                model.accuracy,
                model.licence,
                file,
            )
        )
    return _lines(head, rows)


def _lines(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
