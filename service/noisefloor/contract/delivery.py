"""Deliveries: what is announced of a verdict, to whom, and what became of it."""

from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, StringConstraints, model_validator

from noisefloor.contract.base import Identifier, LongText, Name, Text, Value, refuse_repeats
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import Sha
from noisefloor.contract.suite import Context, FullSha, Provider, Repository
from noisefloor.contract.verdict import Baseline, Verdict


def _has_a_host(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:
        raise ValueError("the address names no host, or no port that there is")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address carries no password: receivers know a delivery by its signature")
    return url


def _is_final(verdict: Verdict) -> Verdict:
    if verdict is Verdict.PENDING:
        raise ValueError("webhooks hear of settled jobs")
    return verdict


WebhookUrl = Annotated[
    str,
    StringConstraints(max_length=2048, pattern=r"^https?://[\x21-\x7e]+$"),
    AfterValidator(_has_a_host),
]


class Loss(Value):
    """One finding of the summary: where, how much, since what, and what did it."""

    where: LongText
    verdict: Verdict
    message: LongText
    figure: Figure | None = None
    floor_db: float | None = None
    drop_db: float | None = None
    creep_db: float | None = Field(default=None, description="loss since the release, where that is at fault")
    baseline: Baseline | None = None
    layer: LongText | None = Field(default=None, description="the layer to look at first, and why")
    cause: LongText | None = Field(default=None, description="the attribution's message: code or environment")
    let_through: LongText | None = Field(default=None, description="who acknowledged it, until when, and why")
    repro: str | None = Field(
        default=None, description="the command that measures it; of what is missing none"
    )


class Reasons(Value):
    """Why the verdict is what it is: the gravest findings."""

    losses: tuple[Loss, ...] = ()
    more: int = Field(default=0, description="findings that are not a pass, beside those shown")


class Announcement(Value):
    """A verdict of a job, or of a suite at a commit that no job has measured yet."""

    sequence: int = Field(description="a larger one of the same check, or job, is newer")
    at: AwareDatetime
    project: Name
    job: Identifier | None
    suite: Name | None = None
    repository: Text | None = None
    sha: Sha | None = None
    branch: Text | None = None
    verdict: Verdict
    message: LongText


class CheckTarget(Value):
    """Where a status stands: a context beside a commit."""

    check: Identifier
    provider: Provider
    repository: Repository
    sha: FullSha
    context: Context
    installation: int | None = Field(default=None, description="of the GitHub App, as the webhook named it")


class Webhook(Value):
    """An endpoint that hears of a project's verdicts, by Standard Webhooks 1.0."""

    url: WebhookUrl
    secret: SecretStr | None = Field(
        default=None,
        description="whsec_ and the base64 of 24 to 64 bytes; made by the service where none is given",
    )
    verdicts: Annotated[
        tuple[Annotated[Verdict, AfterValidator(_is_final)], ...], Field(max_length=len(Verdict) - 1)
    ] = Field(default=(), description="those that are sent; all of settled jobs without any")
    enabled: bool = True

    @model_validator(mode="after")
    def _verdicts_once(self) -> Self:
        refuse_repeats("verdicts", self.verdicts)
        return self


class WebhookView(Value):
    """A webhook without its secret."""

    project: Name
    name: Name
    url: WebhookUrl
    verdicts: tuple[Verdict, ...]
    enabled: bool
    disabled_reason: LongText | None = None
    secret: str | None = Field(default=None, description="once: in the answer to the request that made it")


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    DEAD = "dead"


class DeliveryView(Value):
    """A delivery: what was to be sent, how often it was tried, and how it ended."""

    id: Identifier
    kind: Literal["github", "gitlab", "webhook"]
    target: Text = Field(description="the status's context, or the webhook's name")
    sequence: int
    status: DeliveryStatus
    tries: int
    response_status: int | None = None
    error: LongText | None = None
    created_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    announcement: Announcement
