"""The suite: a named job that the service keeps, and the events of a repository that it runs on."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from noisefloor.contract.base import Identifier, LongText, Name, Text, Value, refuse_repeats
from noisefloor.contract.job import Git, JobSpec

Provider = Literal["github", "gitlab"]
HookEvent = Literal["push", "pull_request", "merge_group"]
Repository = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}(/[A-Za-z0-9_.-]{1,100}){1,20}$", max_length=255)
]
FullSha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
# What a provider shows beside a commit: printable, and short enough for all of them.
Context = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,98}[\x21-\x7e])?$")]


class Suite(Value):
    """What is measured of a repository, when, and what its status is called there.

    `service` measures on this service's workers. `external` only opens the status: the user's own CI measures
    its checkout, and posts results that name the suite.
    """

    provider: Provider
    repository: Repository = Field(description="owner/name, or a GitLab project's full path")
    events: Annotated[tuple[HookEvent, ...], Field(max_length=3)] = Field(
        default=("push", "pull_request", "merge_group"),
        description="pull_request stands for merge requests too; without any the suite is off",
    )
    branches: Annotated[tuple[Text, ...], Field(min_length=1, max_length=32)] = Field(
        default=("*",),
        description="globs: of the branch that was pushed, or that a pull request or a merge group goes into",
    )
    run: Literal["service", "external"] = "service"
    job: JobSpec | None = Field(default=None, description="without git; needed where the service measures")
    context: Context | None = Field(
        default=None, description="the status's name beside the commit; noisefloor/<suite> without it"
    )
    timeout_s: Annotated[float, Field(ge=1, le=604_800)] = Field(
        default=3600.0, description="a status that is still pending then ends as error"
    )
    cancel_older_on_default_branch: bool = Field(
        default=False,
        description="newer heads cancel older jobs of their branch; those of the default branch only if set",
    )

    @model_validator(mode="after")
    def _job_fits(self) -> Self:
        refuse_repeats("events", self.events)
        if self.run == "service" and self.job is None:
            raise ValueError("a suite that the service runs needs a job")
        if self.job is not None and self.job.git != Git():
            raise ValueError("the job of a suite has no git: each event brings its own commit")
        if self.job is not None and self.job.suite is not None:
            raise ValueError("the job of a suite names no suite: it is this one")
        return self


class SuiteView(Suite):
    """A suite as it is kept."""

    project: Name
    name: Name
    updated_at: AwareDatetime


class CheckOutcome(Value):
    """What an event did to one suite."""

    project: Name
    suite: Name
    outcome: Literal["started", "known", "running", "failed"]
    job: Identifier | None = None
    cancelled: tuple[Identifier, ...] = Field(default=(), description="older jobs that this head cancels")
    reason: LongText | None = None


class HookAnswer(Value):
    """What became of a delivery from a provider."""

    outcome: Literal["accepted", "ignored", "replayed"]
    reason: LongText = ""
    suites: tuple[CheckOutcome, ...] = ()
