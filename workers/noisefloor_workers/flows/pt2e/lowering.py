"""From a converted graph to int8 kernels: by inductor's C++ on the processor, or by XNNPACK's runtime.

Lowering needs shapes, so it happens at the first call with them. What was lowered is then looked up in
what was made: a graph of float kernels has no figure.
"""

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch_config
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch._inductor.graph import GraphLowering
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.scheme import Quantization
from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.flows.pt2e.graph import LAYERS, aten, is_dequantize, is_quantize, layer
from noisefloor_workers.flows.pt2e.library import executorch, inductor_config, quiet
from noisefloor_workers.flows.pt2e.quantizers import name_of
from noisefloor_workers.subjects.inputs import ModelInputs

ENGINES: tuple[Engine, ...] = ("inductor", "xnnpack")
KERNEL = re.compile(r"^\s*(?:\w+ = )?torch\.ops\.onednn\.(q(?:linear|conv)\w*)", re.MULTILINE)
ARM = frozenset({"aarch64", "arm64"})
# Other activations are lowered too, to kernels that fail, or, in XNNPACK, read them as if they were int8.
TAKEN: dict[Engine, dict[Any, frozenset[torch.dtype]]] = {
    "inductor": {
        **dict.fromkeys(LAYERS, frozenset({torch.uint8})),
        aten.linear.default: frozenset({torch.int8, torch.uint8}),
    },
    "xnnpack": dict.fromkeys(LAYERS, frozenset({torch.int8})),
}
EDGE_LAYERS = LAYERS | {aten.convolution.default}  # which is what convolutions are for XNNPACK
NEEDED_BY = "engine xnnpack"
OWN: dict[Engine, str] = {"inductor": "x86_inductor", "xnnpack": "xnnpack"}
DELEGATE = "XnnpackBackend"


class Program(nn.Module):
    """A graph as it is. It takes any batch, or says for which one it was exported."""

    def __init__(self, graph: GraphModule, batch: int | None) -> None:
        super().__init__()
        self.graph_module = graph
        self.batch = batch
        self.kernels = 0
        """How many of its operations with a weight run as quantized kernels; known once it has run."""

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        inputs = ModelInputs(args=args, kwargs=kwargs)
        if self.batch not in {None, inputs.batch}:
            raise Unsupported(
                f"torch.export specialised this model to the calibration's batch of {self.batch}: "
                f"evaluation with a batch of {inputs.batch} is another graph"
            )
        return self.computed(inputs)

    def computed(self, inputs: ModelInputs) -> Any:
        return self.graph_module(*inputs.args, **inputs.kwargs)


