"""PT2E: quantization of the graph that `torch.export` gives, by torchao.

Every mode has float64 as well, the same model in double precision.

| mode | variants | how |
|---|---|---|
| static | float32, reference, true | observers in the exported graph, calibration, conversion |
| dynamic | float32, reference, true | int8 weights; activations are observed as they come |
| qat | float32, fake, reference, true | fake quantization calibrated without training, then conversion |
| weight_only | float32, reference | quantized weights, float activations |

`reference` is the converted graph: quantize, dequantize, float32 operation. `true` is that graph lowered to
the engine's int8 kernels, see `lowering`. Who annotates is `quantizer`, see `quantizers`.

In qat, `fake->reference` is far from exact, and that is torch's: the kernel that fake-quantizes while it
observes takes max(-low/128, high/127) for the step of a symmetric range, and conversion takes the larger side
over 127.5. The weights of a training run and of what is shipped have steps that differ by 0.4 %.

Long by this page and by its four modes, which share preparation and conversion.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ShapesCollection
from torch.fx import GraphModule, Node

from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant
from noisefloor_workers.flows.observers import require_finite_weights
from noisefloor_workers.flows.protocol import Calibrated, Flow, Unsupported
from noisefloor_workers.flows.pt2e import facts, quantizers
from noisefloor_workers.flows.pt2e.graph import (
    factors,
    fixed_batch,
    is_dequantize,
    is_quantize,
    layer,
    lies_in,
    owner,
    quantizable,
)
from noisefloor_workers.flows.pt2e.library import ANNOTATION, constant_fold, pt2e, quantize_pt2e, quiet
from noisefloor_workers.flows.pt2e.lowering import ENGINES, Program, lowered
from noisefloor_workers.flows.pt2e.observers import is_observed, observed, seeded, shown
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedGraph, base_name
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.subjects.inputs import ModelInputs

VARIANTS: dict[Mode, tuple[Variant, ...]] = {
    "static": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
    "dynamic": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE),
    "qat": (Variant.FLOAT32, Variant.FAKE, Variant.REFERENCE, Variant.TRUE),
    "weight_only": (Variant.FLOAT32, Variant.REFERENCE),
}
DERIVED = frozenset({Variant.FAKE, Variant.REFERENCE, Variant.TRUE})
REASON_CHARS = 300
FAITHFUL_DB = 80.0  # folding a batch norm costs float32's own rounding, which is far above
TORCHAOS_EPSILON = 1e-5
BatchNorm: Any = nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - the base of all of them


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted graph, and the same before its constants were folded."""

    unfolded: GraphModule
    folded: GraphModule
    convert_s: float


@dataclass(frozen=True, kw_only=True)
class Prepared(Calibrated):
    """A calibrated graph. It is converted once, which takes twenty seconds where convolutions are trained."""

    calibration: ModelInputs
    batch: int | None
    """The batch that the graph was specialised to; None where it takes any."""
    prepare_s: float

    @cached_property
    def conversion(self) -> Conversion:
        with quiet(), torch.no_grad(), facts.Stopwatch() as watch:
            converted = _converted(_graph(self))
            unfolded = copy.deepcopy(converted)
            # what `convert_pt2e` does last
            constant_fold(converted, quantize_pt2e._quant_node_constraint)  # noqa: SLF001
        return Conversion(unfolded=unfolded, folded=converted, convert_s=watch.elapsed_s)


