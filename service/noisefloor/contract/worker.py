"""A worker: what it can measure, and how it is seen by the service."""

from enum import StrEnum
from typing import Annotated

from packaging.specifiers import SpecifierSet
from pydantic import AwareDatetime, Field

from noisefloor.contract.base import Text, Value
from noisefloor.contract.lane import Device, Engine, Isa, Threads


class Capabilities(Value):
    """The lanes that a worker takes, and what it measures them with."""

    engines: tuple[Engine, ...]
    devices: tuple[Device, ...] = ("cpu",)
    isas: tuple[Isa, ...] = Field(description="native, and the caps that it can put a process under")
    threads: Threads = Field(description="the most that a lane may ask for")
    memory_gib: Annotated[float, Field(gt=0)]
    machine: Text
    torch: Text
    packages: dict[Text, Text] = Field(default_factory=dict, description="versions beside torch's")
    takes_all: bool = Field(
        default=False,
        description="the only worker there is: it also takes what it cannot run, and ends it as unsupported",
    )

    def meets(self, specifier: str) -> bool:
        """Whether its torch is one of those that a job asks for."""
        return SpecifierSet(specifier).contains(self.torch, prereleases=True)


class WorkerState(StrEnum):
    """What a worker is about to do."""

    ACTIVE = "active"
    DRAINING = "draining"


class WorkerView(Value):
    """A worker as `GET /v1/workers` shows it."""

    name: Text
    state: WorkerState
    slots: int
    capabilities: Capabilities
    started_at: AwareDatetime
    silent_s: float = Field(description="seconds since it last said that it is there")
    doing: tuple[Text, ...] = Field(default=(), description="a line for each shard in hand")
