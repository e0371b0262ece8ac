"""FX graph-mode quantization, on the part of torch that is marked for deletion as a whole.

Every mode has float64 as well, the same model in double precision.

| mode | variants | how |
|---|---|---|
| static | float32, reference, true | observers in the traced graph, calibration, conversion |
| dynamic | float32, reference, true | int8 weights; activations are observed as they come |
| qat | float32, fake, reference, true | fake quantization calibrated without training, then conversion |

`reference` is the converted graph before it is lowered to kernels: quantize, dequantize, float32 operation.
What is lowered differs in more than rounding where a layer is called twice: `true` then has one output scale
for both calls, that of the last one.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.ao.quantization.backend_config import BackendConfig, get_native_backend_config
from torch.fx import GraphModule, Interpreter, Node

from noisefloor.contract.lane import QUANTIZED_ENGINES, Lane
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant
from noisefloor_workers.flows.observers import (
    as_float,
    layer_name,
    qconfig,
    quiet,
    require_finite_weights,
    require_sound_observers,
)
from noisefloor_workers.flows.protocol import Calibrated, Flow, Unsupported
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedGraph, base_name
from noisefloor_workers.flows.trace import faithful_trace
from noisefloor_workers.subjects.inputs import ModelInputs

ao: Any = quantization  # half of its functions carry no types
fx: Any = quantize_fx

VARIANTS: dict[Mode, tuple[Variant, ...]] = {
    "static": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
    "dynamic": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
    "qat": (Variant.FLOAT32, Variant.FAKE, Variant.REFERENCE, Variant.TRUE),
}
DERIVED = frozenset({Variant.FAKE, Variant.REFERENCE, Variant.TRUE})
REDUCED_MAX = 127
SMALLEST_STEP = 6.0999998822808266e-05  # torch's 6.1e-5f
STEP_OF_ZEROS = 0.1  # torch's
# Each takes `reduce_range` last, which torch fills in from the engine.
OBSERVED_AS_THEY_COME: tuple[Any, ...] = (
    torch.quantize_per_tensor_dynamic,
    torch.ops.quantized.linear_dynamic,
    torch.ops.quantized.linear_relu_dynamic,
)


class Fx(Flow):
    """`prepare_fx` or `prepare_qat_fx`, `convert_fx` or `convert_to_reference_fx`.

    It has no weight_only and no activation_only: `prepare_qat_fx` needs an observer on either side.
    """

    engines = QUANTIZED_ENGINES

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        mode = quantization.mode
        if mode == "dynamic" and not quantization.reduce_range:
            return "fx dynamic leaves the range to the kernels: reduce_range true is the only one"
        return why_not(quantization, edges, variants=VARIANTS, uses=("float_layers",))

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        mode = quantization.mode
        with quiet():
            # weights by the model's own names: fusion renames layers
            require_finite_weights(faithful_trace(model, calibration, training=mode == "qat"))
            require_layers(quantization.float_layers, [path for path, _ in model.named_modules() if path])
            prepared = _prepare(copy.deepcopy(model), quantization, calibration)
            layers = _observed_layers(prepared)
            if not layers:
                raise Unsupported(f"fx {mode} finds nothing to quantize in this model")
            if mode != "dynamic":
                _show(prepared, calibration, layers)
        return Calibrated(module=prepared, quantization=quantization)

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        del lane  # torch converts for the engine that is bound
        mode = calibrated.quantization.mode
        derived = [offered for offered in VARIANTS.get(mode, ()) if offered in DERIVED]
        if variant not in derived:
            raise Unsupported(f"fx {mode} derives: {', '.join(derived)}; not {variant}")
        return calibrated.module if variant is Variant.FAKE else _converted(calibrated, variant)

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        prepared: Any = calibrated.module
        layers = _layers(prepared, calibrated.quantization.mode)
        if module is None:
            float_form: Any = as_float(prepared)
            return TappedGraph(float_form, layers)
        graph: Any = module
        names = {node.name for node in graph.graph.nodes}
        found = {node: layer for node, layer in layers.items() if node in names}
        if variant is not Variant.TRUE:
            return TappedGraph(graph, found)
        fused = {node: layer for node, layer in layers.items() if node not in names}
        return TappedGraph(graph, found, _lowered(_converted(calibrated, Variant.REFERENCE), graph, fused))

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        prepared: Any = calibrated.module
        modules = {str(node.target) for node in prepared.graph.find_nodes(op="call_module", sort=False)}
        names = (base_name(layer) for layer in _layers(prepared, calibrated.quantization.mode).values())
        return tuple(dict.fromkeys(name for name in names if name in modules))

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> float | None:
        if not isinstance(module, GraphModule):
            return None
        given = module.graph.output_node().all_input_nodes
        if len(given) != 1 or (given[0].op, given[0].target) != ("call_method", "dequantize"):
            return None
        probe = _StepProbe(module, given[0])
        probe.run(*inputs.in_order(module))
        return probe.step


class _StepProbe(Interpreter):
    """Runs a graph and notes the quantization step of what one node dequantizes."""

    def __init__(self, module: GraphModule, dequantize: Node) -> None:
        super().__init__(module)
        self.step: float | None = None
        self._dequantize = dequantize

    def run_node(self, n: Node) -> Any:
        if n is self._dequantize:
            (tensor,), _ = self.fetch_args_kwargs_from_env(n)
            if tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine:
                self.step = tensor.q_scale()
        return super().run_node(n)


def _backend_config() -> BackendConfig:
    """The patterns that are quantized: one list for all engines, though onednn has more of its own."""
    return get_native_backend_config()


def _mapping(quantization: Quantization) -> Any:
    """The same observers everywhere but where a kind of layer takes no other than torch's own.

    Sigmoid and its like have a fixed output range; PReLU and transposed convolutions have weights of their
    own, per tensor always. All else that is not observed so would stay float, or be lowered wrongly.
    """
    everywhere = qconfig(quantization)
    mapping = ao.QConfigMapping().set_global(everywhere)
    for layer in quantization.float_layers:
        mapping.set_module_name(layer, None)
    if quantization.mode == "dynamic":
        return mapping
    fixed = (ao.FixedQParamsObserver, ao.FixedQParamsFakeQuantize)
    own = (
        ao.get_default_qat_qconfig_mapping()
        if quantization.mode == "qat"
        else ao.get_default_qconfig_mapping()
    )
    for kind, theirs in own.object_type_qconfigs.items():
        is_fixed = isinstance(theirs.activation(), fixed)
        mapping.set_object_type(kind, theirs if is_fixed else everywhere._replace(weight=theirs.weight))
    return mapping


def _prepare(model: nn.Module, quantization: Quantization, data: ModelInputs) -> GraphModule:
    """Trace, fuse by pattern and insert observers; torch never runs the model on the data."""
    training = quantization.mode == "qat"
    prepare = fx.prepare_qat_fx if training else fx.prepare_fx
    prepared: GraphModule = prepare(
        model.train(training), _mapping(quantization), tuple(data), backend_config=_backend_config()
    )
    prepared.eval()
    prepared.apply(ao.disable_fake_quant)
    return prepared


def _show(prepared: GraphModule, calibration: ModelInputs, layers: dict[str, str]) -> None:
    """Let the observers see the calibration data, and refuse those that are not fit to quantize with."""

    def named(path: str) -> str:
        return layers.get(path.partition(".")[0]) or layer_name(path)

    try:
        calibration.fed_to(prepared)
    except Exception:
        # a fake quantizer asserts on NaN without saying where: the observers know
        require_sound_observers(prepared, named, seen_all=False)
        raise
    require_sound_observers(prepared, named, seen_all=True)
    prepared.apply(ao.enable_fake_quant)
    prepared.apply(ao.disable_observer)


def _observed_layers(prepared: GraphModule) -> dict[str, str]:
    """What each observer in the graph observes: a layer by its path, a function or an input by its name."""
    parts = dict(prepared.named_modules(remove_duplicate=False))
    observed: dict[str, str] = {}
    for node in prepared.graph.nodes:
        if node.op == "call_module" and isinstance(parts[node.target], ao.ObserverBase | ao.FakeQuantizeBase):
            source = node.args[0]
            observed[node.target] = str(source.target) if source.op == "call_module" else source.name
    return observed


def _converted(calibrated: Calibrated, variant: Variant) -> GraphModule:
    convert = fx.convert_to_reference_fx if variant is Variant.REFERENCE else fx.convert_fx
    with quiet():
        converted: GraphModule = convert(copy.deepcopy(calibrated.module), backend_config=_backend_config())
    return _with_reduced_range(converted) if calibrated.quantization.mode == "dynamic" else converted


def _layers(prepared: GraphModule, mode: Mode) -> dict[str, str]:
    """The layer that each node computes: where outputs are observed; in dynamic, modules whose input is.

    A layer has the path of its module, `#2` at its second call; a function has its node's name.
    """
    parts = dict(prepared.named_modules(remove_duplicate=False))

    def observer(node: Node) -> bool:
        return node.op == "call_module" and isinstance(
            parts[node.target], ao.ObserverBase | ao.FakeQuantizeBase
        )

    calls: Counter[str] = Counter()
    found = {}
    for node in prepared.graph.nodes:
        beside = node.all_input_nodes if mode == "dynamic" else node.users
        if observer(node) or node.op == "get_attr" or not any(observer(other) for other in beside):
            continue
        if node.op == "call_module":
            calls[node.target] += 1
            found[node.name] = str(node.target) + (f"#{calls[node.target]}" if calls[node.target] > 1 else "")
        else:
            found[node.name] = f"input {node.name}" if node.op == "placeholder" else node.name
    return found


def _lowered(reference: GraphModule, true: GraphModule, layers: Mapping[str, str]) -> dict[str, str]:
    """The node of `true` for each of these layers, which was lowered to another operation.

    They have the scale in common: that by which the reference quantizes the layer's output is an argument
    of the operation.
    """
    layer_of_scale = {
        node.args[1].name: layers[node.args[0].name]
        for node in reference.graph.find_nodes(op="call_function", target=torch.quantize_per_tensor)
        if node.args[0].name in layers
    }
    return {
        node.name: layer_of_scale[source.name]
        for node in true.graph.nodes
        for source in node.all_input_nodes
        if source.op == "get_attr" and source.name in layer_of_scale
    }


def _with_reduced_range(converted: GraphModule) -> GraphModule:
    """7 of the 8 bits for activations observed as they come, which is what layers ask of their kernels.

    torch's conversion takes the range from the engine bound at that moment, for functions and for the
    reference, and its quantization from the engine bound when it runs: qnnpack has no reduced range.
    """
    for node in converted.graph.nodes:
        if node.op == "call_function" and node.target in OBSERVED_AS_THEY_COME:
            tensor, second, _range_of_engine = node.args
            node.args = (tensor, second, True)
            if node.target == torch.quantize_per_tensor_dynamic:
                node.target = _quantized_as_it_comes
    converted.recompile()
    return converted


def _quantized_as_it_comes(tensor: torch.Tensor, dtype: torch.dtype, *_range: bool) -> torch.Tensor:
    """What `torch.quantize_per_tensor_dynamic` does with `reduce_range`, to the bit, whatever the engine.

    step = (max(x, 0) - min(x, 0)) / 127 in double precision, at least SMALLEST_STEP; zero is at -min / step.
    Torch keeps this in C++ (`ChooseQuantizationParams`), where qnnpack has no reduced range.
    """
    low, high = (bound.item() for bound in torch.aminmax(tensor))
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / REDUCED_MAX
    if step == 0:
        return torch.quantize_per_tensor(tensor, STEP_OF_ZEROS, 0, dtype)
    return torch.quantize_per_tensor(tensor, max(step, SMALLEST_STEP), round(-low / step), dtype)