class Pt2e(Flow):
    """`torch.export`, `prepare_pt2e` or `prepare_qat_pt2e`, `convert_pt2e`, and a back end."""

    engines = ENGINES

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        uses = quantizers.options(quantization)
        return why_not(quantization, edges, variants=VARIANTS, uses=uses) or quantizers.why_not(quantization)

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        quantizer = quantizers.quantizer_for(quantization)
        require_finite_weights(model)
        names = [path for path, _ in model.named_modules() if path]
        require_layers(quantization.float_layers, names)
        qat = quantization.mode == "qat"
        with quiet(), torch.no_grad():
            exported = _exported(_with_torchaos_epsilon(model).train() if qat else model, calibration)
            batch = fixed_batch(exported)
            with facts.Stopwatch() as watch:
                prepared = _prepared(exported, quantizer, quantization)
            _require_quantized(prepared, quantization)
            if qat:
                pt2e.move_exported_model_to_eval(prepared)
                prepared.apply(pt2e.disable_fake_quant)
            output = shown(prepared, calibration)
            _require_faithful(model, calibration, output)
            prepared.apply(pt2e.enable_fake_quant)
            prepared.apply(pt2e.disable_observer)
        return Prepared(
            module=prepared,
            quantization=quantization,
            calibration=calibration,
            batch=batch,
            prepare_s=watch.elapsed_s,
        )

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        mode = calibrated.quantization.mode
        derived = [offered for offered in VARIANTS.get(mode, ()) if offered in DERIVED]
        if variant not in derived:
            raise Unsupported(f"pt2e {mode} derives: {', '.join(derived)}; not {variant}")
        if not isinstance(calibrated, Prepared):
            raise TypeError("this flow's variants are of what this flow calibrated")
        if variant is Variant.FAKE:
            return Program(_graph(calibrated), calibrated.batch)
        converted = Program(calibrated.conversion.folded, calibrated.batch)
        return (
            converted if variant is Variant.REFERENCE else lowered(converted, calibrated.quantization, lane)
        )

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> float | None:
        del inputs
        if not isinstance(module, Program):
            return None
        given = module.graph_module.graph.output_node().all_input_nodes
        if len(given) != 1 or not is_dequantize(given[0]):
            return None
        step = given[0].args[1]
        return step if isinstance(step, float) else None

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        if variant is Variant.TRUE:
            raise Unsupported("pt2e cannot look into the layers of true: they are compiled as a whole")
        if isinstance(module, Program):
            graph = module.graph_module
        else:
            with quiet():
                graph = copy.deepcopy(_graph(calibrated))
            graph.apply(pt2e.disable_fake_quant)
        return TappedGraph(graph, _layers(graph))

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        graph = _graph(calibrated)
        quantized = [
            node for node in quantizable(graph.graph) if any(is_observed(graph, f) for f in factors(node))
        ]
        return tuple(dict.fromkeys(base_name(layer(node)) for node in quantized if owner(node)))

    def facts(self, calibrated: Calibrated) -> tuple[Measurement, ...]:
        if not isinstance(calibrated, Prepared):
            return ()
        conversion, graph = calibrated.conversion, _graph(calibrated)
        with quiet(), torch.no_grad():
            reloaded = facts.save_load(conversion.folded, calibrated.calibration)
        counts = facts.counted(conversion.folded, conversion.unfolded)
        counts["training_ops"] = facts.training_ops(graph)
        counts["prepare_s"], counts["convert_s"] = calibrated.prepare_s, conversion.convert_s
        return (*facts.measurements(counts), reloaded)

    def facts_of_true(self, module: nn.Module) -> tuple[Measurement, ...]:
        return facts.lowered(module.graph_module, module.kernels) if isinstance(module, Program) else ()


def _graph(calibrated: Calibrated) -> GraphModule:
    return _as_graph(calibrated.module)


def _as_graph(module: Any) -> GraphModule:
    graph: GraphModule = module
    return graph


def _exported(model: nn.Module, inputs: ModelInputs) -> GraphModule:
    """The graph of a copy of a model, for any batch where the model allows it."""
    twin = copy.deepcopy(model)
    copied = inputs.copied()
    # torch.export takes a batch of one for a constant
    example = _doubled(copied) if copied.batch == 1 else copied
    for tensors, is_dynamic in ((example, True), (copied, False)):
        shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
        for tensor in tensors:
            shapes[tensor] = {0: Dim.AUTO if is_dynamic else Dim.STATIC}
        try:
            exported = torch.export.export(twin, tensors.args, dict(tensors.kwargs), dynamic_shapes=shapes)
        except Exception as error:  # noqa: BLE001 - the float model runs: what is raised is the exporter's
            said = " ".join(f"{type(error).__name__}: {error}".split())
            continue
        return _as_graph(exported.module())
    raise Unsupported(f"torch.export cannot export this model: {said[:REASON_CHARS]}")


def _doubled(inputs: ModelInputs) -> ModelInputs:
    return ModelInputs(
        args=tuple(torch.cat([tensor, tensor]) for tensor in inputs.args),
        kwargs={name: torch.cat([tensor, tensor]) for name, tensor in inputs.kwargs.items()},
    )


