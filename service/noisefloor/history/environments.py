"""What differs between two environments."""

from collections.abc import Mapping
from typing import Any

from noisefloor.contract.trend import FieldChange


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the documents.

    >>> str(differences({"torch": "2.12.1", "threads": 1}, {"torch": "2.13.0", "threads": 1})[0])
    'torch 2.12.1 → 2.13.0'
    """
    fields = dict.fromkeys([*before, *after])
    return tuple(
        FieldChange(field=field, before=_text(before.get(field)), after=_text(after.get(field)))
        for field in fields
        if before.get(field) != after.get(field)
    )


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
