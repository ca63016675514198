"""edgepose models: what can be exported."""

from __future__ import annotations

import click


@click.command("models")
def command() -> None:
    """List the networks that can be exported, with their published accuracy.

    Accuracy is COCO val2017 AP (flip test, the usual detector's boxes) or MPII PCKh@0.5, as published; GFLOPs count
    a multiply-add as two.
    """
    from edgepose.export.zoo.find import ALIASES, models

    head = ("name", "data set", "input", "key points", "decoder", "GFLOPs", "params", "published", "--weights auto")
    rows = [head]
    for model in models():
        published = model.published
        rows.append(
            (
                model.name,
                model.dataset or "-",
                f"{model.spec.input_hw[0]}x{model.spec.input_hw[1]}",
                str(model.spec.num_keypoints),
                model.spec.decoder,
                f"{model.gflops:.2f}",
                f"{model.params / 1e6:.1f} M",
                model.accuracy,
                published.url.rsplit("/", 1)[1] if published else "in the package" if model.embedded else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for alias, name in ALIASES.items():
        click.echo(f"\n{alias} is {name}.")
