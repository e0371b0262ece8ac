"""What operators see of a worker's shards and cells: log lines, counts, and spans in their job's trace."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from noisefloor.contract.measurement import CellResult
from noisefloor.errors import StaleTokenError
from noisefloor.telemetry import logs, traces
from noisefloor.telemetry.metrics import CELL_DURATION, CELLS, CLAIMS, LEASES_LOST, TAKEOVERS
from noisefloor.workflow.execute import Claim

log = logging.getLogger(__name__)


@contextmanager
def shard(held: Claim, worker: str) -> Iterator[None]:
    """The time in which a shard is in hand. Counts a lease that is lost within."""
    CLAIMS.inc()
    if held.tries > 1:
        TAKEOVERS.inc()
    with (
        logs.about(job=held.job_id, shard=held.shard_id, attempt=held.attempt, worker=worker),
        traces.span(
            "shard",
            held.job_id,
            shard=held.shard_id,
            attempt=held.attempt,
            worker=worker,
            cells=len(held.cells),
        ),
    ):
        log.info("shard taken: %d cells of %s", len(held.cells), held.subject.label)
        try:
            yield
        except StaleTokenError:
            LEASES_LOST.inc()
            raise
        log.info("shard let go")


@contextmanager
def cell(held: Claim, result: CellResult) -> Iterator[None]:
    """The time in which a cell's result is recorded, after the time in which it was measured."""
    task = next(one for one in held.cells if one.cell == result.cell)
    label = f"{held.subject.label} · {task.scheme.label} · {task.lane.label}"
    with (
        logs.about(cell=result.cell),
        traces.span(
            "cell",
            held.job_id,
            seconds_ago=result.duration_s or 0.0,
            cell=result.cell,
            label=label,
            lane=task.lane.label,
            status=result.status.value,
            attempt=held.attempt,
        ),
    ):
        with traces.span("record", held.job_id):
            yield
        lane = (task.lane.engine, task.lane.device, task.lane.isa)
        CELLS.labels(result.status.value, *lane).inc()
        if result.duration_s is not None:
            CELL_DURATION.labels(*lane).observe(result.duration_s)
        log.info("%s: %s%s", label, result.status.value, f": {result.reason}" if result.reason else "")
