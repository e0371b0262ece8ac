"""The flows by name. A new flow is one file and one line here; a plugin's flow is an entry point.

A flow is imported when a cell first asks for it, since some bring libraries that take seconds to import.
"""

from importlib import import_module

from noisefloor_workers.flows.protocol import Calibrated, CalibrationError, Flow, Unsupported
from noisefloor_workers.plugins import plugin

__all__ = ["FLOWS", "Calibrated", "CalibrationError", "Flow", "Unsupported", "flow_named"]

BUILT_IN = {
    "eager": "noisefloor_workers.flows.eager:Eager",
    "fx": "noisefloor_workers.flows.fx:Fx",
    "minmax_fx": "noisefloor_workers.flows.minmax_fx:MinMaxFx",
    "pt2e": "noisefloor_workers.flows.pt2e.flow:Pt2e",
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
    made: Flow = plugin("flow", name, BUILT_IN)()
    return made
