"""Everything that only a GPU shows, in one command: a Markdown table, exit status 1 if a check fails.

    python -m edgepose.benchmarks.gpu_acceptance --out docs/measurements/gpu_run.md

Kernels against their numpy twins, their times against the limits, engines against the CPU, ways of a frame to the GPU,
threads, 10,000 frames, latency by stage, trtexec on the same plan, and whether verify finds faults that are put in on
purpose. Each group of checks runs in a process of its own with a time limit, so that
a device that is lost or hangs takes only that group with it, and each row is written as soon as it is known. Exit
status 2: no GPU was found, nothing was checked but that --packages install and --models are whole. Where there is no
network: `--prepare DIR` on a workstation, then `--models DIR` here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click

from edgepose.benchmarks.gpu.processes import print_rows, run_group
from edgepose.benchmarks.gpu.rows import (
    HEAD,
    Check,
    Row,
    count_results,
    exit_status,
    one_line,
    row_of,
    run_check,
)
from edgepose.errors import EdgeposeError
from edgepose.machine.gpu import find_gpu

NOTHING_CHECKED = 2
# Each group and the seconds it may take on a fast GPU: thirteen minutes in all, two calls of ten by --only.
BUDGETS = {
    "kernels": 50,
    "speed": 50,
    "models": 70,
    "fp32": 80,
    "fp16": 80,
    "int8": 80,
    "verify": 110,
    "frames": 45,
    "threads": 20,
    "endurance": 50,
    "trtexec": 40,
    "faults": 90,
}
SECONDS_A_LATENCY = 1.0
# What the checks import, and what it is called where it is installed from.
PACKAGES = {
    "pycuda": "pycuda",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def checks_of(group: str, models: Path, work: Path, golden: Path | None, patience: float) -> Iterator[Check]:
    """The checks of a group, in the process that does them."""
    if group in ("kernels", "speed"):
        from edgepose.benchmarks.gpu.kernel_checks import kernel_checks
        from edgepose.benchmarks.gpu.kernel_speed import speed_checks
        from edgepose.benchmarks.gpu.launch import open_kernels

        with open_kernels(models) as kernels:
            yield from kernel_checks(kernels, golden) if group == "kernels" else speed_checks(kernels)
        return
    from edgepose.benchmarks.gpu import engine_checks, load_checks
    from edgepose.benchmarks.gpu.rows import Finding

    engine_checks.require_builder()
    if group == "models":
        if any(models.glob("*.onnx")):
            return
        from edgepose.benchmarks.gpu.models import MODELS, prepare

        def make() -> Finding:
            prepare(models, list(MODELS), lambda step: click.echo(step, err=True))
            return Finding(True, f"{len(list(models.glob('*.onnx')))} files")

        yield "export and calibrate here", make
    elif group == "verify":
        from edgepose.benchmarks.gpu.verify_checks import verify_checks

        yield from verify_checks(models, work)
    elif group == "frames":
        from edgepose.benchmarks.gpu.frame_checks import frame_checks

        yield from frame_checks(work)
    elif group == "trtexec":
        from edgepose.benchmarks.gpu.trtexec import check_against_trtexec

        for count in engine_checks.BATCHES:
            yield f"{count} crops, as fast as trtexec", partial(check_against_trtexec, work, count)
    elif group == "faults":
        from edgepose.benchmarks.gpu.faults import fault_checks

        yield from fault_checks(models, work)
    elif group == "threads":
        yield f"{load_checks.THREADS} threads", partial(load_checks.check_threads, work)
    elif group == "endurance":
        seconds = patience * BUDGETS[group] - 10  # of which loading takes some
        yield f"{load_checks.FRAMES:,} frames", partial(load_checks.check_endurance, work, seconds)
    else:
        yield from engine_checks.engine_checks(models, work, group, SECONDS_A_LATENCY)


def do_group(group: str, models: Path, work: Path, golden: Path | None, patience: float) -> Iterator[Row]:
    """Do a group's checks in this process; what ends it early is a row as well."""
    checks = checks_of(group, models, work, golden, patience)
    while True:
        try:
            name, check = next(checks)
        except StopIteration:
            return
        except Exception as error:  # none of them can be done: no pycuda, no TensorRT, no nvcc
            yield row_of(group, "all", error)
            return
        yield run_check(group, name, check)


