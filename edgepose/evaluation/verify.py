"""`edgepose verify`: a plan compared with its ONNX on this device, and the verdict kept in the plan's passport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends import gpu_reads_frames, load_backend, load_runtime
from edgepose.backends.host import HostBackend
from edgepose.errors import BackendError, EdgeposeError, MissingPackageError, ModelFileError
from edgepose.evaluation.maps_check import check_maps
from edgepose.evaluation.plan_check import PlanCheck, check_plan
from edgepose.evaluation.plan_inputs import Picture
from edgepose.evaluation.vector_check import check_vectors
from edgepose.io.columns import aligned
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.spec import ModelSpec
from edgepose.model.verdict import Verdict
from edgepose.trt.plan import read_engine_passport


def verify_plan(
    path: Path,
    pictures: Sequence[Picture],
    *,
    onnx: Path | None = None,
    repeats: int = 200,
    tell: Callable[[str], None] | None = None,
) -> tuple[PlanCheck, Passport]:
    """Compare a plan with the ONNX that it was made from, and write the verdict into its passport.

    Args:
        path: the plan.
        pictures: of people, with their boxes; of a bottom-up network these say nothing but that there are people.
        onnx: the ONNX; None for the one beside the plan that its passport names.
        repeats: frames that are run twice over.
        tell: is told before something takes minutes.

    Returns:
        All that was compared, and the plan's passport as it was written.

    Raises:
        InputError: no picture has a usable box.
        ModelFileError: the plan, the ONNX or a passport is missing or damaged, or the ONNX is another one; or the plan
            is of another kind than `can_verify` knows.
        EngineMismatchError, BackendError: the plan or the ONNX cannot be run here.
    """
    passport = read_engine_passport(path)
    if not can_verify(passport.spec):
        raise ModelFileError(
            f"{path} gives {passport.spec.head.kind}, and verify compares heat maps, SimCC vectors, volumes, fields "
            f"and tags: compare the plan with its ONNX by edgepose evaluate, on annotated data"
        )
    onnx = find_onnx(path, passport, onnx)
    narrow = partial(_first_layer, onnx, passport, tell)
    with ExitStack() as stack:
        whole = isinstance(passport.spec.head, (Fields, Tags))
        load: Callable[..., Any] = load_runtime if whole else load_backend
        plan = stack.enter_context(closing(load(path)))
        try:
            cpu = stack.enter_context(closing(load(onnx, exact=True)))
        except MissingPackageError as error:
            raise BackendError(f"a plan is compared with the CPU, and that wants a package: {error}") from error
        compare = check_maps if whole else check_vectors if isinstance(plan, HostBackend) else check_plan
        check = compare(cpu, plan, pictures, repeats=repeats, narrow=narrow)
    verdict = Verdict(not check.fault, check.verdict)
    passport = replace(passport, engine=replace(passport.plan, verdict=verdict))
    write_passport(path, passport)
    return check, passport


def can_verify(spec: ModelSpec) -> bool:
    """Whether plans of it are compared: those of a network that looks at one person a crop, and bottom-up ones."""
    return gpu_reads_frames(spec) or isinstance(spec.head, (SimCC, Volume, Fields, Tags))


def _first_layer(onnx: Path, passport: Passport, tell: Callable[[str], None] | None, crops: np.ndarray) -> str:
    """The first layer that differs, or why none can be named: the comparison itself stands either way."""
    if tell is not None:
        tell("the network differs from the CPU's: it is built again to find the first layer that does")
    try:
        from edgepose.evaluation.first_layer import first_layer  # OpenVINO

        return first_layer(onnx, passport, crops)
    except EdgeposeError as error:
        return f"the first layer that differs was not found: {error}"


def find_onnx(path: Path, passport: Passport, onnx: Path | None = None) -> Path:
    """The ONNX that a plan was made from.

    Raises:
        ModelFileError: it is not there, or is another export.
    """
    if not passport.made_from:
        raise ModelFileError(f"the passport of {path} does not say what it was built from: build it again")
    name, wanted = next(iter(passport.made_from.items()))
    found = onnx or path.with_name(name)
    if not found.is_file():
        raise ModelFileError(
            f"{path} is compared with {name}, which is not at {found}: copy it there, or name it with --onnx"
        )
    if read_passport(found).sha256 != wanted:
        raise ModelFileError(
            f"{found} is not what {path} was built from (another export): give that one with --onnx, or build anew"
        )
    return found


def as_json(check: PlanCheck, passport: Passport) -> dict[str, Any]:
    """All that was compared, for a report: plain JSON values."""
    return {
        "agrees": not check.fault,
        "fault": check.fault,
        "verdict": check.verdict,
        "layer": check.layer,
        "rows": [asdict(row) for row in check.rows],
        "passport": passport.to_json(),
    }


def as_table(check: PlanCheck) -> list[str]:
    """The lines of `edgepose verify`."""
    rows = [("", "compared", "found", "wanted")]
    rows += [("ok" if row.agrees else "WRONG", row.name, row.found, row.wanted) for row in check.rows]
    return aligned(rows)
