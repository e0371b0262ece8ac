"""Walking a shard of one operator: its grid of cases on each engine, held against the oracle."""

import time
from collections.abc import Iterator

from noisefloor.contract.conformance import Case, Conformance, Verdict
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import WRONG_CASES, CellResult, CellTask, Measurement
from noisefloor.contract.scheme import ORACLE
from noisefloor.identity import canonical, digest
from noisefloor_workers.conformance.known import marked, ours
from noisefloor_workers.conformance.messages import Listed
from noisefloor_workers.conformance.process import Process
from noisefloor_workers.conformance.suite import examined, listing
from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.lanes.isa import native_level
from noisefloor_workers.runner.fork import ForkedProcess
from noisefloor_workers.runner.messages import (
    CellFinished,
    CellStarted,
    ChildEvent,
    ShardTask,
    Step,
    SubjectStarted,
)
from noisefloor_workers.runner.outcome import ended_by


def walk_kernels(task: ShardTask, op: str) -> Iterator[ChildEvent]:
    """Try an operator on each cell's engine once. What ends its process costs a case, not a cell."""
    yield SubjectStarted()
    shrunk: dict[str, Case] = {}
    with ForkedProcess(task.isa) as process:
        for cell in task.cells:
            yield CellStarted(cell=cell.cell)
            started_s = time.monotonic()
            try:
                _require_plain(cell.lane)
                listed = _listed(process, op, cell)
                found: Conformance | None = None
                for said in examined(process, listed, cell.lane.engine, shrunk):
                    if isinstance(said, Conformance):
                        found = said
                    else:
                        yield Step(text=said)
                if found is None:
                    raise AssertionError("the suite says at last what it found")  # noqa: TRY301
                result = _result(cell, listed, found, time.monotonic() - started_s)
            except Exception as error:  # noqa: BLE001 - what fails ends its cell, typed
                duration_s = time.monotonic() - started_s
                result = ended_by(error, cell=cell.cell, environment=environment(), duration_s=duration_s)
            yield CellFinished(result=result)


def _require_plain(lane: Lane) -> None:
    if lane != Lane(engine=lane.engine, isa=lane.isa):
        raise Unsupported("the conformance suite runs on device cpu with 1 thread")


def _listed(process: Process, op: str, cell: CellTask) -> Listed:
    """The operator with its cases, from the worker, which may be of another version than the service."""
    found = [one for one in listing(process, op=op, quick=cell.scheme.mode == "quick") if one.op == op]
    if not found:
        raise Unsupported(f"operator {op} is not part of this worker's conformance suite")
    return found[0]


def _result(cell: CellTask, listed: Listed, found: Conformance, duration_s: float) -> CellResult:
    refused, here = found.verdict is Verdict.UNSUPPORTED, environment()
    return CellResult(
        cell=cell.cell,
        status=CellStatus.UNSUPPORTED if refused else CellStatus.DONE,
        reason=found.reason if refused else None,
        environment=here,
        executed_engine=None if refused else cell.lane.engine,
        inputs_digest=digest(canonical([case.model_dump(mode="json") for case in listed.cases])),
        duration_s=duration_s,
        measurements=() if refused else _measurements(found),
        conformance=found.replace(known=_known(found, here.torch)),
    )


def _known(found: Conformance, torch: str) -> str | None:
    """Why the fault is accepted. That one has gone away is not for a cell to say: it may be on another's."""
    (one,) = marked([found], ours(), torch=torch, native=native_level())
    return one.known


def _measurements(found: Conformance) -> tuple[Measurement, ...]:
    """What has a history: the count that is judged first. A ratio is measured where a case is wrong."""
    figures = {WRONG_CASES: found.wrong_cases, "wrong_share": found.wrong_share, "max_lsb": found.max_lsb}
    if found.worst_db is not None:
        figures["worst_db"] = found.worst_db
    return tuple(
        Measurement(edge=ORACLE, metric=metric, figure=Figure.finite(value))
        for metric, value in figures.items()
    )
