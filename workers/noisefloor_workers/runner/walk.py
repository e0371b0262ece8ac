"""Walking a shard's cells, in the process that has torch. Whatever a model raises ends its cell, typed."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

from noisefloor.contract.files import Files
from noisefloor.contract.measurement import CellResult, CellTask, Environment
from noisefloor.contract.plugins import Plugin, plugins
from noisefloor.gate.files import doubt
from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.lanes.device import hold
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.plugins import packages
from noisefloor_workers.runner import operators
from noisefloor_workers.runner.bench import Bench
from noisefloor_workers.runner.kernels import walk_kernels
from noisefloor_workers.runner.messages import (
    CellFinished,
    CellStarted,
    ChildEvent,
    ShardTask,
    Step,
    SubjectStarted,
)
from noisefloor_workers.runner.outcome import ended_by
from noisefloor_workers.subjects.errors import OtherFilesError
from noisefloor_workers.subjects.load import LoadedSubject, load
from noisefloor_workers.subjects.origin import origin

Measure = Callable[[CellTask], CellResult]


def walk(task: ShardTask) -> Iterator[ChildEvent]:
    """Measure every cell of a shard once, and tell what is being done.

    Cells are taken one quantization after another, so that one calibrated model is alive at a time. If the
    subject cannot be loaded or run, all cells end for that reason.
    """
    if task.subject.conformance is not None:
        yield from walk_kernels(task, task.subject.conformance)
        return
    yield SubjectStarted()
    started_s = time.monotonic()
    try:
        hold(task.device)
    except Unsupported as error:
        yield from _all_end(task, error, started_s)
        return
    operator = task.subject.operator
    if operator is not None:
        measure = partial(operators.measure, subject=task.subject, operator=operator, analysis=task.analysis)
        yield from _each(task, task.cells, measure)
        return
    yield Step(text=f"loading {task.subject.label}")
    loaded: LoadedSubject | BaseException
    try:
        loaded = load(task.subject, task.import_allow, task.files).on(task.device)
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        loaded = error
    files = origin(task.subject, task.git, task.files, task.told, _plugins(task, *task.cells))
    against = doubt(task.git, task.subject, files)
    if against is not None and against.certain:
        loaded = OtherFilesError(against.message)
    for event in _measure(task, loaded, started_s):
        yield _with_files(event, files) if isinstance(event, CellFinished) else event


def _measure(
    task: ShardTask, subject: LoadedSubject | BaseException, started_s: float
) -> Iterator[ChildEvent]:
    """Every cell of a model, or of none the reason."""
    if isinstance(subject, BaseException):
        yield from _all_end(task, subject, started_s)
        return
    yield Step(text=f"running {task.subject.label} in float32")
    try:
        bench = Bench(subject, task.analysis)
    except BaseException as error:  # noqa: BLE001 - as above
        yield from _all_end(task, error, started_s)
        return
    for quantization, cells in groupby(
        in_walking_order(task.cells), key=lambda cell: cell.scheme.quantization
    ):
        yield from _each(task, cells, partial(bench.measure, calibration=bench.calibration(quantization)))


def _with_files(event: CellFinished, files: Files | None) -> CellFinished:
    return event.replace(result=event.result.replace(files=files))


def _each(task: ShardTask, cells: Iterable[CellTask], measure: Measure) -> Iterator[ChildEvent]:
    for cell in cells:
        yield CellStarted(cell=cell.cell)
        yield Step(text=f"{cell.scheme.quantization.label} on {cell.lane.label}")
        yield CellFinished(result=_measured(task, cell, measure))


def _all_end(task: ShardTask, error: BaseException, started_s: float) -> Iterator[CellFinished]:
    for cell in task.cells:
        yield CellFinished(result=_ended(error, task, cell, started_s))


def in_walking_order(cells: tuple[CellTask, ...]) -> list[CellTask]:
    """Cells of one quantization together, in the order in which each first appears."""
    first: dict[str, int] = {}
    for index, cell in enumerate(cells):
        first.setdefault(cell.scheme.quantization.model_dump_json(), index)
    return sorted(cells, key=lambda cell: first[cell.scheme.quantization.model_dump_json()])


def _measured(task: ShardTask, cell: CellTask, measure: Measure) -> CellResult:
    started_s = time.monotonic()
    try:
        result = measure(cell).replace(environment=_environment(task, cell))
        # names of outputs are the model's: what cannot be written as JSON must end here
        result.model_dump_json()
    except BaseException as error:  # noqa: BLE001 - a model may raise anything, SystemExit too
        return _ended(error, task, cell, started_s)
    return result


def _ended(error: BaseException, task: ShardTask, cell: CellTask, started_s: float) -> CellResult:
    duration_s = time.monotonic() - started_s
    return ended_by(error, cell=cell.cell, environment=_environment(task, cell), duration_s=duration_s)


def _environment(task: ShardTask, cell: CellTask) -> Environment:
    """What the cell's figures depend on, with the packages of the plugins that it uses."""
    return environment(task.device, packages(_plugins(task, cell)))


def _plugins(task: ShardTask, *cells: CellTask) -> set[Plugin]:
    return {plugin for cell in cells for plugin in plugins(task.subject, cell.scheme, task.analysis.metrics)}
