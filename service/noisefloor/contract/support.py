"""What `noisefloor lanes` answers: which lanes of the contract a machine can measure on, found by trying."""

from typing import Self

from pydantic import Field, model_validator

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Isa, Lane
from noisefloor.contract.measurement import Environment


class LaneSupport(Value):
    """What became of the trial cell on one lane, under the memory limit that a job has by default."""

    lane: Lane
    works: bool = Field(description="the cell ended done, and its output has a figure")
    status: CellStatus | None = Field(
        default=None, description="how the cell ended; null where no runner started under the cap"
    )
    reason: LongText | None = Field(default=None, description="why not; null where the lane works")
    executed_engine: Text | None = Field(default=None, description="as torch named it when the cell ended")
    figure: Figure | None = Field(
        default=None, description="SQNR in dB of the trial's output; of a few samples, so not for comparing"
    )

    @model_validator(mode="after")
    def _a_no_has_a_reason(self) -> Self:
        if self.works == (self.reason is not None):
            raise ValueError("a lane that works has no reason, and one that does not has one")
        return self


class Support(Value):
    """The support matrix of one machine: every lane that was tried, once."""

    environments: dict[Isa, Environment] = Field(
        default_factory=dict,
        description="by ISA cap, what the trials ran in; every cap under which a lane works has an entry",
    )
    lanes: tuple[LaneSupport, ...]

    @property
    def any_works(self) -> bool:
        return any(tried.works for tried in self.lanes)
