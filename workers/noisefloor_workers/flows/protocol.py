"""What a flow is: a way to turn a float model into quantized variants.

The work is split where it can be shared: `calibrate` once for each quantization, whatever the engine;
`variant` for each engine, under the engine that `lanes.engine.bound` holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Edge, Quantization, Variant
from noisefloor_workers.flows.taps import Tapped
from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.subjects.inputs import ModelInputs

__all__ = ["Calibrated", "CalibrationError", "Flow", "Unsupported"]


class CalibrationError(Exception):
    """An observer is not fit to quantize with: it saw nothing, saw NaN, or gives no usable scale."""

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"layer {layer!r}: {reason}")
        self.layer = layer
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A prepared model whose observers have seen the calibration data. Shared by engines."""

    module: nn.Module
    quantization: Quantization


class Flow(Protocol):
    """A way to quantize."""

    engines: tuple[Engine, ...]
    """Where it runs: the engines whose kernels its `true` uses."""

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        """Why not, naming what is offered instead; None where it is supported."""

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        """Prepare a copy of a float model and show it the calibration data."""

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        """A quantized variant. `true` is converted for the lane, under its engine; others fit any lane."""

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> float | None:
        """The quantization step of a `true` variant's output, by a pass of its own; None if not single."""

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        """A variant, tapped at the layers that are quantized; `float32` is the flow's own float form.

        `module`: the variant as `variant` gave it; None for `float32`. The layers have the same names in
        all variants.
        """
        del calibrated, module
        raise Unsupported(f"{type(self).__name__} cannot look into the layers of {variant}")

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        """The layers that `float_layers` may name; none where the flow has no use for it."""
        del calibrated
        return ()

    def facts(self, calibrated: Calibrated) -> tuple[Measurement, ...]:
        """What is known of the quantized graph beside its output: measurements at the place `graph`."""
        del calibrated
        return ()

    def facts_of_true(self, module: nn.Module) -> tuple[Measurement, ...]:
        """The same of a `true` variant that has run."""
        del module
        return ()
