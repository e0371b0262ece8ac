"""Attribution: how much of a loss the code did, and how much the environment."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from noisefloor.contract.base import Digest, LongText, Text, Value
from noisefloor.contract.figure import Figure


class Cause(StrEnum):
    """What a loss is put down to."""

    CODE = "code"
    ENVIRONMENT = "environment"
    BOTH = "both"
    UNKNOWN = "unknown"


class Corner(Value):
    """One commit in one environment: what it measures, and how that is known.

    `same_code`: both commits are one, or nothing in the subject is the repository's, so it is what the other
    commit measures there.
    `pending`: a job that the service has entered measures it.
    """

    sha: Text | None
    environment: Digest | None
    how: Literal["measured", "same_code", "pending", "missing"]
    figure: Figure | None = None
    job_id: Text | None = Field(default=None, description="that measured it, measures it, or could not")
    offered: bool = Field(default=False, description="of one that is missing: a worker could measure it now")
    note: LongText | None = Field(default=None, description="why there is no figure")


class Square(Value):
    """The baseline's commit, `old`, and this one, each in the baseline's environment and in this one."""

    old_in_old: Corner
    old_in_new: Corner
    new_in_old: Corner
    new_in_new: Corner


class Attribution(Value):
    """A loss in decibels, split. Losses are positive; null is not known, and `message` says what it takes."""

    cause: Cause
    total_db: float | None = Field(description="the baseline's figure less this one")
    code_db: float | None = Field(default=None, description="this commit, in the baseline's environment")
    environment_db: float | None = Field(
        default=None, description="this environment, with the baseline's commit"
    )
    interaction_db: float | None = Field(default=None, description="what both lose together, beyond the sum")
    square: Square
    message: LongText


class AttributionView(Value):
    """The attribution of one finding of a job."""

    measurement: Text
    cell: Text
    series: Digest
    attribution: Attribution
