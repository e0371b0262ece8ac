"""What a delivery from a provider says, whichever provider it came from."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from noisefloor.contract.base import Moment, Text, Value
from noisefloor.contract.suite import FullSha, HookEvent, Provider, Repository

NO_COMMIT = "0"
HEADS = "refs/heads/"


class Head(Value):
    """A commit became the head of a branch, of a pull request, or of a group to be merged."""

    provider: Provider
    event: HookEvent
    repository: Repository
    sha: FullSha
    before: FullSha | None = None
    branch: Text
    into: Text
    on_default_branch: bool = False
    at: Moment | None = None
    committed_at: Moment | None = None
    installation: int | None = None

    @property
    def line(self) -> str | None:
        """Where newer heads replace older ones. Groups to be merged stand side by side."""
        return None if self.event == "merge_group" else self.branch


class Again(Value):
    """Somebody asks for the checks of a commit once more: all of them, or the one with this id."""

    provider: Provider
    repository: Repository
    sha: FullSha
    check: Text | None = None
    installation: int | None = None


class Ignored(Value):
    """Nothing is to be done, and why."""

    reason: str


Event = Head | Again | Ignored


class Payload(BaseModel):
    """The part of a provider's document that is read; the rest of it is nobody's business here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _moment(value: Any) -> Any:
    """A moment as GitLab writes some: `2026-01-02 03:04:05 UTC`."""
    return (
        value.removesuffix(" UTC") + "+00:00" if isinstance(value, str) and value.endswith(" UTC") else value
    )


SomeMoment = Annotated[datetime, BeforeValidator(_moment)]


def is_no_commit(sha: str) -> bool:
    """Whether the sha is all zeros: the branch was deleted, or did not exist before."""
    return not sha.strip(NO_COMMIT)
