"""What the cells of one quantization share."""

import torch
from torch import nn

from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Quantization, Variant
from noisefloor_workers.flows import Calibrated, Flow, flow_named
from noisefloor_workers.flows.taps import Tapped
from noisefloor_workers.runner.forward import forward
from noisefloor_workers.runner.layers import layer_values
from noisefloor_workers.subjects.load import LoadedSubject


class Calibration:
    """One quantization of the subject: calibrated at the first need, and not again after it failed."""

    def __init__(self, quantization: Quantization, subject: LoadedSubject) -> None:
        self.quantization = quantization
        self._subject = subject
        self._calibrated: Calibrated | None = None
        self._failure: BaseException | None = None
        self._models: dict[Variant, nn.Module] = {}
        self._outputs: dict[Variant, object] = {}
        self._facts: tuple[Measurement, ...] | None = None
        self._layers: dict[Variant, tuple[Tapped, dict[str, torch.Tensor]]] = {}

    @property
    def flow(self) -> Flow:
        return flow_named(self.quantization.flow)

    def calibrated(self) -> Calibrated:
        if self._failure is not None:
            raise self._failure
        if self._calibrated is None:
            try:
                with torch.no_grad():
                    self._calibrated = self.flow.calibrate(
                        self._subject.model, self.quantization, self._subject.calibration
                    )
            except BaseException as error:
                self._failure = error
                raise
        return self._calibrated

    def model(self, variant: Variant, lane: Lane) -> nn.Module:
        """A quantized variant; kept where no engine takes part in it."""
        if variant is Variant.TRUE:
            return self.flow.variant(self.calibrated(), variant, lane)
        if variant not in self._models:
            self._models[variant] = self.flow.variant(self.calibrated(), variant, lane)
        return self._models[variant]

    def output(self, variant: Variant, lane: Lane) -> object:
        """The output of a variant that no engine takes part in."""
        if variant not in self._outputs:
            self._outputs[variant] = forward(self.model(variant, lane), self._subject.evaluation)
        return self._outputs[variant]

    def facts(self) -> tuple[Measurement, ...]:
        """What is known of the quantized graph beside its output."""
        if self._facts is None:
            self._facts = self.flow.facts(self.calibrated())
        return self._facts

    def layers(self, variant: Variant, lane: Lane) -> tuple[Tapped, dict[str, torch.Tensor]]:
        """A variant that no engine takes part in, tapped, and what its layers give."""
        if variant not in self._layers:
            module = None if variant is Variant.FLOAT32 else self.model(variant, lane)
            tapped = self.flow.layers(self.calibrated(), variant, module)
            self._layers[variant] = tapped, layer_values(tapped, self._subject.evaluation)
        return self._layers[variant]
