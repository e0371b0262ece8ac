"""Eager-mode quantization. torch marks `torch.ao.quantization` for deletion: its only use is here.

Every mode has float64 as well, the same model in double precision.

| mode | variants | how |
|---|---|---|
| static | float32, true | observers, calibration, conversion |
| dynamic | float32, true | int8 weights; activations are observed as they come |
| qat | float32, fake, true | fake quantization calibrated without training, then conversion |
| weight_only, activation_only | float32, fake | fake quantization of the one side |
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.nn.quantized import DeQuantize

from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant, ends
from noisefloor_workers.flows.protocol import Calibrated, CalibrationError, Unsupported

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
OBSERVER_PARTS = frozenset({"activation_post_process", "weight_fake_quant"})


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
        with _quiet():
            prepared = _prepare(copy.deepcopy(model), quantization)
            _require_finite_weights(prepared)
            try:
                prepared(calibration.clone())
            except Exception:
                # a fake quantizer asserts on NaN without saying where: the observers know
                _require_sound_observers(prepared, seen_all=False)
                raise
            _require_sound_observers(prepared, seen_all=True)
            prepared.apply(ao.enable_fake_quant)
            prepared.apply(ao.disable_observer)
        return Calibrated(module=prepared, quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant) -> nn.Module:
        mode = calibrated.quantization.mode
        if variant not in VARIANTS[mode] or variant in FLOATS:
            raise Unsupported(f"eager {mode} derives: {', '.join(VARIANTS[mode][1:])}; not {variant}")
        if variant is Variant.FAKE:
            return calibrated.module
        with _quiet():
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


def qconfig(quantization: Quantization) -> Any:
    """The observers of a quantization: torch's own defaults, by name, wherever one exists.

    Those use 7 of the 8 bits for activations; `reduce_range=False` widens the same observers.
    """
    mode, per_channel = quantization.mode, quantization.granularity == "per_channel"
    if mode == "dynamic":
        return ao.per_channel_dynamic_qconfig if per_channel else ao.default_dynamic_qconfig
    if mode == "static":
        base = ao.default_per_channel_qconfig if per_channel else ao.default_qconfig
        wide = ao.MinMaxObserver.with_args(dtype=torch.quint8, quant_min=0, quant_max=255)
    else:
        by_mode = {
            "qat": ao.default_qat_qconfig,
            "weight_only": ao.default_weight_only_qconfig,
            "activation_only": ao.default_activation_only_qconfig,
        }
        base = by_mode[mode]
        if per_channel:
            base = base._replace(weight=ao.default_per_channel_weight_fake_quant)
        wide = ao.default_fake_quant.with_args(reduce_range=False)
    if quantization.reduce_range or mode == "weight_only":
        return base
    return base._replace(activation=wide)


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
    _require_finite_weights(model)
    return copy.deepcopy(model)


def _require_finite_weights(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        bad = parameter.numel() - int(torch.isfinite(parameter).sum())
        if bad:
            layer, _, kind = name.rpartition(".")
            reason = f"{bad} of {parameter.numel()} values of its {kind} are not finite"
            raise CalibrationError(_layer(layer), reason)


def _require_sound_observers(module: nn.Module, *, seen_all: bool) -> None:
    """Refuse an observer that saw nothing, or NaN, or gives no finite positive scale; name its layer."""
    for name, part in module.named_modules():
        if not isinstance(part, ao.ObserverBase) or not hasattr(part, "min_val"):
            continue
        low, high = torch.as_tensor(part.min_val), torch.as_tensor(part.max_val)
        if low.numel() == 0 or bool((low > high).any()):
            if seen_all:
                raise CalibrationError(_layer(name), "its observer saw no data during calibration")
            continue
        if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise CalibrationError(_layer(name), "its observer saw NaN or infinity during calibration")
        scale, _zero_point = part.calculate_qparams()
        if not (torch.isfinite(scale).all() and (scale > 0).all()):
            raise CalibrationError(_layer(name), "the range its observer saw gives no finite positive scale")


def _layer(path: str) -> str:
    """The model's own name of a layer: without the wrapper before it and the observers behind it."""
    parts = [part for part in path.split(".") if part not in OBSERVER_PARTS]
    if parts[:1] == ["module"]:
        parts = parts[1:]
    return ".".join(parts) or "model"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says of its own quantization: that it will go, and that `reduce_range` will."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.ao")
        warnings.filterwarnings("ignore", message=".*reduce_range.*", category=UserWarning)
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor, ", category=UserWarning)
        yield
