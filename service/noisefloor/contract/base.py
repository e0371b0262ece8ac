"""What every value of the contract is: frozen, closed to unknown keys, free of NaN, infinity and NUL."""

import difflib
import re
from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# Postgres refuses U+0000 in text, so no text of ours carries it.
TEXT_CHARS = 512
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARS, pattern=r"^[^\x00]*$")]
WORD_CHARS = 32
Word = Annotated[str, StringConstraints(max_length=WORD_CHARS, pattern=r"^[^\x00]*$")]
LongText = Annotated[str, StringConstraints(max_length=65_536, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def _written_out(value: Any) -> Any:
    """Refuse numbers, which Pydantic takes for seconds or milliseconds since 1970 by their size."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-", value)):
        return value
    raise PydanticCustomError("moment", "Input should be a date and a time with a zone, as RFC 3339 has it")


# A moment that every database and every zone can hold.
Moment = Annotated[
    AwareDatetime,
    Field(
        ge=datetime(1970, 1, 1, tzinfo=UTC),
        le=datetime(2200, 1, 1, tzinfo=UTC),
        description="with a zone, from 1970 until 2200",
    ),
    BeforeValidator(_written_out),
]
Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{26,32}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a question, or nothing.

    >>> did_you_mean("engin", ["engine", "device"])
    "; did you mean 'engine'?"
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


class BuiltIn:
    """Marks a name that is one of ours; another is refused with the nearest of them.

    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(Annotated[str, BuiltIn("eager", "fx")]).validate_python("fx")
    'fx'
    """

    OTHERS = ""

    def __init__(self, *built_in: str, max_length: int = 64) -> None:
        self.built_in = built_in
        self.max_length = max_length

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        del schema, handler
        return {"enum": list(self.built_in)}

    def _accepts(self, name: str) -> bool:
        return name in self.built_in

    def _check(self, name: str) -> str:
        if self._accepts(name):
            return name
        raise PydanticCustomError(
            "unknown_name",
            "unknown name '{name}'{hint}{others}",
            {
                "name": writable(name[: self.max_length]),
                "hint": did_you_mean(name, self.built_in),
                "others": self.OTHERS,
                "accepted": list(self.built_in),
            },
        )


class BuiltInOrPlugin(BuiltIn):
    """Marks a name that is one of ours, or a plugin's: that has a dot, and only the worker knows it.

    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(Annotated[str, BuiltInOrPlugin("eager", "fx")]).validate_python("acme.lowbit")
    'acme.lowbit'
    """

    OTHERS = "; a plugin's name has a dot in it"
    PATTERN = r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)+$"

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        plugin = {"type": "string", "pattern": self.PATTERN, "maxLength": self.max_length}
        return {"anyOf": [super().__get_pydantic_json_schema__(schema, handler), plugin]}

    def _accepts(self, name: str) -> bool:
        is_plugins = len(name) <= self.max_length and re.fullmatch(self.PATTERN, name) is not None
        return super()._accepts(name) or is_plugins


def _as_written(schema: Any) -> Any:
    """The schema, in which numbers and booleans are never made of texts or of one another.

    Left to itself, Pydantic takes `"1_0"` and `true` for numbers, and `"yes"` and `1` for booleans.
    """
    if isinstance(schema, list):
        return [_as_written(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # the keys of an object are texts in JSON, also those that are numbers to us
    written = {name: one if name == "keys_schema" else _as_written(one) for name, one in schema.items()}
    return {**written, "strict": True} if schema.get("type") in ("int", "float", "bool") else written


class Value(BaseModel):
    """A frozen value that validates itself when it is built."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, ser_json_inf_nan="strings"
    )
    SHORT_FORMS: ClassVar[tuple[str, ...]] = ()
    """Keys that a validator before this one writes out as fields."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _as_written(handler(source))
        return schema

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        """Name the misspelt key, the keys that are accepted, and the nearest of them."""
        if not isinstance(data, dict):
            return data
        accepted = [field.alias or name for name, field in cls.model_fields.items()] + [*cls.SHORT_FORMS]
        unknown = [key for key in data if key not in accepted and key not in cls.model_fields]
        if unknown:
            key = writable(str(unknown[0]))
            raise PydanticCustomError(
                "unknown_key",
                "unknown key '{key}'{hint}",
                {"key": key, "hint": did_you_mean(key, accepted), "accepted": accepted},
            )
        return data

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return self.model_validate({**dict(self), **changes})


def writable(text: str) -> str:
    r"""The text in characters that can be sent: JSON may escape half of a pair.

    >>> writable("a\ud800b")
    'a?b'
    """
    return text.encode("utf-8", "replace").decode()


def refuse_repeats(field: str, values: Iterable[Hashable]) -> None:
    """Raise `ValueError` naming the first value that stands in `field` twice."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{field} repeats {value}")
        seen.add(value)


def contradiction(
    field: str, message: str, value: object, accepted: list[str] | None = None
) -> PydanticCustomError:
    """What a validator of the whole raises where `field` does not go with the others."""
    context = {"message": message, "field": field, "is": value}
    return PydanticCustomError(
        "contradiction", "{message}", context if accepted is None else {**context, "accepted": accepted}
    )


class Untrue(NamedTuple):
    """A field that no true result has so.

    It is looked for where a result comes in, and not where one is read: older versions kept more.
    """

    field: str
    message: str
    value: object
    accepted: list[str] | None = None

    def below(self, at: str) -> "Untrue":
        """The same, told of what holds the value at `at`."""
        return self._replace(field=f"{at}.{self.field}")
