"""What other packages bring, by entry points: subjects, flows, quantizers and metrics, named with a dot."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from noisefloor_workers.lanes.engine import Unsupported

UNKNOWN = "unknown"
Kind = Literal["subject", "flow", "quantizer", "metric"]


def plugin(kind: Kind, name: str, built_in: Iterable[str] = ()) -> Any:
    """The object that the entry point of that name in the group `noisefloor.<kind>s` stands for.

    Raises Unsupported with the names that there are, ours and those of the packages installed here; and for
    a name that two packages bring, since figures under it would be of the one or the other.
    """
    found = _points(kind, name)
    if not found:
        known = [*built_in, *sorted(entry_points(group=_group(kind)).names)]
        raise Unsupported(f"{kind} {name} is not part of this worker; it has: {', '.join(known) or 'none'}")
    if len(found) > 1:
        packages = sorted(point.dist.name for point in found if point.dist is not None)
        raise Unsupported(f"{kind} {name} is in several packages, keep one of them: {', '.join(packages)}")
    return found[0].load()


def packages(names: Iterable[tuple[Kind, str | None]]) -> dict[str, str]:
    """The version of each package that brings one of these plugins; names of ours bring none."""
    return _versions(point for kind, name in names if name and "." in name for point in _points(kind, name))


def installed() -> dict[str, str]:
    """The version of each package that brings any plugin."""
    return _versions(point for kind in get_args(Kind) for point in entry_points(group=_group(kind)))


def _versions(points: Iterable[EntryPoint]) -> dict[str, str]:
    found = [point.dist for point in points if point.dist is not None]
    # what a package's metadata lack comes as None
    return {dist.name or UNKNOWN: dist.version or UNKNOWN for dist in found}


def _points(kind: Kind, name: str) -> list[EntryPoint]:
    return list(entry_points(group=_group(kind), name=name))


def _group(kind: Kind) -> str:
    return f"noisefloor.{kind}s"
