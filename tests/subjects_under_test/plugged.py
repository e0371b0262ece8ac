"""Quantizers as a plugin brings them: called with the quantization."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from noisefloor_workers.flows.pt2e.library import ANNOTATION, executorch, pt2e, quantizers, x86

aten: Any = torch.ops.aten
Rewrite = Callable[[Node], tuple[Any, tuple[Any, ...]] | None]


def x86_inductor() -> Any:
    config = x86.get_default_x86_inductor_quantization_config(reduce_range=True)
    return x86.X86InductorQuantizer().set_global(config)


class Rewriting(quantizers.Quantizer):
    """Rewrites calls before it annotates as X86Inductor's does, or nothing."""

    def __init__(self, rewrite: Rewrite, *, annotates: bool = True) -> None:
        super().__init__()
        self.rewrite, self.annotates = rewrite, annotates

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            found = self.rewrite(node)
            if found is not None:
                node.target, node.args = found
        model.recompile()
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        return x86_inductor().annotate(model) if self.annotates else model

    def validate(self, model: GraphModule) -> None:
        pass


def doubled(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """For x + x: x · 2."""
    is_doubling = node.target is aten.add.Tensor and node.args[0] is node.args[1]
    return (aten.mul.Tensor, (node.args[0], 2)) if is_doubling else None


def halved(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """For x / 2: x · 0.5."""
    is_halving = node.target is aten.div.Tensor and node.args[1] == 2
    return (aten.mul.Tensor, (node.args[0], 0.5)) if is_halving else None


def multiplied(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """For x + y: x · y, which is something else."""
    return (aten.mul.Tensor, node.args) if node.target is aten.add.Tensor else None


def doubling(_quantization: object) -> Any:
    return Rewriting(doubled)


def multiplying(_quantization: object) -> Any:
    return Rewriting(multiplied)


def composed(_quantization: object) -> Any:
    return quantizers.ComposableQuantizer([Rewriting(doubled, annotates=False), Rewriting(halved)])


class Contradicting(quantizers.Quantizer):
    """Takes away what was annotated before it."""

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            node.meta[ANNOTATION] = None
        return model

    def validate(self, model: GraphModule) -> None:
        pass


def contradicting(_quantization: object) -> Any:
    return quantizers.ComposableQuantizer([x86_inductor(), Contradicting()])


class OfNumbers(quantizers.Quantizer):
    """Wants a number quantized that stands beside a tensor."""

    def annotate(self, model: GraphModule) -> GraphModule:
        spec = quantizers.QuantizationSpec(
            dtype=torch.uint8,
            quant_min=0,
            quant_max=255,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=pt2e.MinMaxObserver,
        )
        for node in model.graph.find_nodes(op="call_function", target=aten.add.Tensor):
            node.meta[ANNOTATION] = quantizers.QuantizationAnnotation(
                input_qspec_map=dict.fromkeys(node.args, spec), output_qspec=spec, _annotated=True
            )
        return model

    def validate(self, model: GraphModule) -> None:
        pass


def of_numbers(_quantization: object) -> Any:
    return OfNumbers()


def xnnpack(**config: bool) -> Any:
    """XNNPACK's, everywhere."""
    made = executorch("backends.xnnpack.quantizer.xnnpack_quantizer", "the test")
    return made.XNNPACKQuantizer().set_global(made.get_symmetric_quantization_config(**config))


def linear_alone(_quantization: object) -> Any:
    """XNNPACK's, for linear layers."""
    made = executorch("backends.xnnpack.quantizer.xnnpack_quantizer", "the test")
    config = made.get_symmetric_quantization_config(is_per_channel=False)
    return made.XNNPACKQuantizer().set_module_type(torch.nn.Linear, config)
