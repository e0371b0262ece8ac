"""Where a cell's error comes from: the layers of its edges, and what each layer costs the output."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure
from noisefloor.contract.lane import Lane
from noisefloor.contract.layers import LayerReport, MixedConfig, Sensitivity
from noisefloor.contract.scheme import Edge, Variant, ends
from noisefloor_workers.flows.taps import Tapped, base_name
from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.runner.calibration import Calibration
from noisefloor_workers.runner.layers import Observed, layer_report
from noisefloor_workers.runner.sensitivity import Predicted, fewest_in_float, layer_sensitivities, worth
from noisefloor_workers.runner.storable import reason
from noisefloor_workers.subjects.inputs import ModelInputs

REASON_CHARS = 512
STEPS = 8
INPUT = "input "

MeasuredWith = Callable[[Edge, tuple[str, ...]], Figure]
"""Converts anew with these layers in float, and gives the edge's figure."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What is known of a cell's layers."""

    layers: tuple[LayerReport, ...]
    sensitivity: Sensitivity | None


def explain(
    *,
    analysis: Analysis,
    calibration: Calibration,
    lane: Lane,
    inputs: ModelInputs,
    outputs: Mapping[Variant, object],
    models: Mapping[Variant, nn.Module],
    figures: Mapping[Edge, Figure],
    measured_with: MeasuredWith,
) -> Explained:
    """Look into the layers as far as the analysis asks. A model that cannot be looked into says why."""
    cell = _Cell(calibration, lane, inputs, outputs, models)
    edges = [edge for edge in figures if Variant.FLOAT64 not in ends(edge)]
    from_float = [edge for edge in edges if ends(edge)[0] is Variant.FLOAT32]
    with torch.no_grad():
        return Explained(
            layers=tuple(cell.report(edge, figures[edge]) for edge in edges) if analysis.layers else (),
            sensitivity=cell.sensitivity(from_float[0], analysis.target_db, figures, measured_with)
            if analysis.target_db is not None and from_float
            else None,
        )


class _Cell:
    """The variants of one cell, tapped as they are needed."""

    def __init__(
        self,
        calibration: Calibration,
        lane: Lane,
        inputs: ModelInputs,
        outputs: Mapping[Variant, object],
        models: Mapping[Variant, nn.Module],
    ) -> None:
        self._calibration, self._lane, self._inputs = calibration, lane, inputs
        self._outputs, self._models = outputs, models

    def report(self, edge: Edge, output_db: Figure) -> LayerReport:
        ref, actual = ends(edge)
        try:
            reference, values = self._calibration.layers(ref, self._lane)
            return layer_report(
                edge=edge,
                ref=reference,
                actual=self._tapped(actual),
                values=values,
                inputs=self._inputs,
                output=self._outputs[actual],
                output_db=output_db,
            )
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a tapped model may raise anything; the figures stand
            return LayerReport(edge=edge, unavailable=_why(error))

    def sensitivity(
        self, edge: Edge, target_db: float, figures: Mapping[Edge, Figure], measured_with: MeasuredWith
    ) -> Sensitivity:
        try:
            return self._sensitivity(edge, target_db, figures, measured_with)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            return Sensitivity(edge=edge, target_db=target_db, unavailable=_why(error))

    def _sensitivity(
        self, edge: Edge, target_db: float, figures: Mapping[Edge, Figure], measured_with: MeasuredWith
    ) -> Sensitivity:
        def against_float32(output: object) -> Figure:
            return compare(edge=edge, ref=self._outputs[Variant.FLOAT32], actual=output)[0].figure

        float_form, values = self._calibration.layers(Variant.FLOAT32, self._lane)
        variant, quantized = self._one_by_one(ends(edge)[1])
        local = Observed(values, fed_as=float_form)
        quantized.run(self._inputs, local)
        names = dict.fromkeys(base_name(layer) for layer in local.values if not layer.startswith(INPUT))
        layers = layer_sensitivities(
            float_form=float_form,
            quantized=quantized,
            local=local.values,
            layers=tuple(names),
            inputs=self._inputs,
            compare=against_float32,
        )
        if worth(figures[edge]) >= target_db:
            return Sensitivity(edge=edge, variant=variant, target_db=target_db, layers=layers)
        keepable = set(self._calibration.flow.keepable(self._calibration.calibrated()))
        ranked = [layer.name for layer in layers if layer.name in keepable]
        predicted = fewest_in_float(
            ranked=ranked,
            float_form=float_form,
            quantized=quantized,
            inputs=self._inputs,
            compare=against_float32,
            target_db=target_db,
        )
        mixed = _measured(edge, ranked, predicted, target_db, measured_with)
        return Sensitivity(edge=edge, variant=variant, target_db=target_db, layers=layers, mixed=mixed)

    def _one_by_one(self, variant: Variant) -> tuple[Variant, Tapped]:
        """The variant, or its reference, in which every layer computes what the float one does."""
        if variant is Variant.TRUE:
            with contextlib.suppress(Unsupported):
                return Variant.REFERENCE, self._tapped(Variant.REFERENCE)
        return variant, self._tapped(variant)

    def _tapped(self, variant: Variant) -> Tapped:
        if variant is not Variant.TRUE:
            return self._calibration.layers(variant, self._lane)[0]
        calibration = self._calibration
        return calibration.flow.layers(calibration.calibrated(), variant, self._models[variant])


def _measured(
    edge: Edge, ranked: Sequence[str], predicted: Predicted, target_db: float, measured_with: MeasuredWith
) -> MixedConfig:
    """Convert the predicted config and measure it; then try a few steps towards the target, or to fewer."""
    if not ranked:
        return MixedConfig(
            predicted=predicted.figure, reached=False, note="this flow keeps no layer in float32"
        )
    kept, figure = predicted.layers, None
    try:
        figure = measured_with(edge, kept)
        for _ in range(STEPS):
            if worth(figure) >= target_db:
                break
            more = next((layer for layer in ranked if layer not in kept), None)
            if more is None:
                break
            kept = (*kept, more)
            figure = measured_with(edge, kept)
        if worth(figure) >= target_db:
            for layer in kept[::-1][:STEPS]:
                fewer = tuple(other for other in kept if other != layer)
                found = measured_with(edge, fewer)
                if worth(found) >= target_db:
                    kept, figure = fewer, found
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a library may raise anything; what is known so far stands
        return MixedConfig(
            float_layers=kept, predicted=predicted.figure, measured=figure, reached=False, note=_why(error)
        )
    reached = worth(figure) >= target_db
    return MixedConfig(float_layers=kept, predicted=predicted.figure, measured=figure, reached=reached)


def _why(error: Exception) -> str:
    return (error.reason if isinstance(error, Unsupported) else reason(error))[:REASON_CHARS]
