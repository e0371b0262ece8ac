"""The flows by name."""

from noisefloor.contract import scheme
from noisefloor_workers.flows.eager import Eager
from noisefloor_workers.flows.fx import Fx
from noisefloor_workers.flows.protocol import Calibrated, CalibrationError, Flow, Unsupported

__all__ = ["FLOWS", "Calibrated", "CalibrationError", "Flow", "Unsupported"]

FLOWS: dict[scheme.Flow, Flow] = {"eager": Eager(), "fx": Fx()}
