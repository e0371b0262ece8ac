"""torchao's `quantize_`: linear layers whose weights are tensors of its own kinds, and nothing else.

Every mode has float64 as well, the same model in double precision, and float32, reference and true.

| mode | weight_dtype | one scale for | activations |
|---|---|---|---|
| weight_only | int8 (default), float8_e4m3fn | the tensor, a row, or `group_size` of a row | float32 |
| weight_only | int4 | `group_size` of a row: 32 (default), 64 or 128 | float32 |
| dynamic | int8 (default), float8_e4m3fn | the tensor, or a row | like the weights |

`reference` is the same layer in float32, on weights and activations that were quantized and dequantized.
`true` runs torchao's tensors as they are (`aten`), or compiled whole with frozen weights (`inductor`). Under
weight_only, int8 and float8 weights are turned into float32 before they are multiplied: `reference->true` is
then the order of float32 operations. int4 and dynamic have kernels of their own.

`reduce_range` takes a bit from activations and from weights: with torchao the two have one range.
"""

import copy
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import exc
from torch._inductor import config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.compiler import config as compiler
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torchao.core.config import AOBaseConfig
from torchao.prototype.quantization.int4 import Int4OpaqueTensor, PrototypeInt4WeightOnlyConfig
from torchao.quantization import (
    Float8DynamicActivationFloat8WeightConfig,
    Float8Tensor,
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    quantize_,
)
from torchao.quantization.granularity import Granularity, PerGroup, PerRow, PerTensor

from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant, WeightDtype
from noisefloor_workers.flows.observers import require_finite_weights
from noisefloor_workers.flows.protocol import Calibrated, CalibrationError, Flow, Unsupported
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedModules
from noisefloor_workers.subjects.inputs import ModelInputs

VARIANTS: dict[Mode, tuple[Variant, ...]] = {
    "weight_only": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
    "dynamic": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
}
WEIGHT_DTYPES: dict[Mode, tuple[WeightDtype, ...]] = {
    "weight_only": ("int8", "int4", "float8_e4m3fn"),
    "dynamic": ("int8", "float8_e4m3fn"),
}
TENSORS: dict[WeightDtype, type[Tensor]] = {
    "int8": Int8Tensor,
    "int4": Int4OpaqueTensor,
    "float8_e4m3fn": Float8Tensor,
}
USES = ("weight_dtype", "group_size", "float_layers")
INT4_GROUP_SIZES = (32, 64, 128)  # of the kernel, as is the next
INT4_ROWS = 16
INT4_MIDDLE, INT4_MAX = 8, 15
INT8_STEPS, INT8_REDUCED_STEPS = 255, 127  # from -128 to 127, from -64 to 63
SMALLEST_STEP = torch.finfo(torch.float32).eps  # torchao's
REASON_CHARS = 300

# A measuring child is one process under a limit of memory: no pool of compilers beside it.
inductor.compile_threads = 1
# Inductor finds what it compiled before by everything but the cap on instructions: under another cap it would
# load code that was made without.
compiler.force_disable_caches = True


