"""The patterns of the min-max flow: what is matched in a graph, and what takes its place."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NotImplementedType
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.nn import quantized
from torch.ao.nn.intrinsic import quantized as intrinsic
from torch.fx import Node
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_weights, skip_init

from noisefloor_workers.flows.protocol import CalibrationError, Unsupported

nnq: Any = quantized  # no types
nniq: Any = intrinsic

Target = type[nn.Module] | Callable[..., Any] | str
"""What a node calls: a type of module, a function, or a method's name."""

WEIGHT_CODES = (-127, 128)  # one more than qint8 holds
CODES, REDUCED_CODES = (0, 255), (0, 127)
HIGHEST_ZERO_POINT = 127  # of qint8
SMALLEST_STEP = torch.finfo(torch.float32).eps
STEP_OF_ZEROS = 1.0
RELUS: tuple[Target, ...] = (nn.ReLU, functional.relu, torch.relu)


@dataclass(frozen=True, kw_only=True)
class Range:
    """The least and the greatest value that were seen; where there were none, low is above high."""

    low: float
    high: float

    @classmethod
    def of(cls, tensor: Tensor) -> "Range":
        if not tensor.numel():
            return cls(low=math.inf, high=-math.inf)
        low, high = (float(bound) for bound in torch.aminmax(tensor.detach()))
        return cls(low=low, high=high)

    def scale_and_zero_point(self, lowest: int, highest: int) -> tuple[float, int]:
        """The step, and the code of zero, with zero in the range: in double precision.

        step = (high - low) / (highest - lowest), zero point = lowest - round(low / step).

        >>> Range(low=-127.5, high=382.5).scale_and_zero_point(0, 255)
        (2.0, 64)
        """
        low, high = min(0.0, self.low), max(0.0, self.high)
        if low == high:
            return STEP_OF_ZEROS, 0
        step = max((high - low) / (highest - lowest), SMALLEST_STEP)
        return step, min(max(lowest - round(low / step), lowest), highest)


@dataclass(frozen=True, kw_only=True)
class Match:
    """Nodes that a pattern matched, from the last to the first, and what is known of them."""

    nodes: tuple[Node, ...]
    operations: tuple[nn.Module, ...]
    """What the nodes call, as modules."""
    ranges: Mapping[Node, Range]
    """Of every node that gives a float32 tensor."""
    reduce_range: bool

    @property
    def layer(self) -> str:
        """The model's own name of the first operation."""
        return layer_of(self.nodes[-1])

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The float32 tensors among the arguments of the first operation, which come quantized."""
        return tuple(arg for arg in self.nodes[-1].args if isinstance(arg, Node) and arg in self.ranges)

    @cached_property
    def output(self) -> tuple[float, int]:
        """Scale and zero point of the last operation's output; an unsound range is an error."""
        return activation(self.nodes[0], self.ranges, reduce_range=self.reduce_range)

    def operation(self) -> nn.Module:
        """All of it as one module, in float32."""
        first_to_last = self.operations[::-1]
        return first_to_last[0] if len(first_to_last) == 1 else nn.Sequential(*first_to_last)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What takes the place of a match. Both forms are called with the first operation's arguments."""

    operation: nn.Module
    """The operation in float32, with weights quantized and dequantized: for `reference`."""
    kernel: Callable[[], nn.Module]
    """Makes what takes and gives quint8 tensors, for the engine that is bound: for `true`."""
    keeps_range: bool = False
    """The output has the scale and zero point of the input, and not those that were observed."""


Answer = Callable[[Match], Replacement | NotImplementedType]
PATTERNS: dict[tuple[Target, ...], Answer] = {}


def register_pattern(*patterns: Target | tuple[Target, ...]) -> Callable[[Answer], Answer]:
    """Have a function say what takes the place of the operations that a pattern matches.

    A pattern is one target, or a tuple of them from the last operation to the first: each is called on the
    output of the one after it in the tuple, on no other tensor, and nothing else uses that output. The first
    argument of the first operation is a float32 tensor. Long patterns come before short ones, and of the same
    length the last registered; nothing is matched twice. The function answers `NotImplemented` where the
    operations are to stay in float32.

    Call it in the module of an imported subject, which a worker imports before it calibrates.

    >>> @register_pattern(nn.Hardswish)
    ... def hardswish(match: Match) -> Replacement:
    ...     scale, zero_point = match.output
    ...     return Replacement(operation=match.operation(), kernel=lambda: nnq.Hardswish(scale, zero_point))
    >>> PATTERNS.pop((nn.Hardswish,)) is hardswish
    True
    """

    def registered(answer: Answer) -> Answer:
        for pattern in patterns:
            chain = pattern if isinstance(pattern, tuple) else (pattern,)
            PATTERNS.pop(chain, None)  # so that it comes last
            PATTERNS[chain] = answer
        return answer

    return registered


@register_pattern(operator.add, torch.add)
def add(match: Match) -> Replacement | NotImplementedType:
    """The sum of two tensors; a tensor and a number, or a scaled sum, stay float."""
    if len(match.inputs) != 2 or match.nodes[0].kwargs:  # noqa: PLR2004 - the two that are added
        return NotImplemented
    return Replacement(operation=match.operation(), kernel=lambda: _Add(*match.output))