def _prepared(exported: GraphModule, quantizer: Any, quantization: Quantization) -> GraphModule:
    qat = quantization.mode == "qat"
    prepare = quantize_pt2e.prepare_qat_pt2e if qat else quantize_pt2e.prepare_pt2e
    try:
        prepared: GraphModule = prepare(exported, quantizer)
    except (ValueError, AssertionError, NotImplementedError) as error:
        # the graph is sound: what is said of it is the quantizer's
        said = " ".join(f"{type(error).__name__}: {error}".split())[:REASON_CHARS]
        name = quantizers.name_of(quantization)
        raise Unsupported(f"pt2e's quantizer {name} cannot annotate this model: {said}") from error
    return prepared


def _with_torchaos_epsilon(model: nn.Module) -> nn.Module:
    """A copy whose batch norms have the one epsilon that torchao's patterns for training know.

    They put it in the place of the model's own. A variance that is larger by the difference gives the same.
    """
    twin = copy.deepcopy(model)
    for part in twin.modules():
        if isinstance(part, BatchNorm) and part.running_var is not None:
            part.running_var += part.eps - TORCHAOS_EPSILON
            part.eps = TORCHAOS_EPSILON
    return twin


def _require_quantized(prepared: GraphModule, quantization: Quantization) -> None:
    """Refuse a graph without observers, and one that quantizes a layer which is to stay float."""
    name, kept = quantizers.name_of(quantization), quantization.float_layers
    if not observed(prepared):
        raise Unsupported(f"pt2e {quantization.mode} finds nothing to quantize for {name} in this model")
    for node in quantizable(prepared.graph):
        if lies_in(node, frozenset(kept)) and any(is_observed(prepared, factor) for factor in factors(node)):
            raise Unsupported(f"pt2e's quantizer {name} cannot keep the layer {layer(node)} in float")


def _require_faithful(model: nn.Module, calibration: ModelInputs, output: object) -> None:
    """Refuse a graph that, before anything in it is quantized, computes something else than the model."""
    found = compare(edge="float32->fake", ref=seeded(model, calibration), actual=output)[0]
    if found.note is not None or (found.figure.value is not None and found.figure.value < FAITHFUL_DB):
        said = found.note or f"SQNR {found.figure} dB"
        raise Unsupported(f"pt2e exports this model, but its graph gives another output in float: {said}")


def _converted(prepared: GraphModule) -> GraphModule:
    """The converted copy of a prepared graph, with its constants as they were."""
    twin = copy.deepcopy(prepared)
    nodes: dict[Node, Node] = dict(zip(prepared.graph.nodes, twin.graph.nodes, strict=True))
    for node in twin.graph.nodes:
        annotation = node.meta.get(ANNOTATION)
        if annotation is not None:
            # a copy's annotations still name the nodes of the original, which conversion would look for
            specs = {nodes.get(given, given): spec for given, spec in annotation.input_qspec_map.items()}
            node.meta[ANNOTATION] = replace(annotation, input_qspec_map=specs)
    converted: GraphModule = quantize_pt2e.convert_pt2e(twin, fold_quantize=False)
    return converted


def _layers(graph: GraphModule) -> dict[str, str]:
    """What is quantizable, and whatever has its output quantized, by the layer that each belongs to.

    A layer has `#2` at its second call; what belongs to none has its node's name.
    """
    looked_at = {*quantizable(graph.graph), *_quantized_outputs(graph)}
    calls: Counter[str] = Counter()
    found = {}
    for node in graph.graph.nodes:
        if node in looked_at:
            path = f"input {node.name}" if node.op == "placeholder" else layer(node)
            calls[path] += 1
            found[node.name] = path if calls[path] == 1 else f"{path}#{calls[path]}"
    return found


def _quantized_outputs(graph: GraphModule) -> Iterator[Node]:
    """Nodes that depend on an input, and whose output is observed or quantized."""
    depending: set[Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or not depending.isdisjoint(node.all_input_nodes):
            depending.add(node)
            source = node.args[0] if is_quantize(node) or is_observed(graph, node) else None
            if isinstance(source, Node) and source in depending:
                yield source
