"""What the suite and its workers say to each other: one JSON object on a line, one answer to a question."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.conformance import Case, Outcome
from noisefloor.contract.lane import Engine


class ListCases(Value):
    """Which operators there are whose name matches, and their cases."""

    ask: Literal["list"] = "list"
    op: Text = "*"
    quick: bool = False


class Examine(Value):
    """A case on an engine."""

    ask: Literal["examine"] = "examine"
    case: Case
    engine: Engine


class Write(Value):
    """A case as a script that needs torch alone."""

    ask: Literal["write"] = "write"
    case: Case
    engine: Engine


class Listed(Value):
    """An operator as the suite sees it."""

    op: Text
    engines: tuple[Engine, ...]
    cases: tuple[Case, ...]


class Catalogue(Value):
    answer: Literal["catalogue"] = "catalogue"
    operators: tuple[Listed, ...]


class Examined(Value):
    """No outcome: the sizes make no call."""

    answer: Literal["examined"] = "examined"
    outcome: Outcome | None


class Refused(Value):
    """The engine or the ISA cap cannot be had in this process."""

    answer: Literal["refused"] = "refused"
    reason: LongText


class Written(Value):
    answer: Literal["written"] = "written"
    script: LongText


class Broken(Value):
    """The suite itself is at fault, as when the oracle does not agree with its check."""

    answer: Literal["broken"] = "broken"
    reason: LongText


Question = Annotated[ListCases | Examine | Write, Field(discriminator="ask")]
Answer = Annotated[Catalogue | Examined | Refused | Written | Broken, Field(discriminator="answer")]

QUESTION: TypeAdapter[Question] = TypeAdapter(Question)
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def line(said: Question | Answer) -> bytes:
    """A question or an answer as one line of JSON."""
    return said.model_dump_json().encode() + b"\n"
