"""A PT2E quantizer for linear layers alone: int8 weights on int8 inputs, both symmetric; outputs stay float.

What a back end takes whose one quantized kernel is such a matrix product.
"""

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from noisefloor.contract.scheme import Quantization
from noisefloor_workers.flows.protocol import Unsupported

MAX, REDUCED_MAX = 127, 63


def linear_int8(quantization: Quantization) -> Quantizer:
    """A new quantizer for a scheme. Raises Unsupported for what it has no use for: nobody else does."""
    if quantization.mode != "static":
        raise Unsupported(f"example.linear_int8 has no mode {quantization.mode}; it has: static")
    for option in ("activation_dtype", "weight_dtype", "group_size"):
        if getattr(quantization, option):
            raise Unsupported(f"example.linear_int8 is int8 in whole rows or tensors: leave {option} out")
    return LinearInt8(quantization)


class LinearInt8(Quantizer):  # type: ignore[misc] # torchao carries no types
    """Annotates the input and the weight of every linear layer that is not to stay float."""

    def __init__(self, quantization: Quantization) -> None:
        super().__init__()
        self._kept = quantization.float_layers
        per_channel = quantization.granularity == "per_channel"
        largest = REDUCED_MAX if quantization.reduce_range else MAX
        self._input = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-largest,
            quant_max=largest,
            qscheme=torch.per_tensor_symmetric,
            observer_or_fake_quant_ctr=MinMaxObserver,
        )
        self._weight = QuantizationSpec(
            dtype=torch.int8,
            quant_min=-MAX,
            quant_max=MAX,
            qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
            ch_axis=0 if per_channel else None,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver if per_channel else MinMaxObserver,
        )

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default):
            given, weight = node.args[:2]
            if not self._stays_float(weight):
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                    input_qspec_map={given: self._input, weight: self._weight}, _annotated=True
                )
        return model

    def validate(self, model: GraphModule) -> None:
        """Every linear layer can be quantized so."""

    def _stays_float(self, weight: Node) -> bool:
        """Whether `float_layers` names the layer of a weight, or a module that it lies in."""
        layer: Any = str(weight.target).removesuffix("weight")
        return any(layer.startswith(f"{kept}.") for kept in self._kept)
