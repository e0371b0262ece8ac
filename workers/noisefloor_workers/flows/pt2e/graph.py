"""Reading an exported graph: which layer a node belongs to, what is quantized, what could be."""

from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int

aten: Any = torch.ops.aten

LAYERS = frozenset(
    {
        aten.linear.default,
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv3d.default,
        aten.conv_transpose1d.default,
        aten.conv_transpose2d.input,
        aten.conv_transpose3d.input,
    }
)
EMBEDDINGS = frozenset({aten.embedding.default})
PRODUCTS = frozenset({aten.matmul.default, aten.bmm.default, aten.mm.default})
QUANTIZABLE = LAYERS | EMBEDDINGS | PRODUCTS
"""Operations with a weight, and products of activations: where int8 pays."""

QUANTIZE = ("quantized_decomposed.quantize_", "torchao.quantize_affine")
DEQUANTIZE = ("quantized_decomposed.dequantize_", "torchao.dequantize_affine")


def is_quantize(node: Node) -> bool:
    return node.op == "call_function" and any(name in str(node.target) for name in QUANTIZE)


def is_dequantize(node: Node) -> bool:
    return node.op == "call_function" and any(name in str(node.target) for name in DEQUANTIZE)


def factors(node: Node) -> tuple[Node, ...]:
    """What has to be quantized for an operation to be: a layer's weight, a table, both sides of a product."""
    first, second = node.args[0], node.args[1]
    both = (None if node.target in LAYERS else first, None if node.target in EMBEDDINGS else second)
    return tuple(factor for factor in both if isinstance(factor, Node))


def quantizable(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "call_function" and node.target in QUANTIZABLE]


def is_quantized(node: Node) -> bool:
    """Whether a quantizable operation of a converted graph is quantized."""
    return all(is_dequantize(factor) for factor in factors(node))


def owner(node: Node) -> str:
    """The model's own name of the layer or input that a node belongs to; empty where it is of none."""
    if node.op == "placeholder":
        return str(node.target)
    if node.op == "get_attr":
        return str(node.target).rpartition(".")[0]
    return next(reversed(_layers(node)), "")


def layer(node: Node) -> str:
    """The owner of a node, or its own name."""
    return owner(node) or node.name


def lies_in(node: Node, layers: frozenset[str]) -> bool:
    """Whether a node belongs to one of these layers, or to a layer inside one."""
    return not layers.isdisjoint(_layers(node))


def fixed_batch(graph: GraphModule) -> int | None:
    """The batch that a graph was specialised to; None where it takes any."""
    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.ndim and is_concrete_int(value.shape[0]):
            return int(value.shape[0])
    return None


def _layers(node: Node) -> list[str]:
    """The layers that a node lies in, outermost first."""
    return [path for path, _kind in node.meta.get("nn_module_stack", {}).values()]
