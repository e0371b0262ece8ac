"""The subject: the model under test, its seeds and its inputs."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from noisefloor.contract.base import Text, Value

ZooName = Literal["multiple-ops", "multiple-ops-no-avgpool"]
ImportPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=256)
]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Stage = Literal["model", "calibration", "evaluation"]
Size = Annotated[int, Field(ge=1, le=2**40)]

FLOAT32_BYTES = 4


class Seeds(Value):
    """Where randomness comes from: three seeds, or one stream drawn by the three stages in turn.

    Three different seeds are the rule. `stream` is the way of scripts that call `manual_seed` once: one
    generator serves model, calibration and evaluation data in `order`.
    """

    model: Seed = 1
    calibration: Seed = 2
    evaluation: Seed = 3
    stream: Seed | None = None
    order: tuple[Stage, Stage, Stage] = ("model", "calibration", "evaluation")

    @model_validator(mode="after")
    def _stages_once(self) -> Self:
        if len(set(self.order)) != len(self.order):
            raise ValueError("order names each of model, calibration, evaluation once")
        return self

    @model_validator(mode="after")
    def _stream_stands_alone(self) -> Self:
        # By value, not by what was written: a dump with all its defaults reads back as the same seeds.
        differing = self.model_dump(exclude_defaults=True).keys()
        if self.stream is not None and differing & {"model", "calibration", "evaluation"}:
            raise ValueError("give either stream or the seeds model, calibration, evaluation, not both")
        if self.stream is None and "order" in differing:
            raise ValueError("order belongs to stream")
        return self


class Inputs(Value):
    """A generated tensor: its shape (batch first) and the float32 distribution it is drawn from."""

    shape: Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]
    distribution: Literal["uniform", "normal"] = "uniform"
    low: float = Field(default=0.0, description="lower end of uniform, mean of normal")
    high: float = Field(
        default=1.0, description="upper end of uniform; mean + one standard deviation of normal"
    )

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * FLOAT32_BYTES


class Data(Value):
    """What the observers see, and what the figures are measured on."""

    calibration: Inputs
    evaluation: Inputs


class Subject(Value):
    """A model from one source, with its seeds and its inputs."""

    zoo: ZooName | None = None
    import_: ImportPath | None = Field(default=None, alias="import", description="package.module:factory")
    args: dict[Text, bool | int | float | Text] = Field(default_factory=dict, max_length=32)
    seeds: Seeds = Seeds()
    data: Data

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, data: Any) -> Any:
        if isinstance(data, dict):
            given = [key for key in ("zoo", "import", "import_") if data.get(key) is not None]
            if len(given) != 1:
                raise ValueError(f"a subject has one source, 'zoo' or 'import'; {len(given)} are given")
        return data

    @property
    def label(self) -> str:
        """The name people call it by."""
        return self.zoo or self.import_ or ""
