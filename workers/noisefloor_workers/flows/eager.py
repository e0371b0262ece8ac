"""Eager-mode quantization. torch marks `torch.ao.quantization` for deletion: only the flows use it.

Every mode has float64 as well, the same model in double precision.

| mode | variants | how |
|---|---|---|
| static | float32, true | observers, calibration, conversion |
| dynamic | float32, true | int8 weights; activations are observed as they come |
| qat | float32, fake, true | fake quantization calibrated without training, then conversion |
| weight_only, activation_only | float32, fake | fake quantization of the one side |
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.nn.quantized import DeQuantize

from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant, ends
from noisefloor_workers.flows.observers import (
    layer_name,
    qconfig,
    quiet,
    require_finite_weights,
    require_sound_observers,
)
from noisefloor_workers.flows.protocol import Calibrated, Unsupported

ao: Any = quantization  # half of its functions carry no types

VARIANTS: dict[Mode, tuple[Variant, ...]] = {
    "static": (Variant.FLOAT32, Variant.TRUE),
    "dynamic": (Variant.FLOAT32, Variant.TRUE),
    "qat": (Variant.FLOAT32, Variant.FAKE, Variant.TRUE),
    "weight_only": (Variant.FLOAT32, Variant.FAKE),
    "activation_only": (Variant.FLOAT32, Variant.FAKE),
}
FLOATS = (Variant.FLOAT64, Variant.FLOAT32)
DYNAMIC_LAYERS = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class Eager:
    """`fuse_modules`, `prepare` or `prepare_qat`, `convert`."""

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        mode = quantization.mode
        if mode == "activation_only" and quantization.granularity == "per_channel":
            return "eager activation_only quantizes no weights: granularity per_tensor is the only one"
        if mode == "dynamic" and not quantization.reduce_range:
            return "eager dynamic leaves the range to the engine: reduce_range true is the only one"
        offered = (Variant.FLOAT64, *VARIANTS[mode])
        for edge in edges:
            lacking = [end for end in ends(edge) if end not in offered]
            if lacking:
                return f"eager {mode} has no variant {lacking[0]} for {edge}; it has: {', '.join(offered)}"
        return None

    def calibrate(
        self, model: nn.Module, quantization: Quantization, calibration: torch.Tensor
    ) -> Calibrated:
        if quantization.mode == "dynamic":
            return Calibrated(module=_dynamic(model), quantization=quantization)
        with quiet():
            prepared = _prepare(copy.deepcopy(model), quantization)
            require_finite_weights(prepared, _layer)
            try:
                prepared(calibration.clone())
            except Exception:
                # a fake quantizer asserts on NaN without saying where: the observers know
                require_sound_observers(prepared, _layer, seen_all=False)
                raise
            require_sound_observers(prepared, _layer, seen_all=True)
            prepared.apply(ao.enable_fake_quant)
            prepared.apply(ao.disable_observer)
        return Calibrated(module=prepared, quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant) -> nn.Module:
        mode = calibrated.quantization.mode
        if variant not in VARIANTS[mode] or variant in FLOATS:
            raise Unsupported(f"eager {mode} derives: {', '.join(VARIANTS[mode][1:])}; not {variant}")
        if variant is Variant.FAKE:
            return calibrated.module
        with quiet():
            if mode == "dynamic":
                layers = dict.fromkeys(DYNAMIC_LAYERS, qconfig(calibrated.quantization))
                quantized: nn.Module = ao.quantize_dynamic(calibrated.module, layers)
                return quantized
            converted: nn.Module = ao.convert(copy.deepcopy(calibrated.module), inplace=True)
        return converted

    def output_step(self, module: nn.Module, inputs: torch.Tensor) -> float | None:
        steps: list[float] = []

        def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
            tensor = args[0]
            per_tensor = tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine
            steps.append(tensor.q_scale() if per_tensor else 0.0)

        hooks = [
            part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, DeQuantize)
        ]
        try:
            module(inputs.clone())
        finally:
            for hook in hooks:
                hook.remove()
        return steps[0] if len(steps) == 1 and steps[0] > 0 else None


def _prepare(model: nn.Module, quantization: Quantization) -> nn.Module:
    """Fuse, wrap between quantize and dequantize unless the model does so itself, and insert observers."""
    static = quantization.mode == "static"
    model.train(not static)
    groups = [list(group) for group in getattr(model, "fuse_groups", ())]
    if groups:
        (ao.fuse_modules if static else ao.fuse_modules_qat)(model, groups, inplace=True)
    if not any(isinstance(part, ao.QuantStub) for part in model.modules()):
        model = ao.QuantWrapper(model).train(not static)
    model.qconfig = qconfig(quantization)
    if static:
        ao.prepare(model, inplace=True)
        return model.eval()
    ao.prepare_qat(model, inplace=True)
    model.eval()
    model.apply(ao.disable_fake_quant)
    model.apply(freeze_bn_stats)
    return model


def _dynamic(model: nn.Module) -> nn.Module:
    """A copy of a model that has something to quantize dynamically; its weights must be finite."""
    if not any(isinstance(part, DYNAMIC_LAYERS) for part in model.modules()):
        names = ", ".join(layer.__name__ for layer in DYNAMIC_LAYERS)
        raise Unsupported(f"eager dynamic finds nothing to quantize in this model; it quantizes: {names}")
    require_finite_weights(model)
    return copy.deepcopy(model)


def _layer(path: str) -> str:
    """The model's own name of a layer: without the wrapper before it and the observers behind it."""
    head, _, rest = path.partition(".")
    return layer_name(rest if head == "module" else path)
