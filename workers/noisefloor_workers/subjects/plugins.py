"""Models of plugins: entry points that call for their arguments and give a model."""

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points

from torch import nn

from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.subjects.errors import require_module

ENTRY_POINT_GROUP = "noisefloor.subjects"


def build(name: str, args: Mapping[str, bool | float | str], built_in: Iterable[str]) -> nn.Module:
    """Call the entry point with `args`. What it raises is the plugin's own and comes out as it is."""
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        installed = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
        known = ", ".join([*built_in, *installed])
        raise Unsupported(f"subject {name} is not part of this worker; it has: {known}")
    return require_module(name, next(iter(found)).load()(**args))
