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
import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.nn.quantized import DeQuantize, FloatFunctional
from torch.utils import _pytree as pytree

from noisefloor.contract.lane import QUANTIZED_ENGINES, Lane
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant
from noisefloor_workers.flows.islands import FloatIsland, leave_in_float
from noisefloor_workers.flows.observers import (
    as_float,
    is_observed,
    layer_name,
    qconfig,
    quiet,
    require_finite_weights,
    require_sound_observers,
)
from noisefloor_workers.flows.protocol import Calibrated, Flow, Unsupported
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedModules
from noisefloor_workers.subjects.inputs import ModelInputs

ao: Any = quantization  # half of its functions carry no types

VARIANTS: dict[Mode, tuple[Variant, ...]] = {
    "static": (Variant.FLOAT32, Variant.TRUE),
    "dynamic": (Variant.FLOAT32, Variant.TRUE),
    "qat": (Variant.FLOAT32, Variant.FAKE, Variant.TRUE),
    "weight_only": (Variant.FLOAT32, Variant.FAKE),
    "activation_only": (Variant.FLOAT32, Variant.FAKE),
}
INPUT = "input "
FLOATS = (Variant.FLOAT64, Variant.FLOAT32)
DYNAMIC_LAYERS = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class Eager(Flow):
    """`fuse_modules`, `prepare` or `prepare_qat`, `convert`."""

    engines = QUANTIZED_ENGINES

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        mode = quantization.mode
        if mode == "activation_only" and quantization.granularity == "per_channel":
            return "eager activation_only quantizes no weights: granularity per_tensor is the only one"
        if mode == "dynamic" and not quantization.reduce_range:
            return "eager dynamic leaves the range to the engine: reduce_range true is the only one"
        return why_not(quantization, edges, variants=VARIANTS, uses=("float_layers",))

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        if quantization.mode == "dynamic":
            return Calibrated(module=_dynamic(model, quantization.float_layers), quantization=quantization)
        with quiet():
            prepared = _prepare(copy.deepcopy(model), quantization, calibration)
            require_finite_weights(prepared, _layer)
            try:
                calibration.fed_to(prepared)
            except Exception:
                # a fake quantizer asserts on NaN without saying where: the observers know
                require_sound_observers(prepared, _layer, seen_all=False)
                raise
            require_sound_observers(prepared, _layer, seen_all=True)
            prepared.apply(ao.enable_fake_quant)
            prepared.apply(ao.disable_observer)
        return Calibrated(module=prepared, quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        del lane  # torch converts for the engine that is bound
        mode = calibrated.quantization.mode
        if variant not in VARIANTS[mode] or variant in FLOATS:
            raise Unsupported(f"eager {mode} derives: {', '.join(VARIANTS[mode][1:])}; not {variant}")
        if variant is Variant.FAKE:
            return calibrated.module
        with quiet():
            if mode == "dynamic":
                own = qconfig(calibrated.quantization)
                layers = dict.fromkeys(_dynamic_layers(calibrated), own)
                quantized: nn.Module = ao.quantize_dynamic(calibrated.module, layers)
                return quantized
            converted: nn.Module = ao.convert(copy.deepcopy(calibrated.module), inplace=True)
        return converted

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        del variant
        if calibrated.quantization.mode == "dynamic":
            layers = {path: path for path in _dynamic_layers(calibrated)}
        else:
            observed = (path for path, part in calibrated.module.named_modules() if is_observed(part))
            layers = {path: _layer(path) for path in observed}
        return TappedModules(as_float(calibrated.module) if module is None else module, layers)

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        if calibrated.quantization.mode == "dynamic":
            return _dynamic_layers(calibrated)
        parts = calibrated.module.named_modules()
        return tuple(_layer(path) for path, part in parts if is_observed(part) and not _is_glue(part))

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> float | None:
        steps: list[float] = []

        def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
            tensor = args[0]
            per_tensor = tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine
            steps.append(tensor.q_scale() if per_tensor else 0.0)

        hooks = [
            part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, DeQuantize)
        ]
        try:
            inputs.fed_to(module)
        finally:
            for hook in hooks:
                hook.remove()
        return steps[0] if len(steps) == 1 and steps[0] > 0 else None


