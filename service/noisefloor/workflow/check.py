"""Check: what a job may ask of this service, beyond what its contract refuses by itself."""

import difflib
from typing import Any

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.job import GIB, JobSpec, Limits
from noisefloor.contract.operators import OPERATORS, operators
from noisefloor.contract.resources import FieldError
from noisefloor.contract.scheme import CONFORMANCE, OPERATOR_MODES, OPS
from noisefloor.contract.subject import Subject
from noisefloor.errors import (
    InvalidRequestError,
    NotAllowedError,
    QueueFullError,
    TooManyCellsError,
)
from noisefloor.settings import Settings
from noisefloor.store import cells


def check(spec: JobSpec, *, project: str, settings: Settings) -> None:
    """What the contract alone cannot refuse: sizes, settings, and keys that contradict the address."""
    check_plan(spec, project=project, settings=settings)
    for number, subject in enumerate(spec.subjects):
        _check_import(subject.import_, f"subjects.{number}.import", settings)
        _check_files(subject, f"subjects.{number}", settings)
        _check_sizes(subject, f"subjects.{number}", spec.limits)


def check_plan(spec: JobSpec, *, project: str, settings: Settings) -> None:
    """The project and the operators that the job names, its number of cells, and that each scheme fits."""
    if spec.project is not None and spec.project != project:
        raise invalid("project", f"the address says {project!r}", spec.project, [project])
    for number, subject in enumerate(spec.subjects):
        _check_operator(subject.conformance, f"subjects.{number}.conformance")
    count = plan.count(spec)
    if count == 0:
        raise invalid("schemes", "the job has no cell: give schemes to the job or to each subject", [], None)
    if count > settings.max_cells:
        raise TooManyCellsError(
            f"the job has {count} cells; this service takes at most {settings.max_cells} in one job",
            [FieldError(field="lanes", message=f"{count} cells", value=count, accepted=[settings.max_cells])],
        )
    for number in range(len(spec.subjects)):
        _check_flows(spec, number)


def check_room(session: Session, count: int, settings: Settings) -> None:
    """Raise `QueueFullError` where so many more cells would wait than may. The caller holds the queue."""
    waiting = cells.count_queued(session)
    if waiting and waiting + count > settings.max_queued_cells:
        raise QueueFullError(
            f"{waiting} cells wait already, and the job has {count}; "
            f"this service lets {settings.max_queued_cells} wait: try again later"
        )


def _check_operator(named: str | None, field: str) -> None:
    if named is not None and not operators(named):
        near = difflib.get_close_matches(named, OPERATORS, n=1, cutoff=0.5)
        message = "no operator is called that" + (f"; did you mean {near[0]!r}?" if near else "")
        raise invalid(field, message, named, list(OPERATORS))


def _check_flows(spec: JobSpec, number: int) -> None:
    """Operators take schemes of a flow of their own, and models take others."""
    subject = spec.subjects[number]
    own = OPS if subject.operator is not None else CONFORMANCE if subject.conformance is not None else None
    field = f"subjects.{number}.schemes" if subject.schemes is not None else "schemes"
    for place, scheme in enumerate(plan.schemes(spec, subject)):
        if (scheme.flow if scheme.flow in OPERATOR_MODES else None) != own:
            raise invalid(
                f"{field}.{place}.flow",
                f"flow {own or scheme.flow} is that of operators, and subjects.{number} is {subject.label}: "
                "give each subject schemes of its own",
                scheme.flow,
                [own] if own is not None else None,
            )


def _check_sizes(subject: Subject, field: str, limits: Limits) -> None:
    sized: dict[str, tuple[int, Any]] = {}
    if subject.operator is not None:
        sized["operator.shape"] = subject.operator.size_bytes, list(subject.operator.shape)
    for part in ("calibration", "evaluation"):
        inputs = getattr(subject.data, part, None)
        if inputs is not None:
            name = f"data.{part}" + (".shape" if inputs.shape is not None else "")
            sized[name] = inputs.size_bytes, [list(spec.shape) for spec in inputs.tensors]
    for name, (size_bytes, value) in sized.items():
        if size_bytes > limits.memory_bytes:
            message = f"{size_bytes / GIB:.1f} GiB; limits.memory_gib is {limits.memory_gib:g}"
            raise invalid(f"{field}.{name}", message, value, None)


def _check_import(path: str | None, field: str, settings: Settings) -> None:
    if path is None:
        return
    module = path.partition(":")[0]
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in settings.import_allow):
        raise NotAllowedError(
            f"{module!r} is not among the modules that this service imports (NOISEFLOOR_IMPORT_ALLOW)",
            [
                FieldError(
                    field=field, message="not allowed", value=path, accepted=list(settings.import_allow)
                )
            ],
        )


def _check_files(subject: Subject, field: str, settings: Settings) -> None:
    sources = {
        "weights": subject.weights,
        "data.calibration": subject.data and subject.data.calibration,
        "data.evaluation": subject.data and subject.data.evaluation,
    }
    named = {name: source.safetensors for name, source in sources.items() if source and source.safetensors}
    if named and settings.files is None:
        raise NotAllowedError(
            "this service reads no files: its operator named no folder for them (NOISEFLOOR_FILES)",
            [
                FieldError(
                    field=f"{field}.{name}.safetensors", message="not allowed", value=file, accepted=[]
                )
                for name, file in named.items()
            ],
        )


def invalid(field: str, message: str, value: object, accepted: list[str] | None) -> InvalidRequestError:
    """The error that names one refused field."""
    error = FieldError(field=field, message=message, value=value, accepted=accepted)
    return InvalidRequestError(f"{field}: {message}", [error])
