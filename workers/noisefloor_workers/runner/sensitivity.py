"""Which layers cost the output its decibels, and the mixed config that buys them back.

Nothing is calibrated or converted again for it: one layer at a time is replaced while the calibrated model
runs. Only the mixed config that comes out is made and measured, by whoever asked for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.layers import LayerSensitivity
from noisefloor_workers.flows.taps import Call, Tapped, base_name
from noisefloor_workers.subjects.inputs import ModelInputs

Compare = Callable[[object], Figure]
"""The SQNR in dB of an output against the float32 one."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Layers to leave in float, and the output's SQNR in dB when the calibrated model runs so."""

    layers: tuple[str, ...]
    figure: Figure


def layer_sensitivities(
    *,
    float_form: Tapped,
    quantized: Tapped,
    local: Mapping[str, Tensor],
    layers: Sequence[str],
    inputs: ModelInputs,
    compare: Compare,
) -> tuple[LayerSensitivity, ...]:
    """Each layer alone quantized, and alone left in float; the costliest first.

    `local`: what each call of a quantized layer gave for the float model's values, see `Observed`.
    """
    found = [
        LayerSensitivity(
            name=layer,
            quantize_one=compare(float_form.run(inputs, _with_local({layer}, local))),
            skip_one=compare(quantized.run(inputs, _in_float({layer}, float_form))),
        )
        for layer in layers
    ]
    return tuple(sorted(found, key=lambda one: worth(one.quantize_one)))


def fewest_in_float(
    *,
    ranked: Sequence[str],
    float_form: Tapped,
    quantized: Tapped,
    inputs: ModelInputs,
    compare: Compare,
    target_db: float,
) -> Predicted:
    """Layers that reach the target when left in float, as few as a greedy search finds, and the figure.

    The costliest layers are taken until the target is reached, and then each that it is reached without is
    given back. All of them, where not even that reaches it.
    """

    def with_float(layers: Sequence[str]) -> Figure:
        return compare(quantized.run(inputs, _in_float(set(layers), float_form)))

    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high) // 2
        if worth(with_float(ranked[:middle])) >= target_db:
            high = middle
        else:
            low = middle + 1
    kept = list(ranked[:low])
    for layer in reversed(ranked[:low]):
        without = [other for other in kept if other != layer]
        if worth(with_float(without)) >= target_db:
            kept = without
    return Predicted(layers=tuple(kept), figure=with_float(kept))


def worth(figure: Figure) -> float:
    """A figure as a number to rank by: exact is best, what is not a number is worst."""
    if figure.kind is FigureKind.EXACT:
        return float("inf")
    return figure.value if figure.value is not None else float("-inf")


def _with_local(layers: set[str], local: Mapping[str, Tensor]) -> Callable[[Call], Tensor | None]:
    return lambda call: local.get(call.layer) if base_name(call.layer) in layers else None


def _in_float(layers: set[str], float_form: Tapped) -> Callable[[Call], Tensor | None]:
    def tap(call: Call) -> Tensor | None:
        if base_name(call.layer) not in layers or call.args is None:
            return None
        return float_form.compute(call.layer, call.args, call.kwargs)

    return tap
