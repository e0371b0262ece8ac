"""What differs between environments."""

from collections.abc import Mapping, Sequence
from typing import Any

from noisefloor.contract.trend import FieldChange


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the documents.

    >>> str(differences({"torch": "2.12.1", "threads": 1}, {"torch": "2.13.0", "threads": 1})[0])
    'torch 2.12.1 → 2.13.0'
    """
    fields = dict.fromkeys([*before, *after])
    found = (
        FieldChange(field=field, before=field_words(before.get(field)), after=field_words(after.get(field)))
        for field in fields
    )
    return tuple(change for change in found if change.before != change.after)


def shared_facts(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What all of some environments have and none of the others has.

    >>> shared_facts([{"isa": "AVX2", "threads": 1}], [{"isa": "AVX512", "threads": 1}])
    ('isa = AVX2',)
    """
    if not some or not others:
        return ()
    return tuple(
        f"{field} = {field_words(value)}"
        for field, value in some[0].items()
        if all(one.get(field) == value for one in some) and all(one.get(field) != value for one in others)
    )


def field_words(value: Any) -> str:
    """One field of an environment; several versions by their packages.

    >>> field_words({"acme": "1.0"}), field_words({}), field_words(None)
    ('acme 1.0', 'none', 'none')
    """
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {version}" for name, version in value.items()) or None
    return "none" if value is None else str(value)
