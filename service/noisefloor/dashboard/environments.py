"""What differs between two environments. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noisefloor.contract.resources import Trend, TrendPoint

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field of an environment: what it was, what it is."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class EnvironmentChange:
    """A place on a line where the environment became another one."""

    number: int
    before: TrendPoint
    after: TrendPoint
    fields: tuple[FieldChange, ...]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the documents.

    >>> differences({"torch": "2.12.1", "threads": 1}, {"torch": "2.13.0", "threads": 1})
    (FieldChange(field='torch', before='2.12.1', after='2.13.0'),)
    """
    fields = dict.fromkeys([*before, *after])
    return tuple(
        FieldChange(field=field, before=_text(before.get(field)), after=_text(after.get(field)))
        for field in fields
        if before.get(field) != after.get(field)
    )


def changes(trend: Trend, documents: Documents) -> tuple[EnvironmentChange, ...]:
    """Every change of environment on a line, numbered from 1, with the fields that differ."""
    return tuple(
        EnvironmentChange(
            number=number,
            before=trend.points[index - 1],
            after=trend.points[index],
            fields=differences(
                documents.get(trend.points[index - 1].environment or "", {}),
                documents.get(trend.points[index].environment or "", {}),
            ),
        )
        for number, index in enumerate(trend.environment_changes, start=1)
    )


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
