"""A small research flow on a symbolic trace: patterns that anyone may add to, and one range for each tensor.

Static quantization only, in float64, float32, reference and true. What no pattern of `minmax_patterns` takes,
or whose pattern answers `NotImplemented`, is computed in float32 between dequantize and quantize.

Its ways are those of early research code, and are kept: they are what it is compared for.

- Weights have the codes -127 to 128, of which qint8 holds no 128. The largest weight of nearly every layer is
  clipped by a step or two, each 1/255 of the layer's range, and the code -128 is never used. It matters in
  small layers: the two zoo models move by -0.3 to +0.6 dB against the codes -127 to 127.
- Weights have a zero point. The kernels of onednn take none, so `true` runs there for few models. A layer
  without a positive weight would need the zero point 128, and is refused on every engine.
- A tensor has one range, from its least to its greatest value over all channels and all calibration data,
  with zero in it. A channel of small values is left with few steps; an outlier that doubles a range costs
  6 dB. Activations have the codes 0 to 255 of quint8, or 0 to 127 with `reduce_range`.
"""

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from noisefloor.contract.lane import QUANTIZED_ENGINES, Lane
from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant
from noisefloor_workers.flows.fx import Fx
from noisefloor_workers.flows.minmax_patterns import (
    PATTERNS,
    Called,
    Match,
    Range,
    Replacement,
    Target,
    activation,
    layer_of,
)
from noisefloor_workers.flows.observers import quiet, require_finite_weights
from noisefloor_workers.flows.protocol import Calibrated, Flow, Unsupported
from noisefloor_workers.flows.support import require_layers, why_not
from noisefloor_workers.flows.taps import Tapped, TappedGraph, weight_of
from noisefloor_workers.flows.trace import faithful_trace
from noisefloor_workers.subjects.inputs import ModelInputs

VARIANTS: dict[Mode, tuple[Variant, ...]] = {"static": (Variant.FLOAT32, Variant.REFERENCE, Variant.TRUE)}


class MinMaxFx(Flow):
    """Trace, match, observe by interpretation, and rewrite the graph."""

    engines = QUANTIZED_ENGINES

    def supports(self, quantization: Quantization, edges: Iterable[Edge]) -> str | None:
        if quantization.granularity == "per_channel":
            return "minmax_fx has one range for a whole tensor: granularity per_tensor is the only one"
        return why_not(quantization, edges, variants=VARIANTS, uses=("float_layers",))

    def calibrate(self, model: nn.Module, quantization: Quantization, calibration: ModelInputs) -> Calibrated:
        with quiet():
            trace = faithful_trace(model, calibration, training=False)
            require_finite_weights(trace)
            observer = _Observer(trace)
            observer.run(*calibration.in_order(trace))
            replacements = _replacements(trace, observer.ranges, quantization)
            if not replacements:
                raise Unsupported("minmax_fx finds nothing to quantize in this model")
            calibrated = _Matched(
                module=trace, quantization=quantization, ranges=observer.ranges, replacements=replacements
            )
            _rewritten(calibrated, _Reference)  # an unsound range is an error of the calibration
        return calibrated

    def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
        matched = _as_matched(calibrated)

        def kernel(match: Match, replacement: Replacement) -> nn.Module:
            try:
                return replacement.kernel()
            except RuntimeError as error:
                said = str(error).splitlines()[0]
                raise Unsupported(
                    f"minmax_fx has no layer {match.layer!r} on engine {lane.engine}: {said}"
                ) from error

        forms = {Variant.REFERENCE: _Reference, Variant.TRUE: kernel}
        if variant not in forms:
            raise Unsupported(f"minmax_fx static derives: {', '.join(forms)}; not {variant}")
        with quiet():
            return _rewritten(matched, forms[variant])

    def layers(self, calibrated: Calibrated, variant: Variant, module: nn.Module | None = None) -> Tapped:
        del variant
        matched = _as_matched(calibrated)
        graph: Any = module
        if module is None:
            with quiet():
                graph = _rewritten(matched, lambda match, _replacement: match.operation(), in_float=True)
        layers, calls = _layers(matched), graph.graph.find_nodes(op="call_module")
        return TappedGraph(graph, {n.name: layers[n.target] for n in calls if n.target in layers})

    def keepable(self, calibrated: Calibrated) -> tuple[str, ...]:
        first = (match.nodes[-1] for match, _ in _as_matched(calibrated).replacements.values())
        return tuple(dict.fromkeys(layer_of(node) for node in first if node.op == "call_module"))

    def output_step(self, module: nn.Module, inputs: ModelInputs) -> float | None:
        return Fx().output_step(module, inputs)


@dataclass(frozen=True, kw_only=True)
class _Matched(Calibrated):
    """A trace, what it saw, and what takes the place of the nodes that end a match."""

    module: GraphModule
    ranges: Mapping[Node, Range]
    replacements: Mapping[Node, tuple[Match, Replacement]]


def _as_matched(calibrated: Calibrated) -> _Matched:
    if not isinstance(calibrated, _Matched):
        raise TypeError(f"minmax_fx takes what it calibrated itself, not {type(calibrated).__name__}")
    return calibrated


def _layers(calibrated: _Matched) -> dict[str, str]:
    """The layer of each match, `#2` at its second call, by the name that the match has in all variants."""
    calls: Counter[str] = Counter()
    found = {}
    for node in calibrated.module.graph.nodes:
        if node in calibrated.replacements:
            layer = calibrated.replacements[node][0].layer
            calls[layer] += 1
            found[_name_of(node)] = layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"
    return found


