"""The flows by name. A new flow is one file and one line here; a plugin's flow is an entry point.

A flow is imported when a cell first asks for it, since some bring libraries that take seconds to import.
"""

from importlib import import_module
from importlib.metadata import entry_points

from noisefloor_workers.flows.protocol import Calibrated, CalibrationError, Flow, Unsupported

__all__ = ["FLOWS", "Calibrated", "CalibrationError", "Flow", "Unsupported", "flow_named"]

ENTRY_POINT_GROUP = "noisefloor.flows"
BUILT_IN = {
    "eager": "noisefloor_workers.flows.eager:Eager",
    "fx": "noisefloor_workers.flows.fx:Fx",
    "minmax_fx": "noisefloor_workers.flows.minmax_fx:MinMaxFx",
    "pt2e": "noisefloor_workers.flows.pt2e:Pt2e",
    "torchao": "noisefloor_workers.flows.torchao:TorchAo",
}
FLOWS: dict[str, Flow] = {}


def flow_named(name: str) -> Flow:
    """A flow of ours, or of a plugin; kept once it is made."""
    if name not in FLOWS:
        FLOWS[name] = _made(name)
    return FLOWS[name]


def _made(name: str) -> Flow:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        flow: Flow = getattr(import_module(module), attribute)()
        return flow
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        installed = [point.name for point in entry_points(group=ENTRY_POINT_GROUP)]
        known = ", ".join([*BUILT_IN, *sorted(installed)])
        raise Unsupported(f"flow {name} is not part of this worker; it has: {known}")
    plugin: Flow = next(iter(found)).load()()
    return plugin
