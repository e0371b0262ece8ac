"""The verdict: what a policy says of results, measurement by measurement."""

from enum import StrEnum

from pydantic import AwareDatetime

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.figure import Figure


class Verdict(StrEnum):
    """From good to bad. The first two and `acknowledged` let a merge through."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    ACKNOWLEDGED = "acknowledged"
    WARN = "warn"
    PENDING = "pending"
    NO_BASELINE = "no_baseline"
    ERROR = "error"
    REGRESSED = "regressed"

    @property
    def severity(self) -> int:
        """A larger one outweighs a smaller one: a definite loss outweighs what could not be evaluated."""
        return list(Verdict).index(self)

    @property
    def exit_code(self) -> int:
        """The command line's answer."""
        codes = {Verdict.REGRESSED: 1, Verdict.ERROR: 2, Verdict.PENDING: 2, Verdict.NO_BASELINE: 3}
        return codes.get(self, 0)


# What the gate refused is no baseline: a regression must not become the norm by being run twice.
ACCEPTED = (Verdict.PASS, Verdict.WARN, Verdict.ACKNOWLEDGED, Verdict.NO_BASELINE)


class Baseline(Value):
    """The accepted measurement that a series is judged against, and where it came from."""

    measurement_id: Text
    job_id: Text
    figure: Figure
    sha: Text | None = None
    measured_at: AwareDatetime | None = None


class Finding(Value):
    """What the policy says of one measurement, or of a cell that gave none."""

    verdict: Verdict
    rule: Text
    message: LongText
    floor_db: float | None = None
    drop_db: float | None = None
    baseline: Baseline | None = None
