"""What a job asks for beside the figures of its outputs."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from noisefloor.contract.base import BuiltInOrPlugin, Value, refuse_repeats
from noisefloor.contract.lane import Threads
from noisefloor.contract.scheme import Decibels

PluginMetric = Annotated[str, BuiltInOrPlugin(max_length=32)]


class Analysis(Value):
    """How closely a cell is looked at. Its figures are the same whatever is asked for here."""

    layers: bool = Field(default=True, description="each layer's error, by a second, tapped pass")
    repeats: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="runs of each quantized variant on each thread count, to measure noise"
    )
    threads: Annotated[tuple[Threads, ...], Field(max_length=16)] = Field(
        default=(), description="thread counts beside the lane's own, to measure noise"
    )
    metrics: Annotated[tuple[PluginMetric, ...], Field(max_length=64)] = Field(
        default=(), description="metrics of plugins, of each leaf of the output"
    )
    target_db: Decibels | None = Field(
        default=None,
        description="rank the layers by sensitivity and measure a mixed config that reaches this SQNR",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        refuse_repeats("threads", self.threads)
        refuse_repeats("metrics", self.metrics)
        return self

    @property
    def measures_noise(self) -> bool:
        return self.repeats > 1 or bool(self.threads)
