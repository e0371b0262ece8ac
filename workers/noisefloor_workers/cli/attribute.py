"""attribute: measure here what it takes to tell whether the code or the environment lost decibels."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console

from noisefloor import plan
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    JobId,
    Project,
    Token,
    Url,
    client,
    job_of,
    require_torch,
)
from noisefloor.client import Client
from noisefloor.contract.attribution import AttributionView, Cause
from noisefloor.contract.job import PRIORITIES, JobSpec
from noisefloor.contract.measurement import Environment
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, JobView
from noisefloor.contract.worker import Capabilities
from noisefloor.errors import InvalidRequestError
from noisefloor.gate.saved import label
from noisefloor.history.environments import differences
from noisefloor_workers.cli.commits import SHORT_SHA, check_out, measured
from noisefloor_workers.lanes.capabilities import probe

UNKNOWN_EXIT = 2

say = Console(stderr=True, highlight=False, soft_wrap=True)
Missing = Mapping[str, Sequence[CellView]]


def attribute(
    job_id: JobId,
    command: Annotated[list[str], typer.Argument(help="After --: checks a commit out; {sha} stands for it.")],
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
) -> None:
    """Tell whether the code or the environment lost what a job of the service lost.

    noisefloor attribute JOB -- git checkout -q {sha}

    Where the baseline is of another environment than the job, and nobody measured the baseline's commit in
    the job's, the command checks that commit out. The cells in question are then measured at it on this
    machine, and handed to the service. On a machine of another environment nothing is checked out, and the
    difference is said. Exit code 2: not all is known.
    """
    require_torch()
    with client(url, project, token) as service:
        job = service.job(job_of(service, job_id))
        if job.explains is not None:
            raise InvalidRequestError(f"job {job_id} only explains job {job.explains}: attribute that one")
        cells = {cell.id: cell for cell in service.cells(job_id)}
        missing = _missing(service.attribution(job_id), cells)
        for sha, wanted in _of_this_machine(service, missing).items():
            say.print(f"measuring {sha[:SHORT_SHA]}: {len(wanted)} cells")
            check_out(command, sha)
            corner = measured(_corner(job, wanted), explains=job_id, environment=_service(service, token))
            _say_what_does_not_count(service, corner, wanted)
        found = service.attribution(job_id)
    for view in found:
        typer.echo(
            f"{label(cells[view.cell])} · {_place(cells[view.cell], view)}: {view.attribution.message}"
        )
    if not found:
        typer.echo("nothing was lost against a baseline")
    raise typer.Exit(UNKNOWN_EXIT if any(v.attribution.cause is Cause.UNKNOWN for v in found) else 0)


def _missing(views: Sequence[AttributionView], cells: Mapping[str, CellView]) -> Missing:
    """By the baseline's commit, the cells of which nobody measured it in the job's environment."""
    found: dict[str, dict[str, CellView]] = {}
    for view in views:
        corner = view.attribution.square.old_in_new
        if corner.how != "missing":
            continue
        if corner.sha is None:
            say.print(f"{label(cells[view.cell])}: the baseline names no commit")
            continue
        found.setdefault(corner.sha, {})[view.cell] = cells[view.cell]
    return {sha: tuple(wanted.values()) for sha, wanted in found.items()}


def _of_this_machine(service: Client, missing: Missing) -> Missing:
    """What this machine can measure in the environment that is asked for; says what the rest takes."""
    if not missing:
        return {}
    here, notes = probe(), dict[str, None]()
    found: dict[str, list[CellView]] = {}
    for sha, wanted in missing.items():
        for cell in wanted:
            lacking = None
            if cell.environment is not None:
                document = service.environment(cell.environment).document
                lacking = _lacking(here, Environment.model_validate(document))
            if lacking is None:
                found.setdefault(sha, []).append(cell)
            else:
                notes[
                    f"not measured, since this is not the job's environment {cell.environment}: {lacking}"
                ] = None
    for note in notes:
        say.print(note, markup=False)
    return found


def _lacking(here: Capabilities, wanted: Environment) -> str | None:
    """Why this machine cannot measure in an environment; None where it can, or where only measuring tells."""
    nearest = here.nearest(wanted)
    if wanted.gpu is not None or wanted in nearest:  # what a GPU adds is not known beforehand
        return None
    before = wanted.model_dump(mode="json")
    changes = [differences(before, one.model_dump(mode="json")) for one in nearest]
    least = min(changes, key=len, default=())
    return ", ".join(map(str, least)) or f"it has no cap {wanted.isa_cap}"


def _corner(job: JobView, wanted: Sequence[CellView]) -> JobSpec:
    """The wanted cells at what is checked out."""
    if job.spec is None or job.policy is None:
        raise InvalidRequestError(
            f"job {job.id} came without its spec, so its cells cannot be measured again"
        )
    cells = [
        plan.Cell(ordinal=cell.ordinal, subject=cell.subject, scheme=cell.scheme, lane=cell.lane)
        for cell in wanted
    ]
    again = plan.again(job.spec, cells, name=f"attribution of {job.id}", policy=job.policy.policy)
    return again.replace(project=job.project, priority=PRIORITIES["bisect"])


def _service(service: Client, token: str | None) -> dict[str, str]:
    given = {"NOISEFLOOR_URL": service.url, "NOISEFLOOR_PROJECT": service.project}
    return {**given, "NOISEFLOOR_TOKEN": token} if token else given


def _say_what_does_not_count(service: Client, corner: Report, wanted: Sequence[CellView]) -> None:
    """Say which cells gave no figure, or one of another environment after all."""
    asked = {cell.repro: cell for cell in wanted}
    notes = []
    for cell in corner.cells:
        wants = asked.get(cell.repro)
        if cell.reason is not None:
            notes.append(f"{label(cell)}: {cell.reason}")
        elif wants is not None and wants.environment and cell.environment != wants.environment:
            notes.append(_another(service, wants.environment, cell.environment))
    for note in dict.fromkeys(notes):
        say.print(note, markup=False)


def _another(service: Client, theirs: str, ours: str | None) -> str:
    before, after = (service.environment(key).document if key else {} for key in (theirs, ours))
    differs = ", ".join(map(str, differences(before, after)))
    return f"this is not the job's environment, so what is measured here does not count: {differs}"


def _place(cell: CellView, view: AttributionView) -> str:
    of = next(m for m in cell.measurements if m.id == view.measurement)
    return f"{of.edge} {of.place}"