class TorchAo(Flow):
    """`quantize_` with the config of each mode and dtype; nothing is calibrated."""

    engines: tuple[Engine, ...] = ("aten", "inductor")

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        return why_not(quantization, edges, variants=VARIANTS, uses=USES) or _why_not(quantization)

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        del calibration  # activations are quantized as they come
        _layers(model, quantization)
        require_finite_weights(model)
        return Calibrated(module=copy.deepcopy(model), quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        mode = calibrated.quantization.mode
        derived = VARIANTS[mode][1:]
        if variant not in derived:
            raise Unsupported(f"torchao {mode} derives: {', '.join(derived)}; not {variant}")
        if variant is Variant.REFERENCE:
            return _reference(calibrated)
        quantized = _quantized(calibrated)
        return _Compiled(quantized) if lane.engine == "inductor" else quantized

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        if isinstance(module, _Compiled):
            raise Unsupported(f"torchao cannot look into the layers of {variant}: inductor compiles it whole")
        layers = _layers(calibrated.module, calibrated.quantization)
        return TappedModules(calibrated.module if module is None else module, {name: name for name in layers})

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        return tuple(_layers(calibrated.module, calibrated.quantization))

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> None:
        """Outputs are float: there is no step."""
        del module, inputs


def _why_not(quantization: Quantization) -> str | None:
    """What torchao has no config for."""
    mode, dtype = quantization.mode, _dtype(quantization)
    if dtype not in WEIGHT_DTYPES[mode]:
        return f"torchao {mode} has no weight_dtype {dtype}; it has: {', '.join(WEIGHT_DTYPES[mode])}"
    if dtype == "int4" and _group_size(quantization) not in INT4_GROUP_SIZES:
        sizes = ", ".join(map(str, INT4_GROUP_SIZES))
        return f"torchao int4 has no group_size {quantization.group_size}; it has: {sizes}"
    if mode == "dynamic" and quantization.group_size:
        return "torchao dynamic has one scale for each row or tensor: leave group_size out"
    if _group_size(quantization) and quantization.granularity != "per_channel":
        return f"torchao {dtype} in groups has scales in each row: granularity per_channel is the only one"
    if dtype == "float8_e4m3fn" and not quantization.reduce_range:
        return "torchao float8 has no range to reduce: reduce_range true is the only one"
    return None


def _dtype(quantization: Quantization) -> WeightDtype:
    return quantization.weight_dtype or "int8"


def _group_size(quantization: Quantization) -> int | None:
    """The weights that share a scale, along the input; None for the whole row or tensor."""
    return quantization.group_size or (INT4_GROUP_SIZES[0] if quantization.weight_dtype == "int4" else None)


def _config(quantization: Quantization) -> AOBaseConfig:
    """The config, without the settings for inductor that it would leave behind in the process."""
    group_size = _group_size(quantization)
    per_channel = quantization.granularity == "per_channel"
    granularity: Granularity = PerRow() if per_channel else PerTensor()
    if quantization.mode == "dynamic":
        if _dtype(quantization) == "int8":
            return Int8DynamicActivationInt8WeightConfig(
                granularity=granularity, reduce_range=quantization.reduce_range, set_inductor_config=False
            )
        return Float8DynamicActivationFloat8WeightConfig(granularity=granularity, set_inductor_config=False)
    if _dtype(quantization) == "int4":
        return PrototypeInt4WeightOnlyConfig(group_size=group_size, set_inductor_config=False)
    config = Int8WeightOnlyConfig if _dtype(quantization) == "int8" else Float8WeightOnlyConfig
    return config(granularity=PerGroup(group_size) if group_size else granularity, set_inductor_config=False)


def _layers(model: nn.Module, quantization: Quantization) -> dict[str, nn.Linear]:
    """The layers to quantize, each once, by their paths; refuses a name that is no layer, and no layers."""
    linear = {
        name: part
        for name, part in model.named_modules(remove_duplicate=False)
        if isinstance(part, nn.Linear)
        and not isinstance(part, nn.modules.linear.NonDynamicallyQuantizableLinear)
    }
    if not linear:
        raise Unsupported("torchao quantizes linear layers, and this model has none")
    require_layers(quantization.float_layers, linear)
    kept = {id(linear[name]) for name in quantization.float_layers}
    layers = {
        name: linear[name] for name, part in model.named_modules() if name in linear and id(part) not in kept
    }
    if not layers:
        raise Unsupported("torchao has nothing to quantize: float_layers names every linear layer")
    return layers


def _quantized(calibrated: Calibrated) -> nn.Module:
    """A copy whose weights are torchao's tensors; refuses a layer that torchao refuses, or passes over."""
    quantization = calibrated.quantization
    module, dtype = copy.deepcopy(calibrated.module), _dtype(quantization)
    config = _config(quantization)
    for name, layer in _layers(module, quantization).items():
        _require_fit(name, layer, quantization)
        try:
            # one at a time, since torchao does not say which one it refuses
            quantize_(layer, config)
        except (AssertionError, ImportError, NotImplementedError, ValueError) as error:
            said = " ".join(str(error).split())[:REASON_CHARS]
            raise Unsupported(f"torchao cannot quantize layer {name!r} to {dtype}: {said}") from error
        if not isinstance(layer.weight, TENSORS[dtype]):
            raise Unsupported(f"torchao leaves the weight of layer {name!r} as it was, which is no {dtype}")
        _require_sound_scales(name, layer.weight)
    return module


def _require_fit(name: str, layer: nn.Linear, quantization: Quantization) -> None:
    """Refuse a shape that is no multiple of what it is cut into; torchao passes over some without a word."""
    group_size = _group_size(quantization)
    if group_size and layer.in_features % group_size:
        shape = f"its {layer.in_features} inputs are no multiple of group_size {group_size}"
    elif quantization.weight_dtype == "int4" and layer.out_features % INT4_ROWS:
        shape = f"its {layer.out_features} outputs are no multiple of {INT4_ROWS}"
    else:
        return
    raise Unsupported(f"torchao cannot quantize layer {name!r}: {shape}; float_layers can keep it float")


def _require_sound_scales(name: str, weight: Any) -> None:
    scale = weight.scale_and_zero[..., 0] if isinstance(weight, Int4OpaqueTensor) else weight.scale
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        # float8 divides by it: a row of zeros would become NaN
        raise CalibrationError(name or "model", "the range of its weight gives no finite positive scale")


def _reference(calibrated: Calibrated) -> nn.Module:
    """A copy in float32 on dequantized weights; in dynamic, on activations quantized and dequantized."""
    module, quantized = copy.deepcopy(calibrated.module), _quantized(calibrated)
    for name, layer in _layers(module, calibrated.quantization).items():
        weight: Any = quantized.get_submodule(name).weight
        layer.weight = nn.Parameter(_dequantized(weight, layer.weight), requires_grad=False)
        if calibrated.quantization.mode == "dynamic":
            layer.register_forward_pre_hook(_ActivationsAsTheyCome(calibrated.quantization), with_kwargs=True)
    return module


def _dequantized(weight: Any, original: Tensor) -> Tensor:
    """The float32 values that a quantized weight stands for; shape (outputs, inputs).

    int4 is packed for the machine and cannot be read back, so it is quantized again by torchao's formula:
    q = clamp(round((w - low) / step), 0, 15) with low = zero - 8·step; the value is (q - 8)·step + zero.
    """
    if not isinstance(weight, Int4OpaqueTensor):
        dequantized: Tensor = weight.dequantize()
        return dequantized
    step, zero = weight.scale_and_zero.transpose(0, 1).unsqueeze(-2).unbind(-1)  # (outputs, groups, 1)
    grouped = original.reshape(*step.shape[:2], -1)
    quantized = ((grouped - (zero - step * INT4_MIDDLE)) / step).round().clamp(0, INT4_MAX)
    values: Tensor = (quantized - INT4_MIDDLE) * step + zero
    return values.reshape(original.shape)


@dataclass(frozen=True)
class _ActivationsAsTheyCome:
    """A layer's pre-hook: its input quantized and dequantized, with a step for each row or for all of it.

    int8: step = max|x| / (255/2), q = clamp(round(x·(1/step)), -128, 127): the largest value, where it is
    positive, is clipped by half a step. With a reduced range: 127/2, -64 and 63.
    float8: step = max|x| / 448, and x/step is rounded to float8.
    """

    quantization: Quantization

    def __call__(
        self, module: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        del module
        return tuple(map(self.applied, args)), {name: self.applied(tensor) for name, tensor in kwargs.items()}

    def applied(self, tensor: Tensor) -> Tensor:
        per_row = self.quantization.granularity == "per_channel"
        largest = tensor.abs().amax(dim=-1, keepdim=True) if per_row else tensor.abs().amax()
        if _dtype(self.quantization) == "float8_e4m3fn":
            highest = torch.finfo(torch.float8_e4m3fn).max
            step = largest / highest
            return (tensor / step).clamp(-highest, highest).to(torch.float8_e4m3fn).to(torch.float32) * step
        steps = INT8_REDUCED_STEPS if self.quantization.reduce_range else INT8_STEPS
        step = (largest / (steps / 2)).clamp(min=SMALLEST_STEP)
        quantized: Tensor = (tensor * (1.0 / step)).round().clamp(-(steps + 1) // 2, steps // 2)
        return quantized * step


class _Compiled(nn.Module):
    """A module compiled whole at its first call: what would be left to Python is refused."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise Unsupported(f"engine inductor needs a C++ compiler: {error}") from error
        # graphs of former cells count against dynamo's limit for the same code
        torch.compiler.reset()
        self.compiled = torch.compile(module, fullgraph=True, dynamic=False, options={"freezing": True})

    def forward(self, *args: Tensor, **kwargs: Tensor) -> object:
        with warnings.catch_warnings():
            # inductor imports what torch itself has deprecated, and tells of the caches that are off
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
            warnings.filterwarnings("ignore", message="dynamo_pgo force disabled", category=UserWarning)
            try:
                return self.compiled(*args, **kwargs)
            except (exc.Unsupported, exc.UserError, GuardOnDataDependentSymNode) as error:
                said = " ".join(str(error).split())[:REASON_CHARS]
                raise Unsupported(f"inductor cannot compile this model whole: {said}") from error
