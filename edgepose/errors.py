"""The errors edgepose raises.

    EdgeposeError               the user can act on it: the CLI prints one line and exits 1
    ├── ModelFileError          a model file is missing, damaged, or belongs to another model
    │   └── EngineMismatchError the engine was built for another GPU or TensorRT version
    ├── CheckpointError         keys missing, unexpected, or of the wrong shape
    ├── ExportError             the exported network does not compute what the checkpoint does
    ├── CalibrationError        the calibration set cannot give every tensor a range
    ├── BuildError              TensorRT could not build the engine
    ├── InputError              image, video, boxes or annotations that cannot be read
    │   └── FrameError          an array that is no picture of its format; a ValueError as well
    ├── BackendError            inference failed, or this backend cannot run this file rightly
    └── MissingPackageError     a package is not installed; names the extra that brings it

A caller's mistake in the API is a ValueError or TypeError; a bug keeps its traceback.
Every message says what was found, what was wanted, and what to do.
"""

from __future__ import annotations


class EdgeposeError(Exception):
    """Base of all errors a user can act on."""


class ModelFileError(EdgeposeError):
    """A model file or its passport is missing, damaged, or belongs to another model."""


class EngineMismatchError(ModelFileError):
    """The engine was built for another GPU or another TensorRT version."""


class CheckpointError(EdgeposeError):
    """A checkpoint's keys are missing, unexpected, or of the wrong shape."""


class ExportError(EdgeposeError):
    """The exported network does not compute what the checkpoint does."""


class CalibrationError(EdgeposeError):
    """The calibration set cannot give every tensor a range."""


class BuildError(EdgeposeError):
    """TensorRT could not build the engine."""


class InputError(EdgeposeError):
    """An image, video, boxes or annotations file cannot be read."""


class FrameError(InputError, ValueError):
    """An array that is no picture of its format: the caller's mistake, or a camera's."""


class BackendError(EdgeposeError):
    """Inference failed, or this backend cannot compute this file rightly."""


class MissingPackageError(EdgeposeError):
    """A package this command needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'edgepose[{extra}]'")
