"""What supervisor, server and child say to each other: one JSON object on a line.

The child is not trusted: it has a pipe of its own, speaks `ChildEvent` only, and what it says of a cell is
taken if that cell is pending. The server, which never runs a model, speaks `ServerEvent` on its socket.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.job import Git, Limits, Sha
from noisefloor.contract.lane import Device, Isa, Threads
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.subject import Subject

KILL = b"kill"


class ShardTask(Value):
    """The cells that share a process: one subject, one device, one instruction cap, one thread count."""

    subject: Subject
    cells: tuple[CellTask, ...]
    limits: Limits = Limits()
    analysis: Analysis = Analysis()
    import_allow: tuple[Text, ...] = ()
    files: Path | None = None
    git: Git = Field(
        default=Git(), description="of the commit whose files the subject is of, if a job names it"
    )
    told: Sha | None = Field(default=None, description="the commit that the worker was told its files are of")
    isa: Isa = "native"
    threads: Threads = 1

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        if len({cell.lane.device for cell in self.cells}) > 1:
            raise ValueError("a process measures on one device: these cells have several")
        return self

    @property
    def device(self) -> Device:
        return self.cells[0].lane.device if self.cells else "cpu"

    def line(self) -> bytes:
        """One line of JSON. Only what differs from the defaults: `Seeds` tells given from assumed."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n"


class SubjectStarted(Value):
    """The child runs, and loads the subject."""

    event: Literal["subject_started"] = "subject_started"


class CellStarted(Value):
    """The subject is loaded, and this cell is being worked on."""

    event: Literal["cell_started"] = "cell_started"
    cell: Text


class Step(Value):
    """What is being done now, for people to read."""

    event: Literal["step"] = "step"
    text: Text


class CellFinished(Value):
    """A cell has ended."""

    event: Literal["cell_finished"] = "cell_finished"
    result: CellResult


class Ready(Value):
    """The server has imported torch."""

    event: Literal["ready"] = "ready"


class Forked(Value):
    """A child was started."""

    event: Literal["forked"] = "forked"
    pid: int


class Exited(Value):
    """The child and all that it started are gone: its exit code, or the signal that ended it."""

    event: Literal["exited"] = "exited"
    code: int | None = None
    signal: int | None = None
    output_tail: LongText = ""


ChildEvent = Annotated[SubjectStarted | CellStarted | Step | CellFinished, Field(discriminator="event")]
ServerEvent = Annotated[Ready | Forked | Exited, Field(discriminator="event")]

CHILD_EVENT: TypeAdapter[ChildEvent] = TypeAdapter(ChildEvent)
SERVER_EVENT: TypeAdapter[ServerEvent] = TypeAdapter(ServerEvent)


def line(event: ChildEvent | ServerEvent) -> bytes:
    """An event as one line of JSON."""
    return event.model_dump_json().encode() + b"\n"
