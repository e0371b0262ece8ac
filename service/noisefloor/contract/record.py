"""A measurement with all that it takes to keep it elsewhere: what is exported, and imported again."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from noisefloor.contract.base import (
    WORD_CHARS,
    Digest,
    Identifier,
    LongText,
    Moment,
    Name,
    Text,
    Untrue,
    Value,
)
from noisefloor.contract.figure import MAX_DB, MAX_FIGURE, beyond
from noisefloor.contract.files import Files
from noisefloor.contract.job import Git, JobStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Environment, Measurement
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Finding, Verdict


class JobRecord(Value):
    """The settled job that a measurement is of."""

    id: Identifier
    name: Text = ""
    git: Git = Git()
    status: Literal[JobStatus.DONE, JobStatus.CANCELLED] = JobStatus.DONE
    verdict: Verdict
    message: LongText
    measured_at: Moment
    created_at: Moment
    finished_at: Moment


class CellRecord(Value):
    """The cell that a measurement is of."""

    id: Identifier
    ordinal: int = Field(ge=0, lt=2**31)
    subject: Subject
    scheme: Scheme
    lane: Lane
    executed_engine: Text | None = None
    inputs_digest: Digest | None = None
    files: Files | None = None
    duration_s: float | None = None


class Record(Value):
    """One measurement. It stands alone: its job and its cell are repeated in each of their measurements."""

    project: Name
    job: JobRecord
    cell: CellRecord
    environment: Environment | None = None
    id: Identifier
    measurement: Measurement
    finding: Finding | None = None

    def untrue(self) -> Iterator[Untrue]:
        """What no export of true results says."""
        baseline = self.finding.baseline if self.finding is not None else None
        words = {
            "cell.executed_engine": self.cell.executed_engine,
            "finding.baseline.measurement_id": baseline.measurement_id if baseline is not None else None,
        }
        for field, word in words.items():
            if word is not None and len(word) > WORD_CHARS:
                yield Untrue(field, "too long", word, [f"length ≤ {WORD_CHARS}"])
        if self.job.verdict is Verdict.PENDING:
            yield Untrue("job.verdict", "a settled job has another", self.job.verdict.value)
        if self.job.finished_at < self.job.created_at:
            message = f"is before created_at, {self.job.created_at}"
            yield Untrue("job.finished_at", message, str(self.job.finished_at))
        if self.cell.duration_s is not None and self.cell.duration_s < 0:
            yield Untrue("cell.duration_s", "no cell takes less than no time", self.cell.duration_s, ["≥ 0"])
        yield from (found.below("measurement") for found in self.measurement.untrue())
        yield from beyond(self.finding, MAX_FIGURE, "finding")
        floor_db = self.finding.floor_db if self.finding is not None else None
        if floor_db is not None and abs(floor_db) > MAX_DB:
            yield Untrue("finding.floor_db", "no floor is that high", floor_db, [f"within ±{MAX_DB:g}"])


class Imported(Value):
    """What became of the rows of an import."""

    rows: int
    added: int
    known: int = Field(description="that were there already, and were left as they are")


DOCUMENTS: tuple[str, ...] = ("job", "cell", "environment", "measurement", "finding")


def document(value: Value | None) -> dict[str, Any] | None:
    """What differs from the defaults, as JSON has it."""
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if value is not None else None
