"""What differs between two environments. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noisefloor.contract.resources import Trend, TrendPoint
from noisefloor.dashboard.words import field_words

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
    found = (
        FieldChange(field=field, before=field_words(before.get(field)), after=field_words(after.get(field)))
        for field in fields
    )
    return tuple(change for change in found if change.before != change.after)


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
