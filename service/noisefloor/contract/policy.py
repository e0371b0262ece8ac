"""The policy: rules in absolute decibels, and what each irregular outcome means for the verdict."""

from typing import Annotated, Literal

from pydantic import Field

from noisefloor.contract.base import Value

Consequence = Literal["warn", "fail", "error"]


class Rules(Value):
    """Limits in dB, and one on what is quantized at all. Floors stand beside each scheme."""

    max_drop_db: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        default=None, description="largest loss against the previous accepted result on the branch"
    )
    coverage_min: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="least share of what could be quantized in a graph that is"
    )


class On(Value):
    """What an irregular outcome leads to. None of them can be set to pass."""

    nonfinite: Consequence = "fail"
    no_baseline: Consequence = "fail"
    unsupported: Consequence = "warn"
    worker_error: Consequence = "error"
    conformance: Consequence = "fail"


class Policy(Value):
    """A gate's rules."""

    version: Literal[1] = 1
    rules: Rules = Rules()
    on: On = On()
