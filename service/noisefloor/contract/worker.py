"""A worker: what it can measure, and how it is seen by the service."""

from enum import StrEnum
from typing import Annotated, Self

from packaging.specifiers import SpecifierSet
from pydantic import AwareDatetime, Field

from noisefloor.contract.base import Digest, Text, Value
from noisefloor.contract.job import Sha
from noisefloor.contract.lane import Device, Engine, Isa, Threads
from noisefloor.contract.measurement import Environment


class Wants(Value):
    """What a shard asks of its worker beside the lanes of its cells; of most shards nothing."""

    environment: Digest | None = None
    commit: Sha | None = None


class Capabilities(Value):
    """The lanes that a worker takes, and what it measures them with."""

    engines: tuple[Engine, ...]
    devices: tuple[Device, ...] = ("cpu",)
    isas: tuple[Isa, ...] = Field(description="native, and the caps that it can put a process under")
    threads: Threads = Field(description="the most that a lane may ask for")
    memory_gib: Annotated[
        float, Field(gt=0, description="that each slot may take: the most of a job's limit")
    ]
    machine: Text
    torch: Text
    packages: dict[Text, Text] = Field(default_factory=dict, description="versions beside torch's")
    environments: tuple[Environment, ...] = Field(
        default=(), description="on the CPU with one thread, one for each cap; with all plugins installed"
    )
    commit: Sha | None = Field(default=None, description="that its files are of")
    checks_out: bool = Field(default=False, description="it can have any commit checked out")
    clock_off_s: float = Field(
        default=0.0,
        description="seconds by which its clock is ahead of the database's, which alone counts",
    )
    takes_all: bool = Field(
        default=False,
        description="the only worker there is: it also takes what it cannot run, and ends it as unsupported",
    )

    def shared(self, slots: int) -> Self:
        """What each of several slots may take, which share the machine's memory."""
        return self.replace(memory_gib=self.memory_gib / slots)

    def meets(self, specifier: str) -> bool:
        """Whether its torch is one of those that a job asks for."""
        return SpecifierSet(specifier).contains(self.torch, prereleases=True)

    def offers(self, wanted: Environment) -> bool:
        """Whether what it measures under the cap, with as many threads, is of that environment."""
        return wanted.threads <= self.threads and wanted in self.nearest(wanted)

    def nearest(self, wanted: Environment) -> tuple[Environment, ...]:
        """What it measures in under the same cap, with as many threads, using the same plugins."""
        return tuple(
            _used(one, wanted)
            for one in self.environments
            if one.isa_cap == wanted.isa_cap and one.isa_cap in self.isas
        )

    def has_commit(self, sha: str) -> bool:
        """Whether it measures that commit's files."""
        return self.checks_out or self.commit == sha


def _used(offered: Environment, wanted: Environment) -> Environment:
    """What a worker offers, with the threads and of its plugins those that the other environment names."""
    plugins = {name: version for name, version in offered.plugins.items() if name in wanted.plugins}
    return offered.replace(threads=wanted.threads, plugins=plugins)


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