@register_pattern(*RELUS, "relu", nn.Identity, nn.Dropout, nn.Flatten, torch.flatten, "flatten")
@register_pattern(nn.MaxPool2d, functional.max_pool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
@register_pattern(torch.reshape, "reshape", "view")
def copy_node(match: Match) -> Replacement | NotImplementedType:
    """What takes quantized tensors as it is, and keeps their scale and zero point."""
    node, operation = match.nodes[0], match.operation()
    in_place = getattr(operation, "inplace", False) or node.kwargs.get("inplace")
    if in_place and len(match.inputs[0].users) > 1:
        return NotImplemented  # others see what it does to its input, as they do in the model
    return Replacement(operation=operation, kernel=lambda: operation, keeps_range=True)


@register_pattern(nn.Linear, *((relu, nn.Linear) for relu in RELUS))
def linear(match: Match) -> Replacement:
    layer: Any = match.operations[-1]
    relu = len(match.operations) > 1
    return _weighted(
        match,
        layer.weight,
        layer.bias,
        arguments=(layer.in_features, layer.out_features, layer.bias is not None),
        forms=(nn.Linear, nniq.LinearReLU if relu else nnq.Linear),
        relu=relu,
    )


@register_pattern(nn.Conv2d, *((relu, nn.Conv2d) for relu in RELUS))
@register_pattern((nn.BatchNorm2d, nn.Conv2d), *((relu, nn.BatchNorm2d, nn.Conv2d) for relu in RELUS))
def conv(match: Match) -> Replacement | NotImplementedType:
    """A convolution, maybe with batch norm folded into it; padding by a word stays float."""
    layer: Any = match.operations[-1]
    weight, bias = layer.weight, layer.bias
    norms: list[Any] = [part for part in match.operations if isinstance(part, nn.BatchNorm2d)]
    if isinstance(layer.padding, str) or any(norm.running_mean is None for norm in norms):
        return NotImplemented
    for norm in norms:
        weight, bias = fuse_conv_bn_weights(
            weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
    relu = len(match.operations) - len(norms) > 1
    shape = (layer.in_channels, layer.out_channels, layer.kernel_size)
    steps = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return _weighted(
        match,
        weight,
        bias,
        arguments=(*shape, *steps, bias is not None, layer.padding_mode),
        forms=(nn.Conv2d, nniq.ConvReLU2d if relu else nnq.Conv2d),
        relu=relu,
    )


def quantized_weight(layer: str, weight: Tensor) -> Tensor:
    """A weight as qint8, with one scale; codes of 128 and 129 are clipped to 127."""
    found = Range.of(weight)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        raise CalibrationError(layer, "its weight is not finite, or empty, once batch norm is folded into it")
    scale, zero_point = found.scale_and_zero_point(*WEIGHT_CODES)
    if zero_point > HIGHEST_ZERO_POINT:
        raise Unsupported(
            f"minmax_fx cannot quantize layer {layer!r}: without a positive weight its zero point is "
            f"{zero_point}, and qint8 ends at {HIGHEST_ZERO_POINT}; float_layers can keep it float"
        )
    return torch.quantize_per_tensor(weight.detach(), scale, zero_point, torch.qint8)


def activation(node: Node, ranges: Mapping[Node, Range], *, reduce_range: bool) -> tuple[float, int]:
    """Scale and zero point of a node's output as quint8."""
    found = ranges[node]
    if found.low > found.high:
        raise CalibrationError(layer_of(node), "its observer saw no data during calibration")
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        raise CalibrationError(layer_of(node), "its observer saw NaN or infinity during calibration")
    return found.scale_and_zero_point(*(REDUCED_CODES if reduce_range else CODES))


def layer_of(node: Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


class Called(nn.Module):
    """A node's function or method as a module; `bound` and `named` are its arguments after the first."""

    def __init__(self, target: Any, bound: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.target, self.bound, self.named = target, bound, named

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        called = getattr(args[0], self.target) if isinstance(self.target, str) else self.target
        given = args[1:] if isinstance(self.target, str) else args
        return called(*given, *self.bound, **self.named, **kwargs)


class _Add(nn.Module):
    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.scale, self.zero_point = scale, zero_point

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        added: Tensor = torch.ops.quantized.add(left, right, self.scale, self.zero_point)
        return added


def _weighted(
    match: Match,
    weight: Tensor,
    bias: Tensor | None,
    *,
    arguments: tuple[Any, ...],
    forms: tuple[Any, Any],
    relu: bool,
) -> Replacement:
    """A layer with a weight: `forms` are its float and its quantized module, which are made alike."""
    packed, float_form, quantized_form = quantized_weight(match.layer, weight), *forms
    bias = None if bias is None else bias.detach()
    operation = skip_init(float_form, *arguments)  # draws no numbers
    operation.weight = nn.Parameter(packed.dequantize(), requires_grad=False)
    operation.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def kernel() -> nn.Module:
        module: Any = quantized_form(*arguments)
        module.set_weight_bias(packed, bias)
        module.scale, module.zero_point = match.output
        return module

    return Replacement(operation=nn.Sequential(operation, nn.ReLU()) if relu else operation, kernel=kernel)
