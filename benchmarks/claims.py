"""What a claim costs by the length of the queue: `python -m benchmarks.claims`, from the repository's root.

There are always as many shards; the newest of them are queued. One project has all but ten, which are
another's. Each claim is rolled back, so that all see the same queue. The ratio is against the same claim on a
queue of twenty, in the same run. A worker that suits none of the shards looks through all that are queued:
its cost is the last column.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, insert, select, text, update
from tests.measuring import TAKES_ALL
from tests.postgres import PostgresServer
from tests.samples import spec

from noisefloor import plan
from noisefloor.contract.worker import Capabilities
from noisefloor.store import schema, tables
from noisefloor.store.session import new_id, open_engine, writing
from noisefloor.workflow.execute import claim

SHORT = 20
SHARDS = 100_000
LENGTHS = (SHORT, 1_000, 10_000, SHARDS)
SHARDS_A_JOB = 100
CLAIMS = 15
SUITS = TAKES_ALL.replace(takes_all=False, engines=("x86",), threads=4)
ELSEWHERE = SUITS.replace(engines=("qnnpack",))


def fill(engine: Engine, queued: int) -> None:
    """Add shards of a cell each, the last ten of another project; all are done but so many."""
    posted, now = spec(), datetime.now(UTC)
    (cell,) = plan.cells(posted)
    document = {
        name: getattr(cell, name).model_dump(mode="json", by_alias=True)
        for name in ("subject", "scheme", "lane")
    }
    with writing(engine, "submit") as session:
        session.execute(
            insert(tables.Project), [{"name": name, "created_at": now} for name in ("crowd", "small")]
        )
        of_job = [SHARDS_A_JOB] * ((SHARDS - 10) // SHARDS_A_JOB) + [(SHARDS - 10) % SHARDS_A_JOB, 10]
        for number, count in enumerate(of_job):
            project = "small" if number == len(of_job) - 1 else "crowd"
            job = {
                "id": new_id(),
                "project": project,
                "name": "",
                "spec": posted.model_dump(mode="json", by_alias=True),
                "git": {},
                "status": "queued",
                "verdict": "pending",
                "verdict_message": "",
                "measured_at": now,
                "created_at": now,
            }
            session.execute(insert(tables.Job), [job])
            rows = [
                {"id": new_id(), "job_id": job["id"], "project": project, "status": "queued"}
                | {"isa": "native", "threads": 1, "priority": 50, "memory_gib": 4.0}
                for _ in range(count)
            ]
            cells = [
                {"id": new_id(), "job_id": job["id"], "shard_id": row["id"], "ordinal": ordinal, **document}
                | {"engine": "x86", "device": "cpu", "status": "queued"}
                for ordinal, row in enumerate(rows)
            ]
            if rows:
                session.execute(insert(tables.Shard), rows)
                session.execute(insert(tables.Cell), cells)
        for table in (tables.Shard, tables.Cell):
            old = select(table.id).order_by(table.id).limit(SHARDS - queued)
            session.execute(update(table).where(table.id.in_(old.scalar_subquery())).values(status="done"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def claim_s(engine: Engine, takes: Capabilities) -> float:
    """The median of some claims, in seconds."""
    took = []
    for _ in range(CLAIMS):
        with suppress(_RollBackError), writing(engine, "claim") as session:
            started_s = time.perf_counter()
            claim(session, "benchmark", takes)
            took.append(time.perf_counter() - started_s)
            raise _RollBackError
    return statistics.median(took)


class _RollBackError(Exception):
    """The claim is not to stand."""


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """A URL for each length of the queue, on both databases."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "postgres").mkdir()
        server = stack.enter_context(PostgresServer(folder / "postgres"))
        yield {
            f"{kind} {length}": f"sqlite:///{folder}/{length}.db"
            if kind == "sqlite"
            else server.create(f"queue{length}")
            for kind in ("sqlite", "postgres")
            for length in LENGTHS
        }


def main() -> None:
    """Print a line for each database and length."""
    print(f"{'':18}{'claim':>10}{'ratio':>8}{'nothing suits':>16}")
    with databases() as urls:
        for name, url in urls.items():
            engine = open_engine(url)
            schema.upgrade(engine)
            fill(engine, int(name.split()[1]))
            took_s, none_s = claim_s(engine, SUITS), claim_s(engine, ELSEWHERE)
            if name.endswith(f" {SHORT}"):
                plain_s = took_s
            print(f"{name:18}{took_s * 1e3:8.1f}ms{took_s / plain_s:8.1f}{none_s * 1e3:14.1f}ms", flush=True)
            engine.dispose()


if __name__ == "__main__":
    main()
