"""Weight rounding in blocks: `group_size` weights of a row of a linear layer share a step. To copy from.

    step = max|w| / (2**(bits - 1) - 1)        w' = round(w / step) * step

It is fake quantization: weights are rounded and stay float32, activations are left alone. There are no
kernels for it, so there is no `true`.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant, WeightDtype
from noisefloor_workers.flows.observers import require_finite_weights
from noisefloor_workers.flows.protocol import Calibrated, Flow, Unsupported
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedModules
from noisefloor_workers.subjects.inputs import ModelInputs

VARIANTS: dict[Mode, tuple[Variant, ...]] = {"weight_only": (Variant.FLOAT32, Variant.FAKE)}
USES = ("weight_dtype", "group_size", "float_layers")
BITS: dict[WeightDtype, int] = {"int4": 4, "int8": 8}
DEFAULT_DTYPE: WeightDtype = "int4"
DEFAULT_GROUP_SIZE = 32
SMALLEST_STEP = torch.finfo(torch.float32).tiny  # a block of zeros stays one


class Blockwise(Flow):
    """Nothing is calibrated: what a weight becomes depends on the weight alone."""

    engines: tuple[Engine, ...] = ("aten",)

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        refusal = why_not(quantization, edges, variants=VARIANTS, uses=USES)
        if refusal is not None:
            return refusal
        flow, dtype = quantization.flow, _dtype(quantization)
        if dtype not in BITS:
            return f"{flow} has no weight_dtype {dtype}; it has: {', '.join(BITS)}"
        if quantization.granularity != "per_channel":
            return f"{flow} has steps in each row: granularity per_channel is the only one"
        return None

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        del calibration  # a flow with observers shows it to them here: calibration.fed_to(prepared)
        require_finite_weights(model)
        _require_fit(model, quantization)
        return Calibrated(module=copy.deepcopy(model), quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        del lane  # `fake` fits any lane; a flow that has `true` converts it for lane.engine here
        quantization = calibrated.quantization
        if variant is not Variant.FAKE:
            raise Unsupported(f"{quantization.flow} derives: fake; not {variant}")
        model = copy.deepcopy(calibrated.module)
        bits, group_size = BITS[_dtype(quantization)], _group_size(quantization)
        for layer in _layers(model, quantization).values():
            weight = rounded(layer.weight.detach(), bits=bits, group_size=group_size)
            layer.weight = nn.Parameter(weight, requires_grad=False)
        return model

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> None:
        """Outputs are float: there is no step."""
        del module, inputs

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        del variant  # the layers are modules, at the same paths in all of them
        names = _layers(calibrated.module, calibrated.quantization)
        return TappedModules(calibrated.module if module is None else module, {name: name for name in names})

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        return tuple(_layers(calibrated.module, calibrated.quantization))


def rounded(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    """A weight (outputs, inputs) in float32, rounded; `group_size` divides the number of inputs."""
    blocks = weight.reshape(-1, group_size)
    highest = 2 ** (bits - 1) - 1
    step = (blocks.abs().amax(dim=1, keepdim=True) / highest).clamp(min=SMALLEST_STEP)
    result: Tensor = (blocks / step).round() * step
    return result.reshape(weight.shape)


def _dtype(quantization: Quantization) -> WeightDtype:
    return quantization.weight_dtype or DEFAULT_DTYPE


def _group_size(quantization: Quantization) -> int:
    return quantization.group_size or DEFAULT_GROUP_SIZE


def _layers(model: nn.Module, quantization: Quantization) -> dict[str, nn.Linear]:
    """The layers to round, by the model's own names."""
    kept = quantization.float_layers
    parts = model.named_modules()
    return {name: part for name, part in parts if isinstance(part, nn.Linear) and name not in kept}


def _require_fit(model: nn.Module, quantization: Quantization) -> None:
    """Refuse a name that is no layer, a model with nothing to round, and a row that no blocks fill."""
    flow, group_size = quantization.flow, _group_size(quantization)
    require_layers(quantization.float_layers, _layers(model, quantization.replace(float_layers=())))
    layers = _layers(model, quantization)
    if not layers:
        raise Unsupported(f"{flow} rounds linear layers, and this model has none that is to be rounded")
    for name, layer in layers.items():
        if layer.in_features % group_size:
            shape = f"its {layer.in_features} inputs are no multiple of group_size {group_size}"
            raise Unsupported(f"{flow} cannot round layer {name!r}: {shape}; float_layers can keep it float")
