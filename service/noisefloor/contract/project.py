"""What a project decides for itself."""

from typing import Annotated

from pydantic import Field

from noisefloor.contract.base import Text, Value

Days = Annotated[int, Field(ge=1, le=36_500)]


class ProjectSettings(Value):
    """A project's own settings."""

    default_branch: Annotated[Text, Field(min_length=1)] = Field(
        default="main", description="jobs of any other branch are those of a pull request"
    )
    public_badge: bool = Field(default=False, description="the badge is shown without a token")


class Retention(Value):
    """How long what is measured is kept, in days since its job was settled; without a number, forever.

    Whatever is set, what serves as a baseline stays, and so does the newest result of each series.
    """

    layers_of_pull_requests_days: Days | None = None
    layers_days: Days | None = Field(default=None, description="of jobs on the default branch, or on none")
    jobs_of_pull_requests_days: Days | None = None
    jobs_days: Days | None = Field(default=None, description="on the default branch, or on none")


class Pruned(Value):
    """What was deleted, or would be."""

    layers: int = Field(default=0, description="layers of so many cells")
    jobs: int = 0
