"""run: a job measured here and now, without a server. The repro command of every cell."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from noisefloor import plan
from noisefloor.cli.jobs import print_result
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    JobFile,
    OfCheckout,
    Project,
    Token,
    Url,
    client,
    here,
    new_key,
    read_job,
    require_torch,
    settings,
)
from noisefloor.cli.report import print_json, print_report
from noisefloor.contract.budget import budgets
from noisefloor.contract.job import JobSpec
from noisefloor.contract.layers import LayerView
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.policy import Policy
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.results import MeasuredJob
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor.gate.saved import judged
from noisefloor.identity import environment_key, series_identity, series_key
from noisefloor.settings import Settings
from noisefloor.workflow.check import check
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.runner.supervisor import RunnerUnavailable


def run(
    job: JobFile,
    push: Annotated[
        bool, typer.Option("--push", help="Hand the results to a service, which judges.")
    ] = False,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    explains: Annotated[
        str | None,
        typer.Option(help="With --push: the job whose losses these results look into, deciding nothing."),
    ] = None,
    git: OfCheckout = True,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Measure a job here, without a server or a database, and exit with its verdict's code.

    The cells run in the same runner processes as the service's do. Modules that the job imports are
    allowed, since whoever runs this command chose the job; files that it names are below NOISEFLOOR_FILES,
    or here where that is not set. There is no history: floors are judged, drops have no baseline. With
    --push a service records the results, and holds them against its history; the verdict is then its own.
    """
    require_torch()
    if explains is not None and not push:
        raise InvalidRequestError(f"explains = {explains!r}: only a service has jobs to explain: give --push")
    spec = here(read_job(job)) if git else read_job(job)
    imported = tuple(s.import_.partition(":")[0] for s in spec.subjects if s.import_ is not None)
    given = settings(import_allow=imported)
    given = given.model_copy(update={"files": given.files or Path.cwd()})
    project = spec.project or project
    check(spec, project=project, settings=given)
    if not push:
        _inline(spec)
        measured = report(spec, project, _measured(spec, given))
        if format is Format.JSON:
            print_json(measured)
        else:
            print_report(measured)
        raise typer.Exit(measured.verdict.exit_code)
    with client(url, project, token) as service:
        # whoever cannot push is told before anything is measured
        next(service.jobs(limit=1), None) if explains is None else service.job(explains)
        results = _measured(spec, given)
        handed = MeasuredJob(job=spec, results=tuple(results.values()), explains=explains)
        pushed = service.push(handed, idempotency_key=new_key())
        print_result(service, pushed, format)
        raise typer.Exit(pushed.verdict.exit_code)


def _measured(spec: JobSpec, given: Settings) -> dict[int, CellResult]:
    try:
        return measure(spec, given)
    except RunnerUnavailable as error:
        raise UnavailableError(str(error)) from None


def measure(spec: JobSpec, given: Settings) -> dict[int, CellResult]:
    """The result of each cell, by its ordinal."""
    results: dict[int, CellResult] = {}
    with Console(stderr=True).status("starting") as status, Runners() as runners:

        def show(progress: str) -> bool:
            status.update(f"{len(results)} of {plan.count(spec)} cells; {progress}")
            return True

        for shard in plan.shards(plan.cells(spec)):
            task = ShardTask(
                subject=shard.cells[0].subject,
                isa=shard.isa,
                threads=shard.threads,
                cells=tuple(CellTask(cell=str(c.ordinal), scheme=c.scheme, lane=c.lane) for c in shard.cells),
                limits=spec.limits,
                analysis=spec.analysis,
                import_allow=given.import_allow,
                files=given.files,
                git=spec.git,
            )
            for result in runners.take(shard.isa, shard.threads).run(task, show):
                results[int(result.cell)] = result
    return results


def report(spec: JobSpec, project: str, results: dict[int, CellResult]) -> Report:
    """The report that the service would give, but for what needs history."""
    layers = tuple(
        LayerView(cell=str(ordinal), reports=result.layers, sensitivity=result.sensitivity)
        for ordinal, result in sorted(results.items())
        if result.layers or result.sensitivity is not None
    )
    measured = Report(
        name=spec.name,
        verdict=Verdict.PENDING,
        message="not judged yet",
        git=spec.git,
        policy=_inline(spec),
        cells=tuple(_view(spec, project, cell, results[cell.ordinal]) for cell in plan.cells(spec)),
        layers=layers,
    )
    return judged(measured, today=datetime.now(UTC).date())


def _inline(spec: JobSpec) -> Policy:
    if isinstance(spec.policy, str):
        raise InvalidRequestError(
            f"policy {spec.policy!r} is stored on a service, and none is asked here: write the policy out"
        )
    return spec.policy


def _view(spec: JobSpec, project: str, cell: plan.Cell, result: CellResult) -> CellView:
    shared = {
        *("status", "reason", "traceback", "executed_engine", "inputs_digest", "duration_s"),
        *("conformance", "files"),
    }
    return CellView(
        id=str(cell.ordinal),
        **dict(cell),
        **{name: getattr(result, name) for name in shared},
        environment=environment_key(result.environment) if result.environment else None,
        measurements=tuple(
            MeasurementView(
                **dict(m),
                series=series_key(
                    series_identity(
                        project=project,
                        subject=cell.subject,
                        quantization=cell.scheme.quantization,
                        edge=m.edge,
                        lane=cell.lane,
                        metric=m.metric,
                        place=m.place,
                    )
                ),
                zero_output=m.sums is not None and m.sums.zero_output,
            )
            for m in result.measurements
        ),
        budgets=budgets(result.measurements),
        repro=plan.repro(cell, limits=spec.limits, analysis=spec.analysis),
    )
