"""The `edgepose` command. Each sub-command is a module of this package, loaded when it is asked for.

A sub-command's module imports nothing heavier than numpy and click at its top, so `--help` always works.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edgepose import interrupts
from edgepose.errors import EdgeposeError
from edgepose.limits import LARGEST_PICTURE, LEAST_ADDRESS_SPACE
from edgepose.model.printable import printable

if TYPE_CHECKING:
    from edgepose.model.passport import Passport

SOME_UNREADABLE = 3  # exit status: done, but some of the inputs could not be read

COMMANDS = {
    "models": "List the networks that can be exported.",
    "export": "Turn a PyTorch checkpoint into verified FP32 and FP16 ONNX.",
    "import": "Give an ONNX of another project a passport.",
    "calibrate": "Quantise an exported model to INT8 with your own images.",
    "sensitivity": "Measure what INT8 costs, layer by layer.",
    "build": "Build a TensorRT plan from ONNX, on the device that will run it.",
    "verify": "Compare a TensorRT plan with the CPU, on the device that runs it.",
    "infer": "Find key points in images and videos.",
    "evaluate": "Measure AP, AR and PCK on annotated images.",
    "benchmark": "Time model files, stage by stage.",
    "inspect": "Print what is known of a model file.",
    "doctor": "Print what this machine has and lacks, and what mends it.",
    "demo": "Try the whole chain on the embedded model.",
}

_FREE, _ALLOW, _OTHER = "free some space, or name another place", "name a place you may use", "name another path"
_CURES = {  # what the user can do about files that cannot be read or written
    errno.ENOSPC: _FREE, errno.EDQUOT: _FREE, errno.EFBIG: _FREE, errno.EIO: "check the disk",
    errno.EACCES: _ALLOW, errno.EPERM: _ALLOW, errno.EROFS: _ALLOW,
    errno.ENOENT: _OTHER, errno.EEXIST: _OTHER, errno.ENOTDIR: _OTHER, errno.EISDIR: _OTHER, errno.ENAMETOOLONG: _OTHER,
}  # fmt: skip


class _LazyGroup(click.Group):
    """Loads `edgepose.cli.<command>` only when that command runs or shows its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"edgepose.cli.{name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does; help and version, which it prints while it parses, may meet a full disk too."""
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(LARGEST_PICTURE)  # OpenCV reads it when it is loaded
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _CURES:
                raise
            _fail_of_file(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the user can act on becomes one line on stderr and exit status 1."""
        try:
            interrupts.interrupt_work()
            _check_place()
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _interrupted(str(interrupt))
        except Exception as error:
            if interrupts.came():  # a module that was being loaded says that its installation is broken, for one
                _interrupted("")
            if isinstance(error, EdgeposeError):
                _fail(str(error))
            if isinstance(error, MemoryError):
                _fail("out of memory: free some, or give smaller pictures or fewer people at a time")
            if isinstance(error, OSError) and error.errno in _CURES:  # EPIPE, a reader of stdout that left, is click's
                _fail_of_file(error)
            raise


def _check_place() -> None:
    """What no package that a command loads would say well."""
    try:
        os.getcwd()
    except FileNotFoundError:
        _fail("the working directory has been removed: change to another, cd for one")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if resource.RLIM_INFINITY != limit < LEAST_ADDRESS_SPACE:
        _fail(
            f"memory is limited to {limit >> 20} MiB (ulimit -v), less than {LEAST_ADDRESS_SPACE >> 20} MiB, with "
            f"which no runtime can be loaded: raise the limit"
        )


def warn_of_random_weights(model: Path, passport: Passport) -> None:
    """Say on stderr that a model's key points mean nothing, if its weights are random."""
    if passport.random_weights:
        click.echo(f"{model}: its weights are random, key points mean nothing: for timing only", err=True)


def warn_of_unverified(plan: Path, passport: Passport) -> None:
    """Say on stderr that nobody compared a plan with the CPU on this device, or that it differed."""
    if passport.engine is None:
        return
    from edgepose.evaluation.verify import can_verify

    verdict = passport.engine.verdict
    if verdict is not None and not verdict.agrees:
        click.echo(f"{plan} was verified and is not right: {verdict.text}", err=True)
    elif verdict is None and passport.engine.kernels is not None and can_verify(passport.spec):
        click.echo(f"{plan} was never compared with the CPU on a GPU: edgepose verify {plan}", err=True)


def _fail_of_file(error: OSError) -> NoReturn:
    """Name the file that was wanted, not the temporary folder it was to come from."""
    wanted = re.sub(r"\.edgepose-[^/\\]*[/\\]?", "", str(error.filename or "output"))
    _fail(f"{wanted}: {error.strerror}: {_CURES[error.errno or 0]}; nothing half-written was left")


def _interrupted(how_far: str) -> NoReturn:
    click.echo(f"interrupted {how_far}".rstrip() + "; nothing half-written was left", err=True)
    sys.exit(interrupts.STATUS)


def _fail(message: str) -> NoReturn:
    click.echo(printable(f"edgepose: {' '.join(message.split())}"), err=True)  # it quotes what files hold
    sys.exit(1)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgepose")
def main() -> None:
    """Put human-pose networks on NVIDIA Jetson devices: export, calibrate, infer, evaluate."""