def _prepare(model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> nn.Module:
    """Fuse, wrap between quantize and dequantize unless the model does so itself, and insert observers."""
    static = quantization.mode == "static"
    model.train(not static)
    groups = [list(group) for group in getattr(model, "fuse_groups", ())]
    if groups:
        (ao.fuse_modules if static else ao.fuse_modules_qat)(model, groups, inplace=True)
    if not any(isinstance(part, ao.QuantStub) for part in model.modules()):
        model = Stubs(model, calibration).train(not static)
    model.qconfig = qconfig(quantization)
    _keep_in_float(model, quantization.float_layers)
    _require_quantizable(model, quantization.mode)
    prepare = functools.partial(_observed, static=static)
    leave_in_float(model, calibration, prepare, converts=Variant.TRUE in VARIANTS[quantization.mode])
    return prepare(model)


def _observed(model: nn.Module, *, static: bool) -> nn.Module:
    """Insert observers, or fake quantizers that do nothing but observe."""
    if static:
        ao.prepare(model, inplace=True)
        return model.eval()
    ao.prepare_qat(model, inplace=True)
    model.eval()
    model.apply(ao.disable_fake_quant)
    model.apply(freeze_bn_stats)
    return model


class Stubs(nn.Module):
    """A model between quantize and dequantize: every float input has an observer, every output leaf leaves.

    `torch.ao.quantization.QuantWrapper` for any number of inputs, by position or by name.
    """

    def __init__(self, module: nn.Module, inputs: ModelInputs) -> None:
        super().__init__()
        named = {**{str(number): tensor for number, tensor in enumerate(inputs.args)}, **inputs.kwargs}
        floats = [name for name, tensor in named.items() if tensor.is_floating_point()]
        # a ModuleDict has attributes of its own, such as `keys`, which an input may be called too
        self.quant = nn.ModuleDict({f"{INPUT}{name}": ao.QuantStub() for name in floats})
        self.dequant = ao.DeQuantStub()
        self.module = module

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> object:
        quantized = [self._quantized(str(number), tensor) for number, tensor in enumerate(args)]
        output = self.module(*quantized, **{name: self._quantized(name, t) for name, t in kwargs.items()})
        return pytree.tree_map_only(torch.Tensor, self._dequantized, output)

    def _quantized(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        stub = INPUT + name
        quantized: torch.Tensor = self.quant[stub](tensor) if stub in self.quant else tensor
        return quantized

    def _dequantized(self, tensor: torch.Tensor) -> torch.Tensor:
        is_float = tensor.is_quantized or tensor.is_floating_point()
        dequantized: torch.Tensor = self.dequant(tensor) if is_float else tensor
        return dequantized


def _keep_in_float(model: nn.Module, layers: tuple[str, ...]) -> None:
    """Put an island in the place of each of these layers, which have the model's own names."""
    if not layers:
        return
    prefix = "module." if isinstance(model, Stubs) else ""
    parts = {
        path.removeprefix(prefix): part for path, part in model.named_modules() if path.startswith(prefix)
    }
    require_layers(layers, [name for name, part in parts.items() if name and not _is_glue(part)])
    for name in layers:
        parent, _, child = (prefix + name).rpartition(".")
        setattr(model.get_submodule(parent), child, FloatIsland(parts[name]))


def _require_quantizable(model: nn.Module, mode: Mode) -> None:
    """Refuse what conversion would stop at: a table takes other observers than a layer."""
    if mode not in {"static", "qat"}:
        return
    islands = {id(part.layer) for part in model.modules() if isinstance(part, FloatIsland)}
    for path, part in model.named_modules():
        if (
            isinstance(part, nn.Embedding | nn.EmbeddingBag)
            and id(part) not in islands
            and "qconfig" not in vars(part)
        ):
            name = _layer(path)
            raise Unsupported(
                f"eager {mode} cannot quantize the embedding {name!r}: keep it in float_layers, "
                "or give it torch's float_qparams_weight_only_qconfig"
            )


def _is_glue(part: nn.Module) -> bool:
    """What quantizes, or computes by methods: it cannot be called with float tensors in its place."""
    return isinstance(part, FloatFunctional | ao.QuantStub | ao.DeQuantStub | FloatIsland)


def _dynamic(model: nn.Module, float_layers: tuple[str, ...]) -> nn.Module:
    """A copy of a model that has something to quantize dynamically; its weights must be finite."""
    layers = [path for path, part in model.named_modules() if isinstance(part, DYNAMIC_LAYERS)]
    if not layers:
        names = ", ".join(layer.__name__ for layer in DYNAMIC_LAYERS)
        raise Unsupported(f"eager dynamic finds nothing to quantize in this model; it quantizes: {names}")
    require_layers(float_layers, layers)
    require_finite_weights(model)
    return copy.deepcopy(model)


def _dynamic_layers(calibrated: Calibrated) -> tuple[str, ...]:
    kept = calibrated.quantization.float_layers
    parts = calibrated.module.named_modules()
    return tuple(path for path, part in parts if isinstance(part, DYNAMIC_LAYERS) and path not in kept)


def _layer(path: str) -> str:
    """The model's own name of a layer: without the wrapper before it and the observers behind it.

    >>> _layer("module.fc.weight_fake_quant"), _layer("quant.input 0.activation_post_process")
    ('fc', 'input 0')
    """
    head, _, rest = path.partition(".")
    name = layer_name(rest if head == "module" else path)
    return name.removeprefix("quant.") if head == "quant" else name