def install(packages: Path | None, target: Path) -> list[str]:
    """Install what is missing from a folder of wheels, without a network; a line for each that stays missing.

    A source distribution is compiled here, PyCUDA's in minutes: it finds CUDA by the nvcc on PATH.
    """
    lines = []
    environment = {**os.environ, "PATH": os.pathsep.join([os.getenv("PATH", os.defpath), "/usr/local/cuda/bin"])}
    for module, name in PACKAGES.items():
        if find_spec(module) is not None or packages is None:
            continue
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation"]
        command += ["--find-links", str(packages), "--target", str(target), "--upgrade", name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
        if done.returncode != 0:
            reason = one_line(RuntimeError(done.stderr.strip().rsplit("\n", 1)[-1]))
            lines.append(f"{name} was not installed from {packages}: {reason}")
    return lines


def condition_lines() -> list[str]:
    """What the rows hold for: the GPU, its driver, clocks and temperatures now, versions."""
    from edgepose.machine.conditions import read_conditions
    from edgepose.machine.system import package_version

    about = read_conditions()
    versions = ((name, package_version(name)) for name in ("edgepose", "numpy", *PACKAGES.values()))
    lines = ["versions: " + ", ".join(f"{name} {version}" for name, version in versions if version)]
    if gpu := find_gpu():
        driver = "{}.{}".format(*gpu.driver_cuda)
        lines.append(f"GPU: {gpu.name} ({gpu.target}, {gpu.multiprocessors} SMs), driver for CUDA {driver}")
    lines += [f"{name}: {value}" for name, value in about.found.items()]
    return [*lines, *(f"not known: {line}" for line in about.missing)]


@click.command()
@click.option("--packages", type=click.Path(path_type=Path, file_okay=False), help="Wheels to install what is missing.")
@click.option("--golden", type=click.Path(path_type=Path, file_okay=False), help="Folder with decode_64x48.npz.")
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="What --prepare has made.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the table to this file as well.")
@click.option("--only", "groups", multiple=True, type=click.Choice(list(BUDGETS)), help="Only these groups.")
@click.option("--patience", type=click.FloatRange(1), default=1.0, show_default=True, help="Times the time limits.")
@click.option("--prepare", "prepared", type=click.Path(path_type=Path, file_okay=False), help="Make --models; no GPU.")
@click.option(
    "--model", "names", multiple=True, help="With --prepare: only this.  [default: the tiny one, R50 in INT8]"
)
@click.option("--group", hidden=True)
@click.option("--work", hidden=True, type=click.Path(path_type=Path))
def main(
    packages: Path | None,
    golden: Path | None,
    models: Path | None,
    out: Path | None,
    groups: tuple[str, ...],
    patience: float,
    prepared: Path | None,
    names: tuple[str, ...],
    group: str | None,
    work: Path | None,
) -> None:
    """Check and time what only an NVIDIA GPU shows; or --prepare what that takes, on a workstation."""
    if prepared is not None:
        _prepare(prepared, names)
        return
    if group is not None and work is not None:
        print_rows(do_group(group, models or work / "models", work, golden, patience))
        return
    if find_gpu() is None:
        _check_without_gpu(packages, models)
        click.echo("no NVIDIA GPU or driver was found: nothing was checked; see edgepose doctor", err=True)
        sys.exit(NOTHING_CHECKED)
    with tempfile.TemporaryDirectory(prefix="edgepose-") as folder:
        rows = _run(groups or tuple(BUDGETS), Path(folder), packages, golden, models, out, patience)
    sys.exit(exit_status(rows))


def _check_without_gpu(packages: Path | None, models: Path | None) -> None:
    """What can be said of the wheels and of the bundle where there is no GPU, on standard error."""
    from edgepose.benchmarks.gpu.models import bundle_lines

    with tempfile.TemporaryDirectory(prefix="edgepose-") as folder:
        missing = install(packages, Path(folder))
    for line in [*missing, *(bundle_lines(models) if models is not None else [])]:
        click.echo(line, err=True)


def _run(
    groups: Sequence[str],
    work: Path,
    packages: Path | None,
    golden: Path | None,
    models: Path | None,
    out: Path | None,
    patience: float,
) -> list[Row]:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("", encoding="utf-8")

    def say(text: str) -> None:
        click.echo(text)
        sys.stdout.flush()
        if out is not None:
            with open(out, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    site = work / "site"
    missing = install(packages, site)
    sys.path.append(str(site))  # for the versions' line; the groups' processes have it first
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.getenv("PYTHONPATH")])])}
    before = [*condition_lines(), *missing]
    say("\n".join(f"- {line}" for line in before))
    say(f"\n{HEAD}")
    options = ["--work", str(work), "--models", str(models or work / "models"), "--patience", str(patience)]
    options += ["--golden", str(golden)] if golden else []
    rows = []
    for group in groups:
        click.echo(f"{group}: up to {patience * BUDGETS[group]:.0f} s", err=True)
        command = [sys.executable, "-m", "edgepose.benchmarks.gpu_acceptance", "--group", group, *options]
        for row in run_group(command, group, patience * BUDGETS[group], environment):
            rows.append(row)
            say(row.markdown())
    say(f"\n{count_results(rows)}")
    changed = [line for line in condition_lines() if line not in before]  # clocks and temperatures under load
    say("\n".join(["", *(f"- right after, {line}" for line in changed)]))
    return rows


def _prepare(folder: Path, names: Sequence[str]) -> None:
    from edgepose.benchmarks.gpu.models import MODELS, leave_out_large, prepare

    for name in names:
        if name not in MODELS:
            raise click.UsageError(f"--model {name}: one of {', '.join(MODELS)}")
    try:
        prepare(folder, names or list(MODELS), lambda step: click.echo(step, err=True))
        if not names:
            leave_out_large(folder)
    except EdgeposeError as error:
        raise click.ClickException(str(error)) from error
    sizes = {path: path.stat().st_size / 2**20 for path in sorted(folder.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        click.echo(f"{size:8.1f} MiB  {path}")
    click.echo(f"{sum(sizes.values()):8.1f} MiB  in all")


if __name__ == "__main__":
    main()
