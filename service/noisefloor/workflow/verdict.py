"""Where a settled job's verdict is written, and nowhere else."""

from sqlalchemy.orm import Session

from noisefloor.contract.verdict import Verdict
from noisefloor.store.tables import Job
from noisefloor.workflow.announce import announce


def give_verdict(session: Session, job: Job, verdict: Verdict, message: str) -> None:
    """Set the job's verdict, whoever reached it: its last cell, a retry, an acceptance.

    Everything else about the job is written by then, and the caller holds its lock: whoever follows verdicts
    is told in the same transaction.
    """
    job.verdict, job.verdict_message = verdict, message
    session.flush()
    announce(session, job)
