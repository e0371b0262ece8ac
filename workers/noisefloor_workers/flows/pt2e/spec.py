"""Our own small quantizer, configured by the scheme: every kind of quantization spec that PT2E has.

| operation | specs |
|---|---|
| linear, convolutions | own spec for input, weight and output; a bias has that of input × weight, derived |
| sigmoid, softmax, tanh | fixed output: their range is known |
| cat, pools, reshape and its like | output shared with the input; the inputs of cat share one |
| add, mul | own spec for both inputs and the output |

Batch norm and an activation behind an operation belong to it: the quantized output is theirs.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from noisefloor.contract.scheme import ActivationDtype, Quantization
from noisefloor_workers.flows.pt2e.graph import LAYERS, aten, lies_in
from noisefloor_workers.flows.pt2e.library import ANNOTATION, pt2e, quantizers

SMALLEST_SCALE = 2.0**-12  # of torchao's own configurations
WEIGHT_MAX = 127
INT32_MAX = 2**31 - 1
DTYPES: dict[ActivationDtype, torch.dtype] = {
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
TRANSPOSED = frozenset(
    {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}
)
FOLLOWERS = frozenset({aten.batch_norm.default, aten.relu.default, aten.relu_.default, aten.hardtanh.default})
RANGES: dict[Any, tuple[float, float]] = {
    aten.sigmoid.default: (0.0, 1.0),
    aten.softmax.int: (0.0, 1.0),
    aten.tanh.default: (-1.0, 1.0),
}
SHARING = frozenset(
    {
        aten.max_pool2d.default,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten.reshape.default,
        aten.view.default,
        aten.flatten.using_ints,
        aten.permute.default,
        aten.transpose.int,
    }
)
BINARY = frozenset({aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor})


def limits(dtype: torch.dtype, *, reduce_range: bool) -> tuple[int, int]:
    """The smallest and the largest quantized value; one bit less with a reduced range.

    >>> limits(torch.int8, reduce_range=True), limits(torch.uint8, reduce_range=False)
    ((-64, 63), (0, 255))
    """
    if dtype.is_floating_point:
        whole = torch.finfo(dtype)
        return int(whole.min), int(whole.max)
    info = torch.iinfo(dtype)
    return (info.min // 2, info.max // 2) if reduce_range else (info.min, info.max)


class Spec(quantizers.Quantizer):  # type: ignore[misc] # torchao carries no types
    """Annotates as the table above says, with the dtypes and granularity of a quantization."""

    def __init__(self, quantization: Quantization) -> None:
        super().__init__()
        self._mode = quantization.mode
        self._kept = frozenset(quantization.float_layers)
        dtype = DTYPES[quantization.activation_dtype or "int8"]
        low, high = limits(dtype, reduce_range=quantization.reduce_range)
        per_channel = quantization.granularity == "per_channel"
        activation: Any = pt2e.PlaceholderObserver if self._mode == "dynamic" else pt2e.MinMaxObserver
        weight: Any = pt2e.PerChannelMinMaxObserver if per_channel else pt2e.MinMaxObserver
        moving: dict[str, Any] = {}
        if self._mode == "qat":
            by_channel, whole = pt2e.MovingAveragePerChannelMinMaxObserver, pt2e.MovingAverageMinMaxObserver
            activation = weight = pt2e.FusedMovingAvgObsFakeQuantize
            moving = {"observer": by_channel if per_channel else whole}
        self._activation = quantizers.QuantizationSpec(
            dtype=dtype,
            quant_min=low,
            quant_max=high,
            qscheme=torch.per_tensor_affine,
            is_dynamic=self._mode == "dynamic",
            observer_or_fake_quant_ctr=activation.with_args(eps=SMALLEST_SCALE),
        )
        self._weight = quantizers.QuantizationSpec(
            dtype=torch.int8,
            quant_min=-WEIGHT_MAX,
            quant_max=WEIGHT_MAX,
            qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
            ch_axis=0 if per_channel else None,
            observer_or_fake_quant_ctr=weight.with_args(eps=SMALLEST_SCALE, **moving),
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.op != "call_function" or ANNOTATION in node.meta or lies_in(node, self._kept):
                continue
            if node.target in LAYERS:
                self._layer(node)
            elif self._mode in {"static", "qat"}:
                self._operation(node)
        return model

    def validate(self, model: GraphModule) -> None:
        """Everything that `annotate` does is supported by the reference."""

    def _layer(self, node: Node) -> None:
        given, weight = node.args[0], node.args[1]
        bias = node.args[2] if len(node.args) > 2 else None  # noqa: PLR2004 - input, weight, bias
        weight_spec = self._weight
        if weight_spec.ch_axis is not None and node.target in TRANSPOSED:
            weight_spec = replace(weight_spec, ch_axis=1)
        # in this order: torchao's patterns for training take input, weight and bias by their place
        specs: dict[Any, Any] = {} if self._mode == "weight_only" else {given: self._activation}
        specs[weight] = weight_spec
        if self._mode == "static" and isinstance(bias, Node) and not self._activation.dtype.is_floating_point:
            specs[bias] = self._bias(node, weight_spec)
        _annotate(node, specs, None)
        if self._mode in {"static", "qat"}:
            self._output(node)

    def _bias(self, node: Node, weight_spec: Any) -> Any:
        per_channel = weight_spec.ch_axis is not None
        return quantizers.DerivedQuantizationSpec(
            derived_from=[(node.args[0], node), (node.args[1], node)],
            derive_qparams_fn=_product_of_scales,
            dtype=torch.int32,
            quant_min=-INT32_MAX - 1,
            quant_max=INT32_MAX,
            qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
            ch_axis=0 if per_channel else None,
        )

    def _output(self, node: Node) -> None:
        """Quantize what leaves an operation: behind the batch norm and the activation that belong to it."""
        last = node
        while len(last.users) == 1 and next(iter(last.users)).target in FOLLOWERS:
            last = next(iter(last.users))
        if lies_in(last, self._kept):
            return
        if last is node:
            node.meta[ANNOTATION].output_qspec = self._activation
        else:
            _annotate(last, {}, self._activation)

    def _operation(self, node: Node) -> None:
        if node.target in RANGES:
            _annotate(node, {node.args[0]: self._activation}, self._fixed(*RANGES[node.target]))
        elif node.target in BINARY:
            inputs = [given for given in node.args if isinstance(given, Node)]
            if len(inputs) == 2 and all(_is_float(given) for given in inputs):  # noqa: PLR2004 - of numbers: none
                _annotate(node, dict.fromkeys(inputs, self._activation), None)
                self._output(node)
        elif node.target in SHARING and _is_quantized(node.args[0]):
            self._shared(node, [node.args[0]])
        elif node.target is aten.cat.default:
            given: Any = node.args[0]
            if all(_is_quantized(part) for part in given):
                self._shared(node, list(dict.fromkeys(given)))

    def _shared(self, node: Node, inputs: list[Any]) -> None:
        first, *others = inputs
        shared = quantizers.SharedQuantizationSpec((first, node))
        _annotate(node, {first: self._activation, **dict.fromkeys(others, shared)}, shared)

    def _fixed(self, low: float, high: float) -> Any:
        """A step of (high - low) / levels, as torch has it for the same operations."""
        spec = self._activation
        if spec.dtype.is_floating_point:
            return spec
        levels = spec.quant_max - spec.quant_min + 1
        scale = (high - low) / levels
        return quantizers.FixedQParamsQuantizationSpec(
            dtype=spec.dtype,
            scale=scale,
            zero_point=spec.quant_min - round(low / scale),
            quant_min=spec.quant_min,
            quant_max=spec.quant_max,
            qscheme=torch.per_tensor_affine,
        )


def _annotate(node: Node, inputs: dict[Any, Any], output: Any) -> None:
    node.meta[ANNOTATION] = quantizers.QuantizationAnnotation(
        input_qspec_map=inputs, output_qspec=output, _annotated=True
    )


def _is_quantized(node: Any) -> bool:
    return (
        isinstance(node, Node) and ANNOTATION in node.meta and node.meta[ANNOTATION].output_qspec is not None
    )


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _product_of_scales(observers: list[Any]) -> tuple[Tensor, Tensor]:
    """The scale of a bias that is added to int32 sums: input scale × weight scale, at zero point 0."""
    activation, weight = (observer.calculate_qparams()[0] for observer in observers)
    scale = activation * weight
    return scale, torch.zeros_like(scale, dtype=torch.int64)
