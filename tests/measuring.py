"""A worker's part played by the test, on the real store: claim a shard, record results."""

from collections.abc import Callable

from sqlalchemy.orm import Session
from tests.samples import result

from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.worker import Capabilities
from noisefloor.dispatch.port import Dispatch
from noisefloor.settings import Settings
from noisefloor.store.tables import Job
from noisefloor.workflow.execute import Claim, claim
from noisefloor.workflow.record import record
from noisefloor.workflow.submit import submit

TAKES_ALL = Capabilities(
    engines=(), isas=("native",), threads=1, memory_gib=8, machine="x86_64", torch="2.13.0", takes_all=True
)


def claimed(session: Session, worker: str = "w", takes: Capabilities = TAKES_ALL) -> Claim:
    """The next shard."""
    held = claim(session, worker, takes)
    assert held is not None
    return held


def finish(session: Session, held: Claim, answer: Callable[[str], CellResult] = result) -> None:
    """Record a result for every cell of the shard."""
    for cell in held.cells:
        record(session, shard_id=held.shard_id, attempt=held.attempt, result=answer(cell.cell))


def measure(
    session: Session,
    settings: Settings,
    dispatch: Dispatch,
    spec: JobSpec,
    answer: Callable[[str], CellResult] = result,
) -> Job:
    """A job submitted and measured to its end."""
    job = submit(session, project="demo", spec=spec, settings=settings, dispatch=dispatch)
    while (held := claim(session, "w", TAKES_ALL)) is not None:
        finish(session, held, answer)
    return job
