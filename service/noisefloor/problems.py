"""From Pydantic's errors to ours: which field, which value, what would be accepted."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from noisefloor.contract.resources import FieldError
from noisefloor.errors import InvalidRequestError

SHOWN_CHARACTERS = 200
BOUNDS = {
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "min_length": "length ≥",
    "max_length": "length ≤",
    "pattern": "matches",
}


def invalid_request(
    errors: Iterable[ErrorDetails | Mapping[str, Any]], *, strip: tuple[str, ...] = ()
) -> InvalidRequestError:
    """One problem that names every refused field. `strip` drops a leading part of the address ("body")."""
    found = _without_echoes(list(errors))
    fields = [_field_error(error, strip) for error in found]
    return InvalidRequestError(summary(fields), fields)


def summary(fields: Sequence[FieldError]) -> str:
    """The first refused fields in a sentence, which is a problem's detail."""
    return "; ".join(f"{f.field}: {f.message}" for f in fields[:3])


def _without_echoes(errors: list[Any]) -> list[Any]:
    """Leave out "too short" for a sequence whose items were refused: it says nothing new."""
    places = [tuple(error["loc"]) for error in errors]

    def echoes(error: Any) -> bool:
        loc = tuple(error["loc"])
        return error["type"] == "too_short" and any(p[: len(loc)] == loc and p != loc for p in places)

    return [error for error in errors if not echoes(error)]


def _field_error(error: Any, strip: tuple[str, ...]) -> FieldError:
    context = error.get("ctx") or {}
    loc = [str(part) for part in error["loc"]]
    if tuple(loc[: len(strip)]) == strip:
        loc = loc[len(strip) :]
    value = error.get("input")
    if error["type"] in {"unknown_key", "missing_key"}:
        loc.append(context["key"])
        value = value.get(context["key"]) if isinstance(value, dict) else None
    if error["type"] == "contradiction":
        loc.append(context["field"])
        value = context["is"]
    return FieldError(
        field=".".join(loc) or "(whole)",
        message=str(error["msg"]).removeprefix("Value error, "),
        value=shown(value),
        accepted=_accepted(context),
    )


def _accepted(context: Mapping[str, Any]) -> list[Any] | None:
    if "accepted" in context:
        return list(context["accepted"])
    if "expected" in context:
        return re.findall(r"'([^']*)'", str(context["expected"])) or [str(context["expected"])]
    bounds = [f"{sign} {context[name]}" for name, sign in BOUNDS.items() if name in context]
    return bounds or None


def shown(value: Any) -> Any:
    """A value that can be shown: short, and fit for JSON and for Postgres."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "replace").decode().replace("\x00", "\\0")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
