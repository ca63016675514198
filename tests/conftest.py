"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.once import FOLDER

if TYPE_CHECKING:
    from edgepose.export.by_value import ExportedByValue


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_interrupts() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would the processes that the tests interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _one_folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A worker's own folder lies in that of the run."""
    own = tmp_path_factory.getbasetemp()
    os.environ[FOLDER] = str(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def tiny_lifter(tmp_path_factory: pytest.TempPathFactory) -> ExportedByValue:
    """The embedded lifter, exported once for all tests; nobody writes into its folder."""
    from edgepose.export.space import export_space_model
    from edgepose.export.zoo.space import find_space_model

    return export_space_model(find_space_model("lifter_tiny"), tmp_path_factory.mktemp("lifter"))
