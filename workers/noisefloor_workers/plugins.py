"""What other packages bring, by entry points: subjects, flows, quantizers and metrics, named with a dot."""

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from noisefloor.contract.plugins import Kind, Plugin
from noisefloor_workers.lanes.engine import Unsupported

UNKNOWN = "unknown"


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


def packages(named: Iterable[Plugin]) -> dict[str, str]:
    """The version of each package that brings one of these plugins."""
    return _versions(point for plugin in named for point in _points(*plugin))


def files(named: Iterable[Plugin]) -> Iterator[Path]:
    """The file of each module that brings one of these plugins, of those that have one."""
    for module in dict.fromkeys(point.module for plugin in named for point in _points(*plugin)):
        if (file := _file_of(module)) is not None:
            yield file


def installed() -> dict[str, str]:
    """The version of each package that brings any plugin."""
    return _versions(point for kind in get_args(Kind) for point in entry_points(group=_group(kind)))


def _file_of(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except Exception:  # noqa: BLE001 - it imports what the module is in, which may raise anything
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _versions(points: Iterable[EntryPoint]) -> dict[str, str]:
    found = [point.dist for point in points if point.dist is not None]
    # what a package's metadata lack comes as None
    return {dist.name or UNKNOWN: dist.version or UNKNOWN for dist in found}


def _points(kind: Kind, name: str) -> list[EntryPoint]:
    return list(entry_points(group=_group(kind), name=name))


def _group(kind: Kind) -> str:
    return f"noisefloor.{kind}s"
