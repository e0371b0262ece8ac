"""The database's metrics, as families for Prometheus.

What is read from tables is a gauge: tables are pruned, and a counter that falls would lie.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import Engine

from noisefloor.contract.job import JobSpec
from noisefloor.store import census, clock
from noisefloor.store.census import Outbox, Waiting
from noisefloor.store.session import reading
from noisefloor.telemetry.metrics import LANE

DEFAULT_PRIORITY: int = JobSpec.model_fields["priority"].default
HISTORY_SHARE = 0.05  # of the time, at most, is spent on counting what has ended


class Census:
    """The database's metrics.

    The queue, the workers and the outbox are found by indexes. The history is not: it is counted again once
    twenty times as long has passed as counting took, so that no number of scrapes and no size of it weighs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = threading.Lock()
        self._history: list[Metric] = []
        self._due_at_s = 0.0

    def read(self) -> list[Metric]:
        """All families, as they are now. Scrapes that come together take turns, on one connection."""
        with self._reading:
            return [*self._now(), *self._kept()]

    def _now(self) -> Iterator[Metric]:
        with reading(self._engine) as session:
            waiting, running = census.waiting(session), census.running(session)
            workers, outbox = census.live_workers(session), census.outbox(session)
        yield from _queue(waiting)
        yield from _in_hand(running)
        yield from _workers(workers)
        yield from _outbox(outbox)

    def _kept(self) -> list[Metric]:
        started_s = time.monotonic()
        if started_s >= self._due_at_s:
            self._history = list(self._count())
            ended_s = time.monotonic()
            self._due_at_s = ended_s + (ended_s - started_s) / HISTORY_SHARE
        return self._history

    def _count(self) -> Iterator[Metric]:
        with reading(self._engine) as session:
            cells, jobs = census.ended_cells(session), census.jobs(session)
            claimed = census.claims(session)
        rows = [((status, engine, device, isa), number) for status, engine, device, isa, number in cells]
        yield gauge("noisefloor_ended_cells", "Cells that ended and are kept.", rows, ("status", *LANE))
        verdicts = [((status, verdict), number) for status, verdict, number in jobs]
        yield gauge("noisefloor_jobs", "Jobs that are kept.", verdicts, ("status", "verdict"))
        yield gauge("noisefloor_shard_claims", "How often the kept shards were claimed.", [((), claimed)])


def _queue(waiting: Sequence[Waiting]) -> Iterator[Metric]:
    now, labels = clock.now(), (*LANE, "priority")
    cells: Counter[tuple[str, ...]] = Counter()
    oldest_s: dict[tuple[str, ...], float] = {}
    for one in waiting:
        key = (one.engine, one.device, one.isa, priority_class(one.priority))
        cells[key] += one.cells
        oldest_s[key] = max(oldest_s.get(key, 0.0), (now - one.oldest).total_seconds())
    yield gauge("noisefloor_queue_cells", "Cells that wait for a worker.", cells.items(), labels)
    since = "Since the oldest waiting cell's job was posted."
    yield gauge("noisefloor_queue_oldest_seconds", since, oldest_s.items(), labels)


def _in_hand(running: Sequence[tuple[str, str, str, bool, int]]) -> Iterator[Metric]:
    kept = [((engine, device, isa), number) for engine, device, isa, lost, number in running if not lost]
    orphaned = [((engine, device, isa), number) for engine, device, isa, lost, number in running if lost]
    yield gauge("noisefloor_running_cells", "Cells in a worker's hands that have not ended.", kept, LANE)
    ran_out = "The same where the lease ran out, and nobody took them yet."
    yield gauge("noisefloor_orphaned_cells", ran_out, orphaned, LANE)


def _workers(live: Mapping[str, tuple[int, int]]) -> Iterator[Metric]:
    states = [((state,), number) for state, (number, _) in live.items()]
    slots = [((state,), number) for state, (_, number) in live.items()]
    yield gauge("noisefloor_workers", "Workers heard of lately.", states, ("state",))
    yield gauge("noisefloor_worker_slots", "Shards that they measure at once.", slots, ("state",))


def _outbox(kinds: Sequence[Outbox]) -> Iterator[Metric]:
    due = [((one.kind,), one.due) for one in kinds]
    lag_s = [((one.kind,), one.lag_s) for one in kinds]
    dead = [((one.kind,), one.dead) for one in kinds]
    yield gauge("noisefloor_outbox_due", "Deliveries that are due.", due, ("kind",))
    yield gauge("noisefloor_outbox_lag_seconds", "How late the oldest of them is.", lag_s, ("kind",))
    yield gauge("noisefloor_dead_letters", "Deliveries given up.", dead, ("kind",))


def priority_class(priority: int) -> str:
    """A job's priority against the one that it has when it asks for none.

    >>> [priority_class(priority) for priority in (0, 50, 100)]
    ['low', 'normal', 'high']
    """
    if priority == DEFAULT_PRIORITY:
        return "normal"
    return "high" if priority > DEFAULT_PRIORITY else "low"


def gauge(
    name: str,
    documentation: str,
    values: Iterable[tuple[tuple[str, ...], float]],
    labels: tuple[str, ...] = (),
) -> GaugeMetricFamily:
    """A family of one value for each set of labels."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
