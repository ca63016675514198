"""edgepose build: ONNX to TensorRT plan."""

from __future__ import annotations

from pathlib import Path

import click


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
    "--no-kernels", is_flag=True, help="Only the plan, for trtexec, say; infer needs the kernels of heat maps."
)
@click.option("--no-verify", is_flag=True, help="Do not compare the plan with the CPU afterwards.")
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
    runtime: str | None,
) -> None:
    """Build a TensorRT plan from ONNX (m.onnx, m.fp16.onnx or m.int8.onnx), on the device that will run it.

    Precision is in the ONNX, so there is no precision option.
    """
    from edgepose.cli.progress import steps
    from edgepose.trt.build import BuildOptions, build_engine, parse_targets

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
    click.echo(
        f"wrote {report.plan} ({size_mib:.1f} MiB, {passport.precision}, batch 1 to {info.max_batch}){kernels} for "
        f"{info.gpu or ', '.join(info.targets)} with {info.runtime} {info.tensorrt}; "
        f"peak host memory {report.peak_mib} MiB"
    )
    if passport.random_weights:
        click.echo("its weights are random: for timing only", err=True)
    if not no_verify and info.kernels and not targets:
        _verify(report.plan, onnx)


def _verify(plan: Path, onnx: Path) -> None:
    """Compare the plan with the CPU. It stands as it was built whatever comes of that; exit status 1 if it is wrong."""
    from edgepose.cli.verify_command import pictures_of
    from edgepose.errors import BackendError, EdgeposeError
    from edgepose.evaluation.verify import verify_plan

    try:
        check, _ = verify_plan(plan, pictures_of(None), onnx=onnx)
    except EdgeposeError as error:
        click.echo(f"not verified: {error}", err=True)
        return
    if check.fault:
        raise BackendError(f"{plan} was built and {check.verdict}: edgepose verify {plan} shows all")
    click.echo(f"verified: {plan} {check.verdict}")