class Compiled(Program):
    """A graph that inductor compiles, with weights packed for oneDNN's int8 kernels."""

    def __init__(self, reference: Program) -> None:
        super().__init__(reference.graph_module, reference.batch)
        # `torchao.quantization.pt2e.lowering` has the same patterns, but leaves linear layers on three
        # dimensions in float: they are looked for after views became reshapes, which inductor alone does.
        self._compiled = torch.compile(self.graph_module, fullgraph=True, dynamic=False)
        self._are_lowered: set[tuple[torch.Size, ...]] = set()

    def computed(self, inputs: ModelInputs) -> Any:
        written: list[str] = []
        with quiet(), torch.no_grad(), _lowering(written.append):
            output = self._compiled(*inputs.args, **inputs.kwargs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if written or shapes not in self._are_lowered:
            kernels = [name for code in written for name in KERNEL.findall(code)]
            _require_kernels("inductor", kernels)
            self.kernels = len(kernels)
            self._are_lowered.add(shapes)
        return output


class OnXnnpack(Program):
    """A graph that XNNPACK's runtime executes, in this process."""

    def __init__(self, reference: Program, threads: int) -> None:
        super().__init__(reference.graph_module, reference.batch)
        self._threads = threads
        self._methods: dict[tuple[torch.Size, ...], Callable[[list[Any]], Any]] = {}

    def computed(self, inputs: ModelInputs) -> Any:
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._methods:
            with quiet():
                self._methods[shapes], self.kernels = _on_xnnpack(self.graph_module, inputs, self._threads)
        return self._methods[shapes](list(inputs.in_order(self.graph_module)))


def lowered(reference: Program, quantization: Quantization, lane: Lane) -> Program:
    """A converted graph for the lane's engine; Unsupported where this machine lacks what that takes."""
    if name_of(quantization) != "arm_inductor" or lane.engine != "inductor":
        _require_activations(reference.graph_module, lane.engine)
    elif platform.machine() not in ARM:
        raise Unsupported(
            f"quantizer arm_inductor has kernels on Arm only, and this machine is {platform.machine()}; "
            "its reference runs anywhere"
        )
    if lane.engine == "xnnpack":
        if lane.isa != "native":
            raise Unsupported("xnnpack picks its kernels by the processor, under no cap: isa native only")
        executorch("runtime", NEEDED_BY)
        return OnXnnpack(reference, lane.threads)
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise Unsupported(
            "engine inductor needs a C++ compiler, and this worker has none: install g++, or name one in CXX"
        ) from error
    return Compiled(reference)


def _require_activations(graph: GraphModule, engine: Engine) -> None:
    """Refuse activations of a dtype that the engine's kernels do not take."""
    for node in graph.graph.nodes:
        taken = TAKEN[engine].get(node.target)
        given = node.args[0] if taken else None
        if taken and isinstance(given, Node) and is_dequantize(given) and taken.isdisjoint(given.args):
            names = " or ".join(sorted(str(dtype).removeprefix("torch.") for dtype in taken))
            raise Unsupported(
                f"{engine}'s kernel for {layer(node)} takes {names} activations, and these are not: "
                f"take quantizer {OWN[engine]}, or spec with such an activation_dtype"
            )


@contextmanager
def _lowering(written: Callable[[str], object]) -> Iterator[None]:
    """Inductor packs weights, and hands over the code that it writes; no cache answers in its place."""
    former = GraphLowering.save_output_code
    settings = inductor_config.patch(freezing=True, fx_graph_cache=False, compile_threads=1)
    with settings, functorch_config.patch(enable_autograd_cache=False):
        GraphLowering.save_output_code = written  # type: ignore[assignment] # what it returns is not used
        try:
            yield
        finally:
            GraphLowering.save_output_code = former


def _require_kernels(engine: Engine, kernels: list[str]) -> None:
    if not kernels:
        raise Unsupported(
            f"nothing was lowered: {engine} has no quantized kernel for what is quantized in this graph"
        )


def _on_xnnpack(
    graph: GraphModule, inputs: ModelInputs, threads: int
) -> tuple[Callable[[list[Any]], Any], int]:
    """Export for these shapes, hand to XNNPACK what it takes, and load the program; and count its layers."""
    exir, runtime = executorch("exir", NEEDED_BY), executorch("runtime", NEEDED_BY)
    partitioning = executorch("backends.xnnpack.partition.xnnpack_partitioner", NEEDED_BY)
    bindings = executorch("extension.pybindings.portable_lib", NEEDED_BY)
    executorch("kernels.quantized", NEEDED_BY)  # quantize and dequantize, for what XNNPACK leaves
    program = torch.export.export(graph, inputs.args, dict(inputs.kwargs))
    edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioning.XnnpackPartitioner()])
    delegated = _delegated(edge.exported_program().graph_module)
    _require_kernels("xnnpack", [node.name for node in delegated])
    if bindings._threadpool_get_thread_count() != threads:  # noqa: SLF001 - there is no other way
        bindings._unsafe_reset_threadpool(threads)  # noqa: SLF001 - nothing runs in it meanwhile
    buffer = edge.to_executorch().buffer
    loaded = runtime.Runtime.get().load_program(buffer)
    method = loaded.load_method("forward")
    spec = program.call_spec.out_spec

    def run(given: list[Any]) -> Any:
        _alive = buffer, loaded  # the method points into them, and keeps neither
        # the runtime keeps its outputs, and overwrites them at the next call
        outputs = [output.clone() for output in method.execute(given)]
        return pytree.tree_unflatten(outputs, spec)

    return run, sum(getattr(node.target, "_op", None) in EDGE_LAYERS for node in delegated)


def _delegated(graph: GraphModule) -> list[Node]:
    """The operations inside XNNPACK's parts of a graph whose activations are quantized."""
    parts: list[Any] = [part for part in graph.modules() if getattr(part, "backend_id", None) == DELEGATE]
    return [
        node
        for part in parts
        for node in part.original_module.graph_module.graph.nodes
        if node.op == "call_function" and not is_quantize(node) and is_dequantize(node.all_input_nodes[0])
    ]
