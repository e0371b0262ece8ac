"""What other packages bring, by entry points: subjects, flows, quantizers and metrics, named with a dot."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Literal

from noisefloor_workers.lanes.engine import Unsupported

Kind = Literal["subject", "flow", "quantizer", "metric"]


def plugin(kind: Kind, name: str, built_in: Iterable[str] = ()) -> Any:
    """The object that the entry point of that name in the group `noisefloor.<kind>s` stands for.

    Raises Unsupported with the names that there are, ours and those of the packages installed here; and for
    a name that two packages bring, since figures under it would be of the one or the other.
    """
    group = f"noisefloor.{kind}s"
    found = list(entry_points(group=group, name=name))
    if not found:
        known = [*built_in, *sorted(entry_points(group=group).names)]
        raise Unsupported(f"{kind} {name} is not part of this worker; it has: {', '.join(known) or 'none'}")
    if len(found) > 1:
        packages = sorted(point.dist.name for point in found if point.dist is not None)
        raise Unsupported(f"{kind} {name} is in several packages, keep one of them: {', '.join(packages)}")
    return found[0].load()