def _name_of(last: Node) -> str:
    return f"matched_{last.name}"


class _Observer(Interpreter):
    """Runs a graph and notes the range of every float32 tensor."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.ranges: dict[Node, Range] = {}

    def run_node(self, n: Node) -> Any:
        output = super().run_node(n)
        if isinstance(output, Tensor) and output.dtype == torch.float32:
            self.ranges[n] = Range.of(output)
        return output


class _Reference(nn.Module):
    """Dequantize, compute in float32, quantize."""

    def __init__(self, match: Match, replacement: Replacement) -> None:
        super().__init__()
        self.operation = replacement.operation
        self.output = None if replacement.keeps_range else match.output

    @property
    def weight(self) -> Tensor | None:
        return weight_of(self.operation)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        given: list[Tensor] = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if _is_quantized(leaf)]
        if not given and self.output is None:  # looked into on its own, on float tensors
            computed: Tensor = self.operation(*args, **kwargs)
            return computed
        args, kwargs = pytree.tree_map_only(_is_quantized, Tensor.dequantize, (args, kwargs))
        scale, zero_point = self.output or (given[0].q_scale(), given[0].q_zero_point())
        return torch.quantize_per_tensor(self.operation(*args, **kwargs), scale, zero_point, torch.quint8)


def _is_quantized(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_quantized


def _replacements(
    trace: GraphModule, ranges: Mapping[Node, Range], quantization: Quantization
) -> dict[Node, tuple[Match, Replacement]]:
    """What takes the place of each match, by the match's last node."""
    parts = dict(trace.named_modules())
    require_layers(
        quantization.float_layers, [str(node.target) for node in trace.graph.find_nodes(op="call_module")]
    )
    chains = sorted(PATTERNS, key=len)[::-1]
    taken: set[Node] = set()
    found = {}
    for node in reversed(trace.graph.nodes):
        chain, nodes = next(
            ((chain, nodes) for chain in chains if (nodes := _matched(node, chain, parts))), ((), ())
        )
        if not nodes or taken.intersection(nodes):
            continue
        taken.update(nodes)
        match = Match(
            nodes=nodes,
            operations=tuple(_operation(one, parts, first=one is nodes[-1]) for one in nodes),
            ranges=ranges,
            reduce_range=quantization.reduce_range,
        )
        kept = any(layer_of(one) in quantization.float_layers for one in nodes)
        if kept or node not in ranges or not match.inputs or match.inputs[0] is not nodes[-1].args[0]:
            continue  # quantized are float32 tensors alone, given by position
        replacement = PATTERNS[chain](match)
        if replacement is not NotImplemented:
            found[node] = match, replacement
    return found


def _matched(node: Node, chain: tuple[Target, ...], parts: Mapping[str, nn.Module]) -> tuple[Node, ...]:
    """The nodes of a chain that ends in a node, from the last to the first; none where it does not match."""
    nodes: list[Node] = []
    for target in chain:
        if not _calls(node, target, parts) or (nodes and len(node.users) > 1):
            return ()
        nodes.append(node)
        if len(nodes) < len(chain):
            if not node.args or node.all_input_nodes != [node.args[0]]:
                return ()
            node = node.all_input_nodes[0]
    return tuple(nodes)


def _calls(node: Node, target: Target, parts: Mapping[str, nn.Module]) -> bool:
    if isinstance(target, str):
        return node.op == "call_method" and node.target == target
    if isinstance(target, type):
        return node.op == "call_module" and isinstance(parts[str(node.target)], target)
    return node.op == "call_function" and node.target is target


def _operation(node: Node, parts: Mapping[str, nn.Module], *, first: bool) -> nn.Module:
    """What a node calls, as a module; in a chain, all but the first are called with one argument."""
    if node.op == "call_module":
        return parts[str(node.target)]
    return Called(node.target, () if first else node.args[1:], {} if first else node.kwargs)


def _rewritten(
    calibrated: _Matched, form: Callable[[Match, Replacement], nn.Module], *, in_float: bool = False
) -> GraphModule:
    """The graph with each match as one module, between quantize and dequantize unless it is in float."""
    trace, ranges = calibrated.module, calibrated.ranges
    parts: dict[str, Any] = {}
    graph = Graph()
    floats: dict[Node, Node] = {}
    quants: dict[Node, Node] = {}

    def as_float(node: Node) -> Node:
        if node not in floats:
            floats[node] = graph.call_method("dequantize", (quants[node],))
        return floats[node]

    def as_quantized(node: Node) -> Node:
        if in_float or node not in ranges:
            return as_float(node)
        if node not in quants:
            step = activation(node, ranges, reduce_range=calibrated.quantization.reduce_range)
            quants[node] = graph.call_function(torch.quantize_per_tensor, (floats[node], *step, torch.quint8))
        return quants[node]

    inner = {node for match, _ in calibrated.replacements.values() for node in match.nodes[1:]}
    for node in trace.graph.nodes:
        if node in inner:
            continue
        if node not in calibrated.replacements:
            if node.op in {"call_module", "get_attr"}:
                parts[node.target] = operator.attrgetter(node.target)(trace)
            floats[node] = graph.node_copy(node, as_float)
            continue
        match, replacement = calibrated.replacements[node]
        first, name = match.nodes[-1], _name_of(node)
        args, kwargs = map_arg(first.args, as_quantized), map_arg(first.kwargs, as_quantized)
        parts[name] = form(match, replacement)
        (floats if in_float else quants)[node] = graph.call_module(name, args, kwargs)
    return GraphModule(parts, graph)
