"""The layer report of an edge: a second, tapped pass, since taps may change which kernels run."""

from collections.abc import Mapping

import torch
from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.layers import NEAR_OUTPUT_DB, Layer, LayerReport
from noisefloor.contract.scheme import Edge
from noisefloor.contract.sums import Sums
from noisefloor_workers.flows.taps import Call, Tapped
from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db, sqnr_db_of
from noisefloor_workers.numerics.digest import output_digest
from noisefloor_workers.numerics.leaves import leaves
from noisefloor_workers.subjects.inputs import ModelInputs


def layer_report(
    *,
    edge: Edge,
    ref: Tapped,
    actual: Tapped,
    values: Mapping[str, Tensor],
    inputs: ModelInputs,
    output: object,
    output_db: Figure,
) -> LayerReport:
    """Hold each layer of the actual variant against that of its reference.

    `values`: what the reference's layers gave on the same inputs, see `layer_values`. `output`: what the
    actual variant gave untapped, with the figure of it.
    """
    cumulative, local = Observed(values), Observed(values, fed_as=ref)
    tapped_output = actual.run(inputs, cumulative)
    actual.run(inputs, local)
    matched = [layer for layer in values if layer in cumulative.found and layer in local.found]
    shares = _shares({layer: local.found[layer] for layer in matched})
    layers = tuple(
        Layer(
            name=layer,
            kind=actual.kind(layer),
            weight=_weight(layer, ref, actual),
            cumulative=_figure(cumulative.found[layer]),
            local=_figure(local.found[layer]),
            share=shares.get(layer),
        )
        for layer in matched
    )
    return LayerReport(
        edge=edge,
        layers=layers,
        unmatched=tuple(layer for layer in values if layer not in matched),
        matched_share=len(matched) / len(values) if values else 0.0,
        first_divergent=_first_divergent(layers, output_db),
        taps_change_output=output_digest(leaves(tapped_output)) != output_digest(leaves(output)),
    )


def layer_values(model: Tapped, inputs: ModelInputs) -> dict[str, Tensor]:
    """What each layer gives, by its name, in the order in which they run."""
    found: dict[str, Tensor] = {}

    def keep(call: Call) -> None:
        found[call.layer] = call.value.clone()

    with torch.no_grad():
        model.run(inputs, keep)
    return found


class Observed:
    """Takes the calls of the actual variant and keeps their sums; None where shape or dtype differ.

    `fed_as`: every layer is fed with the reference's values, and held against what the reference's layer
    gives for that very input: what is left is the layer's own weights, kernel and output quantization.
    """

    def __init__(self, values: Mapping[str, Tensor], *, fed_as: Tapped | None = None) -> None:
        self.found: dict[str, Sums | None] = {}
        self.values: dict[str, Tensor] = {}
        self._values = values
        self._fed_as = fed_as

    def __call__(self, call: Call) -> Tensor | None:
        value = self._values.get(call.layer)
        if value is None:
            return None
        ref = value
        if self._fed_as is not None:
            self.values[call.layer] = call.value.clone()
            if call.args is not None:
                ref = self._fed_as.compute(call.layer, call.args, call.kwargs)
        comparable = (
            ref.shape == call.value.shape and ref.is_floating_point() and call.value.is_floating_point()
        )
        self.found[call.layer] = accumulate(ref=ref, actual=call.value) if comparable else None
        return value if self._fed_as is not None and comparable else None


def _figure(sums: Sums | None) -> Figure:
    return Figure.of(FigureKind.MISMATCH) if sums is None else sqnr_db_of(sums)


def _shares(local: Mapping[str, Sums | None]) -> dict[str, float]:
    """Each layer's relative noise energy, as a part of the sum over the layers that have one."""
    noise = {layer: sums.relative_l2().value for layer, sums in local.items() if sums is not None}
    energy = {layer: value * value for layer, value in noise.items() if value is not None}
    total = sum(energy.values())
    return {layer: part / total for layer, part in energy.items()} if 0 < total < float("inf") else {}


def _weight(layer: str, ref: Tapped, actual: Tapped) -> Figure | None:
    expected, found = ref.weight(layer), actual.weight(layer)
    return None if expected is None or found is None else sqnr_db(ref=expected, actual=found)


def _first_divergent(layers: tuple[Layer, ...], output_db: Figure) -> str | None:
    """Where the output's error begins, or where the first value that is not finite appears."""
    if output_db.kind is FigureKind.NONFINITE:
        return next((layer.name for layer in layers if layer.cumulative.kind is FigureKind.NONFINITE), None)
    if output_db.value is None:
        return None
    reached = output_db.value + NEAR_OUTPUT_DB
    values = ((layer.name, layer.cumulative.value) for layer in layers)
    return next((name for name, value in values if value is not None and value <= reached), None)
