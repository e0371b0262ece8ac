"""Where a job's verdict is written: nowhere else."""

from noisefloor.contract.verdict import Verdict
from noisefloor.store.tables import Job


def give_verdict(job: Job, verdict: Verdict, message: str) -> None:
    """Set the job's verdict, whoever reached it: the last cell, a retry, an acceptance."""
    job.verdict, job.verdict_message = verdict, message
