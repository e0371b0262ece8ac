"""The bisection: what is looked for, over which steps, and the first step at which a figure is lost."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from noisefloor.contract.base import (
    Digest,
    Identifier,
    LongText,
    Text,
    Value,
    contradiction,
    refuse_repeats,
)
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import JobSpec, Sha
from noisefloor.contract.scheme import Decibels

Over = Literal["commits", "isa", "layers", "environments"]
MAX_COMMITS = 1000  # ten steps


class Step(Value):
    """One step that was measured, or why it could not be."""

    name: Text = Field(
        description="a sha, a cap on the instruction set, the last layer that is quantized, or an "
        "environment's key"
    )
    title: Text = ""
    figure: Figure | None = None
    bad: bool | None = Field(default=None, description="null where it cannot be told")
    note: LongText | None = None
    job: Text | None = Field(default=None, description="that measures it, where the service does")


class Bisection(Value):
    """The steps that were measured, in order, and the first bad one.

    Environments have no order in which they could only become worse, so all are measured: `good` and `bad`
    are the best and the worst figure, and `facts` what all bad ones have and no good one has.
    """

    over: Over
    series: LongText = Field(description="the one that loses most between the ends")
    good: Figure
    bad: Figure
    steps: tuple[Step, ...]
    first_bad: Step | None = Field(default=None, description="null where steps beside it could not be told")
    candidates: tuple[Text, ...] = Field(default=(), description="the names of those that may be the first")
    facts: tuple[Text, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is an answer."""
        return self.first_bad is not None or bool(self.facts)

    @property
    def conclusion(self) -> str:
        """The answer in words."""
        if self.first_bad is not None:
            return f"first bad: {self.first_bad.name} {self.first_bad.title}".rstrip()
        if self.over != "environments":
            return f"the first bad one is among: {', '.join(self.candidates)}"
        if self.facts:
            return f"bad where {' and '.join(self.facts)}"
        bad = sum(step.bad is True for step in self.steps)
        return f"{bad} of {len(self.steps)} environments are bad, and no one fact tells them from the others"


class BisectionSpec(Value):
    """What a service is asked to bisect: a job, or the worst loss of a job that it has measured."""

    over: Over
    job: JobSpec | None = Field(default=None, description="what each step measures")
    of: Identifier | None = Field(default=None, description="a settled job: its worst loss is looked for")
    series: Digest | None = Field(default=None, description="what is looked at; else what loses most")
    below_db: Decibels | None = Field(
        default=None,
        description="what is below is bad; else where more than half of the loss is there",
    )
    commits: Annotated[tuple[Sha, ...], Field(min_length=2, max_length=MAX_COMMITS)] | None = Field(
        default=None, description="oldest first; else those between `good` and `bad` that the job's git names"
    )
    good: Sha | None = Field(default=None, description="a commit; else the first, or that of the baseline")
    bad: Sha | None = Field(default=None, description="a commit; else the last, or that of the job")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for field, message in self._contradictions():
            raise contradiction(field, message, getattr(self, field))
        refuse_repeats("commits", self.commits or ())
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        if self.job is None and self.of is None:
            yield "job", "give a job, or the id of a measured one as `of`"
        if self.job is not None and self.of is not None:
            yield "of", "`job` is given already: give one of them"
        if self.over != "commits":
            for field in ("commits", "good", "bad"):
                if getattr(self, field) is not None:
                    yield field, f"belongs to a bisection over commits, and this one is over {self.over}"
        if self.over == "layers" and self.of is None and self.below_db is None:
            yield "below_db", "is needed over layers: without a quantized layer all is exact"


class BisectionStatus(StrEnum):
    """Where a bisection stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        return self is not BisectionStatus.RUNNING


class BisectionView(Value):
    """A bisection as the service shows it."""

    id: Text
    project: Text
    status: BisectionStatus
    message: LongText = Field(description="what was found, what is measured now, or why nothing can be found")
    waiting_for: Text | None = Field(default=None, description="why nothing moves, if nothing does")
    spec: BisectionSpec
    steps: tuple[Step, ...] = Field(default=(), description="measured, or being measured")
    found: Bisection | None = Field(default=None, description="once it is done")
    created_at: AwareDatetime
    finished_at: AwareDatetime | None = None
