"""Policies, baselines and gates as they are asked for and answered."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from noisefloor.contract.base import Identifier, LongText, Moment, Text, Value, contradiction
from noisefloor.contract.job import Sha
from noisefloor.contract.match import Match
from noisefloor.contract.policy import Policy, PolicyOrName, Reason
from noisefloor.contract.verdict import Verdict

Kind = Literal["accept", "pin"]
WHOLE = "the whole sha, as the jobs have it"


class JobPolicy(Value):
    """The policy that a job is judged by; with its name and version if it is a stored one."""

    name: Text | None = None
    version: int | None = None
    policy: Policy


class PolicyView(Value):
    """A version of a stored policy."""

    name: Text
    version: int
    created_at: AwareDatetime
    policy: Policy


class DryRunRequest(Value):
    """Which jobs of the past to judge again; the latest `limit` of them."""

    since: Moment | None = None
    until: Moment | None = None
    branch: Text | None = None
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="of the policy; the latest by default"
    )
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class DryRunRow(Value):
    """One job: the verdict it got, and the one it would have got."""

    job: Text
    name: Text
    sha: Text | None
    branch: Text | None
    at: AwareDatetime
    was: Verdict
    would_be: Verdict
    message: LongText


class DryRunView(Value):
    """What a policy would have done to past jobs, newest first. Nothing is written."""

    policy: PolicyView
    jobs: tuple[DryRunRow, ...]
    would_block: int = Field(description="jobs that would not have been let through")
    newly_blocked: int = Field(description="of these, jobs that were let through")
    newly_passed: int = Field(description="jobs that were not let through, and would have been")


class BaselineRequest(Value):
    """Accept a regression, or pin a result as the baseline: of a job, or of all settled jobs of a commit."""

    kind: Kind
    sha: Sha | None = Field(default=None, description=WHOLE)
    job: Identifier | None = None
    match: Match = Match()
    reason: Reason
    by: Annotated[Text, Field(min_length=1)] | None = None
    until: date | None = Field(default=None, description="the last day on which it counts, in UTC")

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if (self.sha is None) == (self.job is None):
            raise contradiction("job", "give either sha or job", self.job)
        return self


class BaselineView(Value):
    """What somebody accepted or pinned."""

    id: Text
    kind: Kind
    job: Text = Field(description="the job, or the latest of the commit")
    sha: Text | None
    branch: Text | None
    whole_commit: bool
    match: Match
    reason: LongText
    by: Text | None
    until: date | None
    created_at: AwareDatetime
    acknowledged: tuple[Text, ...] = Field(default=(), description="jobs whose findings it changed just now")


class GateRequest(Value):
    """A question: whether a commit may pass, given the jobs measured at it."""

    sha: Sha = Field(description=WHOLE)
    policy: PolicyOrName | None = Field(
        default=None, description="judge again by this one; by default each job's verdict stands"
    )
    expect: Annotated[tuple[Text, ...], Field(max_length=100)] = Field(
        default=(), description="names or suites of jobs that have to be there"
    )
    timeout_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 3600.0


class GateJob(Value):
    """One job of the commit."""

    name: Text
    job: Text | None
    verdict: Verdict
    message: LongText


class GateView(Value):
    """The answer, as of now: pending until all that is expected is settled, or the limit has passed."""

    id: Text
    sha: Text
    verdict: Verdict
    message: LongText
    jobs: tuple[GateJob, ...]
    created_at: AwareDatetime
    deadline: AwareDatetime
