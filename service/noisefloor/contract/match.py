"""Match: which measurements a rule, a waiver, an acceptance or a pin is about."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from noisefloor.contract.base import Text, Value
from noisefloor.contract.lane import Device, Engine, Isa
from noisefloor.contract.scheme import Edge

WILD = frozenset("*?[")


class OneOrMany:
    """Marks a tuple that may be written as its only item: `engine: x86` stands for `engine: [x86]`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del self
        return core_schema.no_info_before_validator_function(
            lambda value: [value] if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


Edges = Annotated[tuple[Edge, ...], Field(min_length=1, max_length=len(get_args(Edge))), OneOrMany()]
Engines = Annotated[tuple[Engine, ...], Field(min_length=1, max_length=16), OneOrMany()]
Devices = Annotated[tuple[Device, ...], Field(min_length=1, max_length=4), OneOrMany()]
Isas = Annotated[tuple[Isa, ...], Field(min_length=1, max_length=16), OneOrMany()]
Patterns = Annotated[tuple[Text, ...], Field(min_length=1, max_length=64), OneOrMany()]


class Where(Value):
    """Where a measurement stands among the series; what is None is not known, or not of one place."""

    subject: str | None = None
    scheme: str | None = None
    edge: str | None = None
    engine: str | None = None
    device: str | None = None
    isa: str | None = None
    place: str | None = None


class Match(Value):
    """Every axis that is given must fit. Texts may have the wildcards `*`, `?` and `[…]`.

    >>> Match(subject="lstm*", engine="x86").fits(Where(subject="lstm-2", engine="x86"))
    True
    >>> Match(subject="lstm*").fits(Where(subject="bert"))
    False
    """

    subject: Patterns | None = None
    scheme: Patterns | None = Field(default=None, description="of the scheme's label, as results show it")
    edge: Edges | None = None
    engine: Engines | None = None
    device: Devices | None = None
    isa: Isas | None = None
    place: Patterns | None = Field(default=None, description="facts of a graph have no place")

    def fits(self, where: Where) -> bool:
        """Whether all axes fit; an axis that `where` does not know does not speak against it."""
        for axis in type(self).model_fields:
            patterns, value = getattr(self, axis), getattr(where, axis)
            if patterns is None or value is None:
                continue
            if not any(_fits(pattern, value) for pattern in patterns):
                return False
        return True

    @property
    def empty(self) -> bool:
        """Whether everything fits."""
        return not self.model_dump(exclude_none=True)


def _fits(pattern: str, value: str) -> bool:
    return pattern == value or (not WILD.isdisjoint(pattern) and fnmatchcase(value, pattern))
