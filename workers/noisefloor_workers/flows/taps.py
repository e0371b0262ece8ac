"""Looking into a model while it runs: what its layers give, and what follows if one gave something else.

Two models are compared layer by layer where both are tapped under the same names: the float model's own.

Long, since modules and graphs are tapped by two means that must give the same calls under the same names.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import QFunctional
from torch.ao.quantization import FakeQuantizeBase
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_aggregate
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils import _pytree as pytree

from noisefloor_workers.subjects.inputs import ModelInputs

FUNCTIONALS = ("add", "add_scalar", "mul", "mul_scalar", "cat", "add_relu", "matmul")
QUANTIZED_DECOMPOSED = "quantized_decomposed.quantize_per_tensor"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer: what it gave, in float32, and the arguments that it was called with.

    `args` is None where the layer was lowered to an operation that takes other arguments.
    """

    layer: str
    value: Tensor
    args: tuple[Any, ...] | None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


Tap = Callable[[Call], Tensor | None]
"""Takes each call as it happens. A tensor that it returns takes the place of the layer's output."""


class Tapped(Protocol):
    """A model whose layers can be looked into."""

    def run(self, inputs: ModelInputs, tap: Tap) -> object:
        """The model's output on a copy of the inputs. Layers are named; a second call of one is `name#2`.

        A quantized output reaches the tap dequantized, and what the tap returns is quantized as the output
        was: with its scale and zero point.
        """

    def compute(self, layer: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """What a layer gives for these arguments; those that are quantized, it takes dequantized."""

    def weight(self, layer: str) -> Tensor | None:
        """The weight that a layer computes with, see `weight_of`; None for a layer without one."""

    def kind(self, layer: str) -> str:
        """What a layer is, in torch's words."""


def base_name(layer: str) -> str:
    """A layer without the number of its call.

    >>> base_name("fc#2")
    'fc'
    """
    return layer.partition("#")[0]


class TappedModules:
    """A model whose layers are modules, at the same paths in all its variants."""

    def __init__(self, model: nn.Module, layers: Mapping[str, str]) -> None:
        """`layers` gives the name of the layer at a module's path."""
        self._model = model
        self._parts = {layer: model.get_submodule(path) for path, layer in layers.items()}

    def run(self, inputs: ModelInputs, tap: Tap) -> object:
        calls: Counter[str] = Counter()
        with ExitStack() as stack:
            for layer, part in self._parts.items():

                def seen(
                    args: tuple[Any, ...],
                    kwargs: dict[str, Any],
                    output: Any,
                    layer: str = layer,
                    part: nn.Module = part,
                ) -> Any:
                    calls[layer] += 1
                    name = layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"
                    return _shown(
                        tap,
                        Call(layer=name, value=_first_tensor(output), args=args, kwargs=kwargs),
                        output,
                        lambda given: _fake_quantized(part, given),
                    )

                if _is_functional(part):
                    _wrap_methods(stack, part, seen)
                else:
                    hook = part.register_forward_hook(
                        lambda _part, args, kwargs, output, seen=seen: seen(args, kwargs, output),
                        with_kwargs=True,
                    )
                    stack.callback(hook.remove)
            return inputs.fed_to(self._model)

    def compute(self, layer: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        part = self._parts[base_name(layer)]
        if _is_functional(part):
            method, *rest = args
            output = getattr(part, method)(*_dequantized(tuple(rest)), **_dequantized(dict(kwargs)))
        else:
            output = part(*_dequantized(args), **_dequantized(dict(kwargs)))
        return _first_tensor(output)

    def weight(self, layer: str) -> Tensor | None:
        return weight_of(self._parts[base_name(layer)])

    def kind(self, layer: str) -> str:
        return type(self._parts[base_name(layer)]).__name__


class TappedGraph:
    """A model whose layers are nodes of its graph."""

    def __init__(
        self, graph: GraphModule, layers: Mapping[str, str], lowered: Mapping[str, str] | None = None
    ) -> None:
        """`layers` gives the name of the layer that a node, by its name, computes.

        `lowered` does so for nodes that take other arguments than the layer: scale and zero point.
        """
        lowered = lowered or {}
        self._graph = graph
        nodes = {node.name: node for node in graph.graph.nodes}
        self._nodes = {layer: nodes[name] for name, layer in {**layers, **lowered}.items()}
        self._lowered = {nodes[name] for name in lowered}
        self._constants: dict[Node, Tensor | None] = {}

    def run(self, inputs: ModelInputs, tap: Tap) -> object:
        run = _TappedRun(self._graph, self._nodes, self._lowered, tap)
        return run.run(*inputs.in_order(self._graph))

    def compute(self, layer: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        node = self._nodes[layer]
        interpreter = Interpreter(self._graph)
        # a function's weights are among its arguments: those of this graph count
        own = (*map(self._constant, node.args), *[None] * (len(args) - len(node.args)))
        plain = tuple(a if o is None else o for a, o in zip(_dequantized(args), own, strict=True))
        output = getattr(interpreter, node.op)(node.target, plain, _dequantized(dict(kwargs)))
        point = _point(self._graph, node)
        if point is node:
            return _first_tensor(output)
        given = [self._constant(a) if isinstance(a, Node) else a for a in point.args[1:]]
        quantized = getattr(interpreter, point.op)(point.target, (output, *given), {})
        return _dequantized_point(point, quantized, (output, *given))

    def weight(self, layer: str) -> Tensor | None:
        node = self._nodes[layer]
        if node.op == "call_module":
            return weight_of(self._graph.get_submodule(str(node.target)))
        constants = (self._constant(argument) for argument in node.args[:2])
        return next((found for found in constants if found is not None), None)

    def _constant(self, argument: Any) -> Tensor | None:
        """The value of an argument that depends on no input; None where it depends on one."""
        if not isinstance(argument, Node):
            return None
        if argument not in self._constants:
            self._constants[argument] = _constant(self._graph, argument)
        return self._constants[argument]

    def kind(self, layer: str) -> str:
        node = self._nodes[layer]
        if node.op == "placeholder":
            return "input"
        if node.op == "call_module":
            return type(self._graph.get_submodule(str(node.target))).__name__
        return getattr(node.target, "__name__", str(node.target))


class _TappedRun(Interpreter):
    """One run of a graph, under taps. A layer is tapped where its output is quantized, if it is."""

    def __init__(
        self, graph: GraphModule, nodes: Mapping[str, Node], lowered: AbstractSet[Node], tap: Tap
    ) -> None:
        super().__init__(graph)
        self._tap = tap
        self._lowered = lowered
        self._layers = {_point(graph, node): (layer, node) for layer, node in nodes.items()}
        self._heads = {node for _layer, node in self._layers.values()}
        self._arguments: dict[Node, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def run_node(self, n: Node) -> Any:
        if n in self._heads:
            self._arguments[n] = self.fetch_args_kwargs_from_env(n)
        output = super().run_node(n)
        if n not in self._layers:
            return output
        layer, head = self._layers[n]
        given, named = self.fetch_args_kwargs_from_env(n)

        def again(replacement: Tensor) -> Tensor:
            if n is head:
                return replacement
            if isinstance(self.env.get(head), Tensor):
                self.env[head] = replacement  # whoever takes the layer's output as it is takes this
            quantized: Tensor = getattr(self, n.op)(n.target, (replacement, *given[1:]), named)
            return quantized

        args, kwargs = self._arguments[head]
        call = Call(
            layer=layer,
            value=_dequantized_point(n, output, given),
            args=None if head in self._lowered or head.op == "placeholder" else args,
            kwargs=kwargs,
        )
        return _shown(self._tap, call, output, again)


def _shown(tap: Tap, call: Call, output: Any, quantized: Callable[[Tensor], Tensor]) -> Any:
    """Show a call to the tap, and give on what the tap says, in the form of the output."""
    replacement = tap(call)
    if replacement is None:
        return output
    leaves, spec = pytree.tree_flatten(output)
    first = next(number for number, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    leaves[first] = _like(leaves[first], quantized(replacement))
    return pytree.tree_unflatten(leaves, spec)


def _like(output: Tensor, replacement: Tensor) -> Tensor:
    """A tensor in the form of another: quantized with its scale and zero point, or in its dtype."""
    if replacement.is_quantized or not output.is_quantized:
        return replacement if replacement.dtype == output.dtype else replacement.to(output.dtype)
    scale, zero_point = output.q_scale(), output.q_zero_point()
    return torch.quantize_per_tensor(replacement.to(torch.float32), scale, zero_point, output.dtype)


def _fake_quantized(part: nn.Module, replacement: Tensor) -> Tensor:
    """Through the fake quantizer of a layer's output, if it has one."""
    after = getattr(part, "activation_post_process", None)
    quantized: Tensor = after(replacement) if isinstance(after, FakeQuantizeBase) else replacement
    return quantized


def _first_tensor(output: Any) -> Tensor:
    """The output that is looked at, where a layer gives several: the first."""
    found: Tensor = next(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))
    return (found.dequantize() if found.is_quantized else found).detach()


def _dequantized(arguments: Any) -> Any:
    return map_aggregate(
        arguments, lambda a: a.dequantize() if isinstance(a, Tensor) and a.is_quantized else a
    )


def _is_functional(part: nn.Module) -> bool:
    return isinstance(part, torch.ao.nn.quantized.FloatFunctional | QFunctional)


def _wrap_methods(stack: ExitStack, part: nn.Module, seen: Callable[..., Any]) -> None:
    """Tap a FloatFunctional, which computes by methods and has no forward to hook."""
    for method in FUNCTIONALS:
        original = getattr(part, method, None)
        if original is None:
            continue

        def wrapped(
            *args: Any, original: Callable[..., Any] = original, method: str = method, **kwargs: Any
        ) -> Any:
            return seen((method, *args), kwargs, original(*args, **kwargs))

        setattr(part, method, wrapped)
        stack.callback(delattr, part, method)


def _point(graph: GraphModule, node: Node) -> Node:
    """Where a layer's output is quantized, if it is by one node alone; else the layer's node itself."""
    if _quantizes(graph, node):
        return node
    quantizing = [user for user in node.users if _quantizes(graph, user)]
    return quantizing[0] if len(quantizing) == 1 else node


def _quantizes(graph: Any, node: Node) -> bool:
    if node.op == "call_module":
        # torch's fake quantizers and torchao's have no class in common
        return hasattr(graph.get_submodule(str(node.target)), "fake_quant_enabled")
    return node.op == "call_function" and (node.target is torch.quantize_per_tensor or _is_decomposed(node))


def _is_decomposed(node: Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith(QUANTIZED_DECOMPOSED)


def _dequantized_point(point: Node, output: Any, args: tuple[Any, ...]) -> Tensor:
    """The output of a layer in float32, also where it is integers that know nothing of their scale."""
    if not _is_decomposed(point):
        return _first_tensor(output)
    scale, zero_point = args[1], args[2]
    value: Tensor = (output.to(torch.float32) - zero_point) * scale
    return value


def _constant(graph: GraphModule, node: Node) -> Tensor | None:
    """The value of a node that depends on no input; None where it depends on one."""
    if node.op == "placeholder":
        return None
    interpreter = Interpreter(graph)
    for source in node.all_input_nodes:
        value = _constant(graph, source)
        if value is None:
            return None
        interpreter.env[source] = value
    found: Tensor = interpreter.run_node(node)
    return found


def weight_of(module: nn.Module) -> Tensor | None:
    """The weight that a module computes with, dequantized, with batch norm folded in.

    None for a module without a weight, and for one that is packed in a way that cannot be read back.
    """
    part: Any = module
    norm = getattr(part, "bn", None)  # fused for training
    if isinstance(part, nn.Sequential) and len(part) and not hasattr(part, "weight"):  # fused otherwise
        part, *after = part.children()
        norm = next((other for other in after[:1] if isinstance(other, _NormBase)), None)
    weight = part.get_weight() if hasattr(part, "get_weight") else getattr(part, "weight", None)
    weight = weight() if callable(weight) else weight  # torch.ao.nn.quantized keeps it packed
    if not isinstance(weight, Tensor):
        return None
    if norm is not None:
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight = fuse_conv_bn_weights(weight, part.bias, *statistics)[0]
    fake_quant = getattr(part, "weight_fake_quant", None)
    if fake_quant is not None:
        weight = fake_quant(weight)
    packed = weight.is_quantized or type(weight) not in {Tensor, nn.Parameter}
    try:
        plain: Tensor = (weight.dequantize() if packed else weight).detach()
    except NotImplementedError:
        return None
    return plain
