"""edgepose build: ONNX to TensorRT plan."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepose.trt.options import BuildOptions


@click.command("build")
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The plan to write; default: ONNX's name, .plan.")
@click.option(
    "--max-batch", type=click.IntRange(1, 65535), default=8, show_default=True, help="Most people in one run."
)
@click.option("--optimal-batch", type=click.IntRange(1), help="Batch to tune for.  [default: 1 and --max-batch]")
@click.option("--workspace", type=click.IntRange(1, 1 << 20), metavar="MiB", help="Scratch memory TensorRT may use.")
@click.option("--timing-cache", type=click.Path(path_type=Path), help="Kernel timings to reuse and to keep.")
@click.option("--version-compatible", is_flag=True, help="A plan that later TensorRT of the same major version runs.")
@click.option("--dla", type=click.IntRange(0), metavar="N", help="Use deep learning accelerator N of the Jetson.")
@click.option("--target", "targets", multiple=True, help="TensorRT for RTX: architecture to build for, sm_86 say.")
@click.option(
    "--no-kernels",
    is_flag=True,
    help="Only the plan, for trtexec, say; infer needs the kernels of heat maps of crops, and does without others.",
)
@click.option("--no-verify", is_flag=True, help="Do not compare the plan with the CPU afterwards.")
@click.option("--best", is_flag=True, help="Build FP16 and INT8, time both here, keep the fastest as the plan.")
@click.option(
    "--also",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --best: another file of it, a mix say.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    metavar="PX",
    help="With --best: how far key points may move from FP32's on average, px of heat maps or, of SimCC, of the input.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="With --best: pictures, each of one person.  [default: drawn]"
)
@click.option("--runtime", type=click.Choice(("tensorrt", "tensorrt_rtx")), help="Default: the one installed.")
def command(
    onnx: Path,
    output: Path | None,
    max_batch: int,
    optimal_batch: int | None,
    workspace: int | None,
    timing_cache: Path | None,
    version_compatible: bool,
    dla: int | None,
    targets: tuple[str, ...],
    no_kernels: bool,
    no_verify: bool,
    best: bool,
    also: tuple[Path, ...],
    budget: float,
    images: Path | None,
    runtime: str | None,
) -> None:
    """Build a TensorRT plan from ONNX (m.onnx, m.fp16.onnx or m.int8.onnx), on the device that will run it.

    Precision is in the ONNX, so there is no precision option. With --best any of the three will do as ONNX; m.onnx must
    lie beside the others. Exit status 3: done, but some of the --images could not be read.
    """
    from edgepose.cli import SOME_UNREADABLE
    from edgepose.cli.verify_command import pictures_of
    from edgepose.trt.options import BuildOptions, parse_targets

    if (also or images) and not best:
        raise click.UsageError("--also and --images go with --best")
    if best and (targets or no_kernels):
        raise click.UsageError("--best runs the plans on this device: leave out --target and --no-kernels")
    if optimal_batch is not None and optimal_batch > max_batch:
        raise click.BadParameter(f"{optimal_batch} is more than --max-batch {max_batch}", param_hint="--optimal-batch")
    options = BuildOptions(
        max_batch=max_batch,
        optimal_batch=optimal_batch,
        workspace_mib=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        dla=dla,
        targets=parse_targets(targets),
        kernels=not no_kernels,
    )
    pictures, unreadable = pictures_of(images) if best else (None, 0)
    if pictures:
        plan, source = _build_best(onnx, output, options, runtime, also, budget, pictures)
    else:
        plan, source = _build(onnx, output, options, runtime), onnx
    if not no_verify and not no_kernels and not targets:
        from edgepose.evaluation.verify import can_verify
        from edgepose.model.passport import read_passport

        if can_verify(read_passport(plan).spec):
            _verify(plan, source, pictures)
    if unreadable:
        sys.exit(SOME_UNREADABLE)


def _build(
    onnx: Path, output: Path | None, options: BuildOptions, runtime: str | None, *, in_turn: bool = False
) -> Path:
    """Build one plan and say what came of it; in_turn: of several, in a folder that goes away."""
    from edgepose.cli.progress import steps
    from edgepose.trt.build import build_engine

    with steps() as progress:
        report = build_engine(onnx, output, options, runtime=runtime, progress=progress)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    passport = report.passport
    info = passport.plan
    size_mib = report.plan.stat().st_size / 2**20
    kernels = (
        "" if not report.takes_kernels else " with its CUDA kernels" if info.kernels else " without its CUDA kernels"
    )
    told = f"built {onnx.name}" if in_turn else f"wrote {report.plan}"
    click.echo(
        f"{told} ({size_mib:.1f} MiB, {passport.precision}, batch 1 to {info.max_batch}){kernels} for "
        f"{info.gpu or ', '.join(info.targets)} with {info.runtime} {info.tensorrt}; "
        f"peak host memory {report.peak_mib} MiB"
    )
    if info.computes is not None:
        click.echo(f"computes: {info.computes.text()}")
    if info.runtime == "tensorrt_rtx" and passport.precision == "int8":
        click.echo("with TensorRT for RTX FP16 is often faster than INT8: edgepose build --best times both", err=True)
    if passport.random_weights:
        click.echo("its weights are random: for timing only", err=True)
    return report.plan


def _build_best(
    onnx: Path,
    output: Path | None,
    options: BuildOptions,
    runtime: str | None,
    also: tuple[Path, ...],
    budget: float,
    pictures: list[Any],
) -> tuple[Path, Path]:
    """Build each file of the network, say how fast and how right each is here; the best, in place, and its ONNX."""
    from edgepose.backends import load_backend
    from edgepose.cuda.nvcc import kernels_path
    from edgepose.errors import BuildError
    from edgepose.evaluation.best import candidates_of, fastest, measure_candidates, rows_of
    from edgepose.files import put_in_place, temporary_folder
    from edgepose.io.columns import aligned
    from edgepose.model.passport import passport_path, read_passport

    reference, files = candidates_of(onnx, also)
    load_backend(reference, exact=True).close()  # what cannot be compared is said before minutes of building
    passport = read_passport(reference)
    if passport.random_weights:
        budget = math.inf  # key points mean nothing
    plan = output or reference.with_suffix(".plan")
    built, failed = [], []
    with temporary_folder(plan.parent) as folder:
        for number, file in enumerate(files):
            target = folder / str(number) / plan.name
            target.parent.mkdir()
            try:
                built.append((file, _build(file, target, options, runtime, in_turn=True)))
            except BuildError as error:
                failed.append((file.name, str(error)))
        if not built:
            reasons = dict.fromkeys(reason for _, reason in failed)
            raise BuildError(f"none of {', '.join(name for name, _ in failed)} could be built: {'; '.join(reasons)}")
        for name, reason in failed:
            click.echo(f"not built: {name}: {reason}", err=True)
        candidates = measure_candidates(reference, built, pictures)
        click.echo("\n".join(aligned(rows_of(candidates, options.max_batch, budget), range(1, 6))))
        best = fastest(candidates, budget)
        if best is None:
            raise BuildError(
                f"no plan moves key points by at most {budget:g} {passport.spec.grid_unit} on average: allow more with "
                f"--budget, or calibrate --budget and give that file with --also"
            )
        names = [path.name for path in (kernels_path(plan), plan, passport_path(plan))]
        put_in_place(best.plan.parent, plan.parent, names)
    click.echo(f"kept {plan}: {best.onnx.name}, the fastest" + f" within {budget:g} px" * (budget < math.inf))
    return plan, best.onnx


def _verify(plan: Path, onnx: Path, pictures: list[Any] | None) -> None:
    """Compare the plan with the CPU. It stands as it was built whatever comes of that; exit status 1 if it is wrong."""
    from edgepose.cli.verify_command import pictures_of
    from edgepose.errors import BackendError, EdgeposeError
    from edgepose.evaluation.verify import verify_plan

    try:
        check, _ = verify_plan(plan, pictures or pictures_of(None)[0], onnx=onnx)
    except EdgeposeError as error:
        click.echo(f"not verified: {error}", err=True)
        return
    if check.fault:
        raise BackendError(f"{plan} was built and {check.verdict}: edgepose verify {plan} shows all")
    click.echo(f"verified: {plan} {check.verdict}")
