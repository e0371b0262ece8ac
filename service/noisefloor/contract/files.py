"""Files: of which commit those are that a worker has of its own, and that a cell was measured from."""

from pydantic import Field

from noisefloor.contract.base import Text, Value
from noisefloor.contract.job import Sha


class Files(Value):
    """The commit of a subject's own files, as git saw it where they lie, or as the worker was told.

    Where several files are of several checkouts, the one that fits the job's commit least.
    """

    commit: Sha | None = Field(default=None, description="that is checked out where they lie")
    dirty: bool = Field(default=False, description="tracked files differed from the commit")
    reason: Text | None = Field(default=None, description="why nothing follows about the job's commit")
