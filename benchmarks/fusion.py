"""How TensorRT fuses FP16 and INT8 files: layers, kernels that only quantise, and what the multiply-adds run in.

    python -m edgepose.benchmarks.fusion m.fp16.onnx m.int8.onnx [...] [--target sm_86] [--runtime tensorrt_rtx]

builds each file and reads TensorRT's layer information. With TensorRT it builds for the GPU of this machine; TensorRT
for RTX builds for a named --target without a GPU, too. The plans are thrown away. No speed is measured here:
`edgepose build --best` does that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from edgepose.errors import EdgeposeError
from edgepose.model.computes import Computes
from edgepose.trt.build import build_engine
from edgepose.trt.options import BuildOptions, parse_targets

HEAD = ("file", "layers", "with weights", "quantise on their own", "reformat", "multiply-adds", "in what the ONNX says")


def fusion_rows(
    files: Sequence[Path], options: BuildOptions, runtime: str | None = None
) -> Iterator[tuple[str, Computes | str]]:
    """Each file with what its plan computes in, or why there is none.

    Args:
        files: FP32, FP16 or INT8 ONNX with passports.
        options: of the builds.
        runtime: "tensorrt" or "tensorrt_rtx"; None takes the first that is installed.
    """
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            try:
                report = build_engine(file, Path(folder) / "m.plan", options, runtime=runtime)
            except EdgeposeError as error:
                yield file.name, str(error)
                continue
            yield file.name, report.passport.plan.computes or "; ".join(report.warnings) or "no layer information"


def as_row(name: str, found: Computes | str) -> str:
    """A row of the table, in Markdown."""
    if isinstance(found, str):
        cells = [name, found, *[""] * (len(HEAD) - 2)]
    else:
        shares = ", ".join(f"{share:.1%} {precision}" for precision, share in found.shares.items())
        kept = ", ".join(f"{share:.0%} of {precision}" for precision, share in found.meant.items())
        counts = (found.layers, found.weighted, found.unfused, found.reformats)
        cells = [name, *map(str, counts), shares, kept]
    return f"| {' | '.join(cells)} |"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, help="TensorRT for RTX: architecture to build for, sm_86 say.")
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True)
@click.option("--runtime", type=click.Choice(("tensorrt", "tensorrt_rtx")), help="Default: the one installed.")
def main(files: tuple[Path, ...], targets: tuple[str, ...], max_batch: int, runtime: str | None) -> None:
    """Print a row for each of FILES."""
    options = BuildOptions(max_batch=max_batch, targets=parse_targets(targets), kernels=False)
    click.echo(f"| {' | '.join(HEAD)} |\n{'| --- ' * len(HEAD)}|")
    try:
        for name, found in fusion_rows(files, options, runtime):
            click.echo(as_row(name, found))
    except EdgeposeError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
