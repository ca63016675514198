"""How TensorRT fuses FP16 and INT8 files: layers, kernels that only quantise, and what the multiply-adds run in.

    python -m edgepose.benchmarks.fusion models m.fp16.onnx m.int8.onnx [...] [--target sm_86]

builds each file, of a folder the FP16 and INT8 files of NETWORKS, with each TensorRT that is installed, and reads its
layer information. With TensorRT it builds for the GPU of this machine; TensorRT for RTX builds for a named --target
without a GPU, too. The plans are thrown away. No speed is measured here:
`edgepose build --best` does that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from edgepose.errors import EdgeposeError, ModelFileError
from edgepose.model.computes import Computes
from edgepose.model.engine_info import RUNTIMES
from edgepose.trt.build import build_engine
from edgepose.trt.options import BuildOptions, parse_targets

NETWORKS = ("simplebaseline_resnet50", "hrnet_w32", "ultralight", "cpm")  # what their files' names begin with
HEAD = (
    "library",
    "file",
    "layers",
    "with weights",
    "quantise on their own",
    "reformat",
    "multiply-adds",
    "in what the ONNX says",
)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and in place of a folder its FP16 and INT8 files of NETWORKS.

    Raises:
        ModelFileError: a folder lacks one of them.
    """
    files = list[Path]()
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        for name in NETWORKS:
            for precision in ("fp16", "int8"):
                found = sorted(path.glob(f"{name}*.{precision}.onnx"))
                if not found:
                    raise ModelFileError(
                        f"{path} has no {name}*.{precision}.onnx: export and calibrate it, or name files"
                    )
                files.append(found[0])
    return files


def libraries_of(runtime: str | None, targets: Sequence[str]) -> list[str]:
    """The TensorRT named, or all that are installed; for a target the one that builds for targets."""
    if runtime is not None or targets:
        return [runtime or "tensorrt_rtx"]
    return [name for name in RUNTIMES if find_spec(name) is not None] or [RUNTIMES[0]]


def fusion_rows(
    files: Sequence[Path], options: BuildOptions, runtime: str | None = None
) -> Iterator[tuple[str, str, Computes | str]]:
    """Each library and file with what its plan computes in, or why there is none.

    Args:
        files: FP32, FP16 or INT8 ONNX with passports.
        options: of the builds.
        runtime: "tensorrt" or "tensorrt_rtx"; None takes all that are installed.
    """
    for library in libraries_of(runtime, options.targets):
        for file in files:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    report = build_engine(file, Path(folder) / "m.plan", options, runtime=library)
                except EdgeposeError as error:
                    yield library, file.name, str(error)
                    continue
                told = report.passport.plan.computes or "; ".join(report.warnings) or "no layer information"
                yield f"{library} {report.passport.plan.tensorrt}", file.name, told


def as_row(library: str, name: str, found: Computes | str) -> str:
    """A row of the table, in Markdown."""
    if isinstance(found, str):
        cells = [library, name, found, *[""] * (len(HEAD) - 3)]
    else:
        shares = ", ".join(f"{share:.1%} {precision}" for precision, share in found.shares.items())
        kept = ", ".join(f"{share:.0%} of {precision}" for precision, share in found.meant.items())
        counts = (found.layers, found.weighted, found.unfused, found.reformats)
        cells = [library, name, *map(str, counts), shares, kept]
    return f"| {' | '.join(cells)} |"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, help="TensorRT for RTX: architecture to build for, sm_86 say.")
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True)
@click.option("--runtime", type=click.Choice(("tensorrt", "tensorrt_rtx")), help="Default: all installed.")
def main(files: tuple[Path, ...], targets: tuple[str, ...], max_batch: int, runtime: str | None) -> None:
    """Print a row for each of FILES; a folder stands for its files of NETWORKS."""
    options = BuildOptions(max_batch=max_batch, targets=parse_targets(targets), kernels=False)
    click.echo(f"| {' | '.join(HEAD)} |\n{'| --- ' * len(HEAD)}|")
    try:
        for library, name, found in fusion_rows(files_of(files), options, runtime):
            click.echo(as_row(library, name, found))
    except EdgeposeError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
