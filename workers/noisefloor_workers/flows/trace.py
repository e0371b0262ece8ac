"""A symbolic trace that is the model's own computation, or a typed refusal."""

import copy

import torch
from torch import nn
from torch.ao.quantization.fx.tracer import QuantizationTracer
from torch.fx import GraphModule

from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.numerics.digest import output_digest
from noisefloor_workers.numerics.leaves import leaves
from noisefloor_workers.subjects.inputs import ModelInputs

REASON_CHARS = 300
FORWARD_SEED = 0


def faithful_trace(model: nn.Module, data: ModelInputs, *, training: bool) -> GraphModule:
    """The layers in use; refuses a model that cannot be traced, or that the trace does not compute.

    A trace keeps one path, and what the model drew or decided in the mode that `prepare` traces in (qat: in
    training). Where that gives another output on the calibration data, its figure would be another model's.
    """
    twin = copy.deepcopy(model)
    expected = _output_digest(twin, data)
    try:
        trace = GraphModule(twin, QuantizationTracer([], []).trace(twin.train(training)))
    except Exception as error:
        # the float model runs: what it raises under the tracer is the tracer's
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unsupported(f"torch.fx cannot trace this model: {said[:REASON_CHARS]}") from error
    if _output_digest(trace.eval(), data) != expected:
        raise Unsupported("torch.fx traces this model, but the trace gives another output than the model")
    return trace


def _output_digest(module: nn.Module, data: ModelInputs) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FORWARD_SEED)
        return output_digest(leaves(data.fed_to(module)))
