"""What is known of a converted graph beside its output."""

import io
import time
from typing import Self

import torch
from torch.fx import GraphModule

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import GRAPH, Measurement, Metric
from noisefloor.contract.scheme import Edge
from noisefloor_workers.flows.pt2e.graph import aten, is_dequantize, is_quantize, is_quantized, quantizable
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.subjects.inputs import ModelInputs

EDGE: Edge = "float32->reference"
BATCH_NORM_TRAINING = 5
DROPOUT_TRAINING = 2
NOTE_CHARS = 300


def counted(converted: GraphModule, unfolded: GraphModule) -> dict[Metric, float]:
    """What is counted in a converted graph, and in the same before its constants were folded."""
    before, after = _quantize_nodes(unfolded), _quantize_nodes(converted)
    layers = quantizable(converted.graph)
    found: dict[Metric, float] = {
        "quantize_nodes_unfolded": before,
        "dequantize_nodes_unfolded": _dequantize_nodes(unfolded),
        "quantize_nodes": after,
        "dequantize_nodes": _dequantize_nodes(converted),
        "weights_folded": before - after,
    }
    if layers:
        found["coverage"] = sum(is_quantized(node) for node in layers) / len(layers)
    return found


def training_ops(graph: GraphModule) -> int:
    """Batch norms and dropouts that still behave as in training."""
    flags = {aten.batch_norm.default: BATCH_NORM_TRAINING}
    flags |= dict.fromkeys((aten.dropout.default, aten.dropout_.default), DROPOUT_TRAINING)
    nodes = (node for node in graph.graph.nodes if node.target in flags)
    return sum(bool(node.args[flags[node.target]]) for node in nodes)


def save_load(converted: GraphModule, inputs: ModelInputs) -> Measurement:
    """SQNR of the output of the program that is loaded again, against that of the one that was saved."""
    started = converted(*inputs.args, **inputs.kwargs)
    saved = io.BytesIO()
    try:
        torch.export.save(torch.export.export(converted, inputs.args, dict(inputs.kwargs)), saved)
        saved.seek(0)
        loaded = torch.export.load(saved).module()(*inputs.args, **inputs.kwargs)
    except Exception as error:  # noqa: BLE001 - whatever the exporter says is the fact
        said = " ".join(f"cannot be saved: {type(error).__name__}: {error}".split())[:NOTE_CHARS]
        return _fact("save_load_db", Figure.of(FigureKind.MISMATCH), note=said)
    pooled = compare(edge=EDGE, ref=started, actual=loaded)[0]
    return _fact("save_load_db", pooled.figure, note=pooled.note)


def measurements(found: dict[Metric, float]) -> tuple[Measurement, ...]:
    return tuple(_fact(metric, Figure.finite(value)) for metric, value in found.items())


class Stopwatch:
    """Seconds spent inside `with`."""

    def __enter__(self) -> Self:
        self._started_s = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed_s = time.perf_counter() - self._started_s


def lowered(converted: GraphModule, kernels: int) -> tuple[Measurement, ...]:
    """The share of a graph's quantized operations that this many quantized kernels compute."""
    quantized = sum(map(is_quantized, quantizable(converted.graph)))
    if not quantized:
        return ()
    return (_fact("lowered", Figure.finite(kernels / quantized), edge="reference->true"),)


def _fact(metric: Metric, figure: Figure, note: str | None = None, edge: Edge = EDGE) -> Measurement:
    return Measurement(edge=edge, place=GRAPH, metric=metric, figure=figure, note=note)


def _quantize_nodes(graph: GraphModule) -> int:
    return sum(is_quantize(node) for node in graph.graph.nodes)


def _dequantize_nodes(graph: GraphModule) -> int:
    return sum(is_dequantize(node) for node in graph.graph.nodes)
