"""run: a job measured here and now, without a server. The repro command of every cell."""

import typer
from rich.console import Console

from noisefloor import plan
from noisefloor.cli.options import DEFAULT_PROJECT, Format, FormatOption, JobFile, read_job
from noisefloor.cli.report import Report, print_json, print_report
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import OUTPUT, CellResult, CellTask, Measurement
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Finding
from noisefloor.errors import UnavailableError
from noisefloor.gate.judge import Evidence, conclude, is_judged, judge_cell, judge_measurement
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
    allowed, since whoever runs this command chose the job. There is no history: floors are judged, drops
    have no baseline.
    """
    spec = read_job(job)
    imported = tuple(s.import_.partition(":")[0] for s in spec.subjects if s.import_ is not None)
    settings = Settings(import_allow=imported)
    project = spec.project or DEFAULT_PROJECT
    check(spec, project=project, settings=settings)
    try:
        results = measure(spec, settings)
    except RunnerUnavailable as error:
        raise UnavailableError(f"{error}\nit needs torch: pip install 'noisefloor[worker]'") from None
    report = judge(spec, project, results)
    if format is Format.JSON:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(report.verdict.exit_code)


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
                import_allow=settings.import_allow,
            )
            for result in runners.take(shard.isa, shard.threads).run(task, show):
                results[int(result.cell)] = result
    return results


def judge(spec: JobSpec, project: str, results: dict[int, CellResult]) -> Report:
    """The report that the service would give, but for what needs history."""
    views: list[CellView] = []
    found: list[Finding] = []
    judged = 0
    for cell in plan.cells(spec):
        result = results[cell.ordinal]
        irregular = judge_cell(spec.policy, result.status, result.reason)
        shown = tuple(_judged(spec, project, cell, measurement) for measurement in result.measurements)
        findings = [irregular, *(view.finding for view in shown)]
        found += [finding for finding in findings if finding is not None]
        judged += sum(is_judged(spec.policy, _floor_db(cell, view)) for view in shown)
        views.append(
            CellView(
                id=str(cell.ordinal),
                **dict(cell),
                status=result.status,
                reason=result.reason,
                traceback=result.traceback,
                executed_engine=result.executed_engine,
                environment=environment_key(result.environment) if result.environment else None,
                inputs_digest=result.inputs_digest,
                duration_s=result.duration_s,
                finding=irregular,
                measurements=shown,
                repro=plan.repro(cell, spec.limits),
            )
        )
    verdict, message = conclude(found, judged=judged)
    return Report(name=spec.name, verdict=verdict, message=message, cells=tuple(views))


def _judged(spec: JobSpec, project: str, cell: plan.Cell, measurement: Measurement) -> MeasurementView:
    identity = series_identity(
        project=project,
        subject=cell.subject,
        quantization=cell.scheme.quantization,
        edge=measurement.edge,
        lane=cell.lane,
        metric=measurement.metric,
        place=measurement.place,
    )
    zero_output = measurement.sums is not None and measurement.sums.zero_output
    evidence = Evidence(
        figure=measurement.figure, zero_output=zero_output, floor_db=_floor_db(cell, measurement)
    )
    return MeasurementView(
        **dict(measurement),
        series=series_key(identity),
        zero_output=zero_output,
        finding=judge_measurement(spec.policy, evidence),
    )


def _floor_db(cell: plan.Cell, measurement: Measurement) -> float | None:
    return cell.scheme.floor_db.get(measurement.edge) if measurement.place == OUTPUT else None
