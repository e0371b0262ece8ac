"""run: a job measured here and now, without a server. The repro command of every cell."""

from pathlib import Path

import typer
from rich.console import Console

from noisefloor import plan
from noisefloor.cli.options import DEFAULT_PROJECT, Format, FormatOption, JobFile, read_job, require_torch
from noisefloor.cli.report import Report, print_json, print_report
from noisefloor.contract.budget import budgets
from noisefloor.contract.job import JobSpec
from noisefloor.contract.layers import LayerView
from noisefloor.contract.measurement import CellResult, CellTask, Measurement
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.errors import UnavailableError
from noisefloor.gate.judge import CellEvidence, CellFindings, Evidence, floor_db, judge
from noisefloor.identity import environment_key, series_identity, series_key
from noisefloor.settings import Settings
from noisefloor.workflow.submit import check
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.runner.supervisor import RunnerUnavailable


def run(
    job: JobFile,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Measure a job here, without a server or a database, and exit with its verdict's code.

    The cells run in the same runner processes as the service's do. Modules that the job imports are
    allowed, since whoever runs this command chose the job; files that it names are below NOISEFLOOR_FILES,
    or here where that is not set. There is no history: floors are judged, drops
    have no baseline.
    """
    require_torch()
    spec = read_job(job)
    imported = tuple(s.import_.partition(":")[0] for s in spec.subjects if s.import_ is not None)
    settings = Settings(import_allow=imported)
    settings = settings.model_copy(update={"files": settings.files or Path.cwd()})
    project = spec.project or DEFAULT_PROJECT
    check(spec, project=project, settings=settings)
    try:
        results = measure(spec, settings)
    except RunnerUnavailable as error:
        raise UnavailableError(str(error)) from None
    measured = report(spec, project, results)
    if format is Format.JSON:
        print_json(measured)
    else:
        print_report(measured)
    raise typer.Exit(measured.verdict.exit_code)


def measure(spec: JobSpec, settings: Settings) -> dict[int, CellResult]:
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
                import_allow=settings.import_allow,
                files=settings.files,
            )
            for result in runners.take(shard.isa, shard.threads).run(task, show):
                results[int(result.cell)] = result
    return results


def report(spec: JobSpec, project: str, results: dict[int, CellResult]) -> Report:
    """The report that the service would give, but for what needs history."""
    cells = list(plan.cells(spec))
    judgement = judge(spec.policy, [_evidence(cell, results[cell.ordinal]) for cell in cells])
    views = tuple(
        _view(spec, project, cell, results[cell.ordinal], found)
        for cell, found in zip(cells, judgement.cells, strict=True)
    )
    layers = tuple(
        LayerView(cell=str(ordinal), reports=result.layers, sensitivity=result.sensitivity)
        for ordinal, result in sorted(results.items())
        if result.layers or result.sensitivity is not None
    )
    return Report(
        name=spec.name, verdict=judgement.verdict, message=judgement.message, cells=views, layers=layers
    )


def _evidence(cell: plan.Cell, result: CellResult) -> CellEvidence:
    return CellEvidence(
        label=cell.label,
        status=result.status,
        reason=result.reason,
        measurements=tuple(
            Evidence(
                edge=m.edge,
                place=m.place,
                metric=m.metric,
                figure=m.figure,
                own_floor=m.own_floor,
                zero_output=_zero_output(m),
                floor_db=floor_db(cell.scheme, m.edge, m.place, m.metric),
                conformance=result.conformance,
            )
            for m in result.measurements
        ),
    )


def _view(spec: JobSpec, project: str, cell: plan.Cell, result: CellResult, found: CellFindings) -> CellView:
    shared = {
        *("status", "reason", "traceback", "executed_engine", "inputs_digest", "duration_s"),
        "conformance",
    }
    return CellView(
        id=str(cell.ordinal),
        **dict(cell),
        **{name: getattr(result, name) for name in shared},
        environment=environment_key(result.environment) if result.environment else None,
        finding=found.cell,
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
                zero_output=_zero_output(m),
                finding=finding,
            )
            for m, finding in zip(result.measurements, found.measurements, strict=True)
        ),
        budgets=budgets(result.measurements),
        repro=plan.repro(cell, limits=spec.limits, analysis=spec.analysis),
    )


def _zero_output(measurement: Measurement) -> bool:
    return measurement.sums is not None and measurement.sums.zero_output
