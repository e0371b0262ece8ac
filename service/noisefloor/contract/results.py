"""Finished results that were measured elsewhere, as they are handed to a service."""

from typing import Annotated

from pydantic import Field

from noisefloor.contract.base import Identifier, Value
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import CellResult


class MeasuredJob(Value):
    """A job and the result of each of its cells. A result names its cell by its ordinal in the plan.

    Cells are numbered from 0 by `noisefloor.plan.cells`: subject by subject, then by instruction cap and
    threads, then scheme by scheme, engines last.
    """

    job: JobSpec
    results: Annotated[tuple[CellResult, ...], Field(description="one of each cell, in any order")]
    explains: Identifier | None = Field(
        default=None, description="a job whose losses they look into; then they decide nothing themselves"
    )
