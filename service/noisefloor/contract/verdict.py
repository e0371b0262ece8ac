"""The verdict: what a policy says of results, measurement by measurement."""

from datetime import date
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from noisefloor.contract.base import Digest, LongText, Text, Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.policy import Source


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


LETS_THROUGH = frozenset({Verdict.PASS, Verdict.ACKNOWLEDGED, Verdict.WARN})
# What the gate refused is no baseline: a regression must not become the norm by being run twice.
ACCEPTED = (Verdict.PASS, Verdict.WARN, Verdict.ACKNOWLEDGED, Verdict.NO_BASELINE)


class Baseline(Value):
    """The accepted measurement that a series is judged against, and how it was chosen."""

    measurement_id: Text
    job_id: Text
    figure: Figure
    sha: Text | None = None
    measured_at: AwareDatetime | None = None
    source: Source | Literal["release"] = "previous"
    distance: int | None = Field(default=None, description="in commits along first parents, if known")
    fell_back: Text | None = Field(default=None, description="why the policy's first source gave none")
    environment: Digest | None = None
    environment_changed: bool = False
    output_digest: Digest | None = None


class Acknowledgement(Value):
    """Who lets a regression through, why, and until when."""

    kind: Literal["acceptance", "waiver"]
    reason: LongText
    by: Text | None = None
    until: date | None = Field(default=None, description="the last day on which it counts, in UTC")
    id: Text | None = Field(default=None, description="of the acceptance")

    def __str__(self) -> str:
        """Who lets it through, until when, and why.

        >>> str(Acknowledgement(kind="waiver", reason="known", until="2027-01-31"))
        'waiver until 2027-01-31: known'
        """
        who = f" by {self.by}" if self.by else ""
        until = f" until {self.until}" if self.until is not None else ""
        return f"{self.kind}{who}{until}: {self.reason}"


class Breach(Value):
    """What one rule says of a measurement."""

    verdict: Verdict
    rule: Text
    message: LongText
    tolerance_db: float | None = Field(
        default=None, description="how far below an accepted level is still covered; None: no level covers it"
    )
    limit: float | None = Field(
        default=None, description="what was asked, of a rule that is held against no earlier result"
    )


class Finding(Breach):
    """What the policy says of one measurement, of a cell that gave none, or of a series that is missing.

    Where several rules speak, the gravest does; `also` has the others that are no pass.
    """

    floor_db: float | None = None
    drop_db: float | None = None
    baseline: Baseline | None = None
    creep_db: float | None = Field(default=None, description="loss since `anchor`, dB")
    anchor: Baseline | None = Field(default=None, description="what creep is measured from")
    also: tuple[Breach, ...] = ()
    acknowledged: Acknowledgement | None = None


class Absence(Value):
    """A series that the baseline had and this job should have, but has not."""

    series: Digest
    label: LongText = Field(description="subject, scheme, lane, edge and place: each may be a text by itself")
    finding: Finding


class Compared(Value):
    """What was held against baselines: any aggregate is over `common` alone."""

    common: int = 0
    missing: int = 0
    without_baseline: int = 0
