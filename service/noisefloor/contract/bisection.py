"""What `noisefloor bisect` answers: the first of an ordered run of steps at which a figure is lost."""

from typing import Literal

from pydantic import Field

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.figure import Figure

Over = Literal["commits", "isa", "layers"]


class Step(Value):
    """One step that was measured, or why it could not be."""

    name: Text = Field(description="a sha, a cap on the instruction set, or the last layer that is quantized")
    title: Text = ""
    figure: Figure | None = None
    bad: bool | None = Field(default=None, description="null where it cannot be told")
    note: LongText | None = None


class Bisection(Value):
    """The steps that were measured, in order, and the first bad one."""

    over: Over
    series: Text = Field(description="the one that loses most between the ends")
    good: Figure
    bad: Figure
    steps: tuple[Step, ...]
    first_bad: Step | None = Field(default=None, description="null where steps beside it could not be told")
    candidates: tuple[Text, ...] = Field(default=(), description="the names of those that may be the first")
