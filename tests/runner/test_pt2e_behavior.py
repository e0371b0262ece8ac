"""What PT2E is known to do, through our flow: each against the graph or the bits that torchao gives."""

import copy
import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule
from torch.testing._internal.common_quantization import TestHelperModules as Models

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.scheme import Mode, Quantization, Variant
from noisefloor_workers.flows import Calibrated, Unsupported
from noisefloor_workers.flows.pt2e import facts
from noisefloor_workers.flows.pt2e.flow import Pt2e
from noisefloor_workers.flows.pt2e.graph import is_dequantize, is_quantize
from noisefloor_workers.flows.pt2e.library import pt2e, quantize_pt2e, quiet
from noisefloor_workers.flows.pt2e.spec import Spec
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.inputs import ModelInputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch's own, on copies of graphs
    pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning"),  # where another flow did that
]
needs_executorch = pytest.mark.skipif(
    find_spec("executorch") is None, reason="needs the extra executorch, which is not installed"
)
MODES: tuple[Mode, ...] = ("static", "dynamic", "qat")
POINTS = ("doubling", "multiplying", "composed", "contradicting", "of_numbers", "linear_alone")
ADD, MUL, DIV = "aten.add.Tensor", "aten.mul.Tensor", "aten.div.Tensor"


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) - 0.3


ROWS, IMAGES = drawn(32, 16), drawn(8, 3, 8, 8)


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of quantizers, installed as a package that brings them under `acme`."""
    from subjects_under_test import plugged

    installed = tmp_path / "acme-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    points = "\n".join(f"acme.{name} = subjects_under_test.plugged:{name}" for name in POINTS)
    (installed / "entry_points.txt").write_text(f"[noisefloor.quantizers]\n{points}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return plugged


def model(name: str) -> nn.Module:
    from subjects_under_test import graphs

    made: nn.Module = getattr(graphs, name)()
    return made.eval()


def quantization(mode: Mode = "static", **fields: Any) -> Quantization:
    return Quantization(**{"flow": "pt2e", "mode": mode, "granularity": "per_channel", **fields})


def calibrated(subject: nn.Module, how: Quantization, *data: torch.Tensor) -> Calibrated:
    return Pt2e().calibrate(subject, how, ModelInputs(args=data))


def reference(of: Calibrated) -> Any:
    return Pt2e().variant(of, Variant.REFERENCE, Lane(engine="inductor")).graph_module


def prepared(subject: nn.Module, quantizer: Any, *data: torch.Tensor, qat: bool = False) -> Any:
    """What a user of torchao would write; as in our flow, nothing is trained."""
    prepare = quantize_pt2e.prepare_qat_pt2e if qat else quantize_pt2e.prepare_pt2e
    rows = {0: torch.export.Dim.AUTO}
    twin = copy.deepcopy(subject)
    graph = torch.export.export(twin.train() if qat else twin, data, dynamic_shapes=(rows,)).module()
    found = prepare(graph, quantizer)
    if not qat:
        found(*data)
        return found
    pt2e.move_exported_model_to_eval(found)
    found.apply(pt2e.disable_fake_quant)(*data)
    return found.apply(pt2e.enable_fake_quant).apply(pt2e.disable_observer)


def theirs(subject: nn.Module, quantizer: Any, *data: torch.Tensor, qat: bool = False) -> Any:
    return quantize_pt2e.convert_pt2e(prepared(subject, quantizer, *data, qat=qat))


def calls(graph: GraphModule) -> Counter[str]:
    return Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_function")


def q_and_dq(graph: GraphModule) -> tuple[int, int]:
    return sum(map(is_quantize, graph.graph.nodes)), sum(map(is_dequantize, graph.graph.nodes))


def same(one: Any, other: Any, *data: torch.Tensor) -> bool:
    """The same calls, and the same bits of every output."""
    outputs = (torch.utils._pytree.tree_leaves(graph(*data)) for graph in (one, other))
    equal = (torch.equal(*pair) for pair in zip(*outputs, strict=True))
    return calls(one) == calls(other) and all(equal)


def walked(subject: str, **scheme: Any) -> CellResult:
    of: dict[str, Any] = {"flow": "pt2e", "mode": "static", "granularity": "per_channel", **scheme}
    shape = [8, 3, 8, 8] if subject == "exported" else [32, 16]
    data = {"calibration": {"shape": shape}, "evaluation": {"shape": shape}}
    task = ShardTask.model_validate(
        {
            "subject": {"import": f"subjects_under_test.graphs:{subject}", "data": data},
            "cells": [{"cell": "a", "scheme": of, "lane": {"engine": "inductor"}}],
            "import_allow": ["subjects_under_test"],
        }
    )
    (ended,) = [event.result for event in walk(task) if isinstance(event, CellFinished)]
    return ended


# What quantizers may do to a graph


@pytest.mark.parametrize(
    ("name", "subject", "said"),
    [
        ("contradicting", "mlp", "Quantizer Contradicting has changed annotations on node linear"),
        ("of_numbers", "Affine", "Expected input_edge to have type Tuple[Node, Node], but got: (3, add_1)"),
    ],
)
def test_what_torchao_says_of_a_quantizer_that_is_wrong_is_the_cells_reason(
    plugged: Any, name: str, subject: str, said: str
) -> None:
    with pytest.raises(Exception, match=re.escape(said)) as caught:
        prepared(model(subject), getattr(plugged, name)(None), ROWS)
    ended = walked(subject, quantizer=f"acme.{name}", edge="float32->reference")

    assert ended.status is CellStatus.FAILED
    assert ended.reason == f"{type(caught.value).__name__}: {said}"


@torch.no_grad()
@pytest.mark.parametrize("mode", ["static", "qat"])
@pytest.mark.parametrize(
    ("name", "left"), [("doubling", {MUL: 1, DIV: 1, ADD: 1}), ("composed", {MUL: 2, ADD: 1})]
)
def test_graph_is_transformed_before_it_is_annotated(
    plugged: Any, mode: Mode, name: str, left: dict[str, int]
) -> None:
    subject, quantizer = model("Affine"), getattr(plugged, name)(None)
    found = reference(calibrated(subject, quantization(mode, quantizer=f"acme.{name}"), ROWS))

    assert {call: n for call, n in calls(found).items() if call in {ADD, MUL, DIV}} == left
    assert same(found, theirs(subject, quantizer, ROWS, qat=mode == "qat"), ROWS)


@torch.no_grad()
def test_transformation_into_another_model_is_unsupported(plugged: Any) -> None:
    subject, quantizer = model("Affine"), plugged.multiplying(None)
    assert calls(prepared(subject, quantizer, ROWS))[MUL] == 2
    with pytest.raises(Unsupported, match="its graph gives another output in float: SQNR"):
        calibrated(subject, quantization(quantizer="acme.multiplying"), ROWS)


# Operations


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_convolution_in_groups_is_quantized_by_channel_as_torchao_does(mode: Mode) -> None:
    subject, images = Models.GroupwiseConv2d().eval(), drawn(8, 4, 10, 10)
    found = reference(calibrated(subject, quantization(mode, quantizer="spec"), images))
    own = Spec(quantization(mode, quantizer="spec"))

    assert same(found, theirs(subject, own, images, qat=mode == "qat"), images)
    assert found.get_buffer("_scale_0").shape == (4,)


TRANSPOSED = [
    pytest.param("spec", (2, 4)),  # with a bias of its own step
    pytest.param("xnnpack", (2, 3), marks=needs_executorch),  # what torch's own test of it counts
]


@torch.no_grad()
@pytest.mark.parametrize(("quantizer", "counts"), TRANSPOSED)
def test_transposed_convolution_takes_its_batch_norm_and_relu_in(
    plugged: Any, quantizer: str, counts: tuple[int, int]
) -> None:
    subject = Models.ConvTWithBNRelu(relu=True, bn=True).eval()
    subject.bn.running_mean.uniform_(-0.1, 0.1)
    subject.bn.running_var.uniform_(0.5, 1.5)
    how = quantization(quantizer=quantizer, granularity="per_tensor", reduce_range=False)
    own = Spec(how) if quantizer == "spec" else plugged.xnnpack(is_per_channel=False)
    found = reference(calibrated(subject, how, IMAGES))

    assert same(found, theirs(subject, own, IMAGES), IMAGES)
    assert q_and_dq(found) == counts
    assert not any("batch_norm" in call for call in calls(found))
    folded = nn.utils.fusion.fuse_conv_bn_eval(subject.convt, subject.bn, transpose=True)
    weight = next(node for node in found.graph.nodes if "conv_transpose2d" in str(node.target)).args[1]
    steps = found.get_buffer(weight.args[0].target) * weight.args[1]
    torch.testing.assert_close(steps, folded.weight, atol=weight.args[1] / 2, rtol=0)


@torch.no_grad()
def test_output_that_several_take_is_quantized_as_torchao_does(plugged: Any) -> None:
    subject = model("Twice")
    found = reference(calibrated(subject, quantization(), IMAGES))

    assert same(found, theirs(subject, plugged.x86_inductor(), IMAGES), IMAGES)


# Graphs that are quantized again


@torch.no_grad()
def test_model_is_quantized_twice_to_the_same_bits() -> None:
    subject = model("ConvBn")
    first, second = (reference(calibrated(subject, quantization(), IMAGES)) for _ in range(2))

    assert same(first, second, IMAGES)


@needs_executorch
@torch.no_grad()
def test_graph_that_was_quantized_is_quantized_again_where_it_was_not(plugged: Any) -> None:
    subject = Models.ConvBnReLU2dAndLinearReLU().eval()
    inner = theirs(subject.conv_bn_relu, plugged.xnnpack(is_per_channel=True), IMAGES)
    subject.conv_bn_relu = pt2e.allow_exported_model_train_eval(inner)
    with quiet():
        found = reference(calibrated(subject, quantization(quantizer="acme.linear_alone"), IMAGES))

    assert same(found, theirs(subject, plugged.linear_alone(None), IMAGES), IMAGES)
    assert q_and_dq(found) == (4, 6)  # as in torch's own test of it
    assert calls(found)["quantized_decomposed.dequantize_per_channel.default"] == 1


# Training and evaluation


@torch.no_grad()
def test_graph_may_be_told_to_train_and_to_evaluate_once_that_is_allowed() -> None:
    of = calibrated(model("Normed"), quantization(), ROWS)
    graph = reference(of)
    for told in (of.module, graph):
        with pytest.raises(NotImplementedError):
            told.eval()
        with pytest.raises(NotImplementedError):
            told.train()
    pt2e.allow_exported_model_train_eval(graph)
    graph.train()
    assert facts.training_ops(graph) == 2
    graph.eval()
    assert facts.training_ops(graph) == 0


def test_exported_graph_that_may_be_told_to_evaluate_is_a_subject() -> None:
    ended = walked("exported", edge="float32->reference")

    assert ended.status is CellStatus.DONE, ended.traceback
    assert next(m for m in ended.measurements if m.metric == "training_ops").figure.value == 0


# Constants


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_folded_constants_keep_the_metadata_that_torchao_keeps(mode: Mode) -> None:
    subject = model("mlp")
    found = reference(calibrated(subject, quantization(mode, quantizer="spec"), ROWS))
    own = theirs(subject, Spec(quantization(mode, quantizer="spec")), ROWS, qat=mode == "qat")

    assert [kept(node) for node in found.graph.nodes] == [kept(node) for node in own.graph.nodes]
    frozen = [node for node in found.graph.nodes if "_frozen_param" in str(node.target)]
    assert frozen
    assert all(node.meta["from_node"] for node in frozen)


def kept(node: Any) -> Any:
    """A node with the names of its metadata, the layers that it lies in, and the nodes that it comes from."""
    stack = [path for path, _kind in node.meta.get("nn_module_stack", {}).values()]
    sources = [(source.name, source.pass_name) for source in node.meta.get("from_node", ())]
    return node.name, sorted(node.meta), stack, sources


# Lowering


def lowered(true: nn.Module) -> float | None:
    (found,) = Pt2e().facts_of_true(true)
    assert (found.metric, found.edge, found.place) == ("lowered", "reference->true", "graph")
    return found.figure.value


@torch.no_grad()
@pytest.mark.parametrize(("mode", "share"), [("static", 1.0), ("dynamic", 0.5)])
def test_share_that_is_lowered_is_that_of_the_kernels_torchao_puts_in_the_graph(
    mode: Mode, share: float
) -> None:
    """A convolution whose input is observed as it comes is quantized, and computed in float32."""
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    of = calibrated(model("ConvBn"), quantization(mode), IMAGES)
    true = Pt2e().variant(of, Variant.TRUE, Lane(engine="inductor"))
    true(IMAGES)
    with quiet():
        own = lower_pt2e_quantized_to_x86(copy.deepcopy(reference(of)), (IMAGES,))
    kernels = sum(n for call, n in calls(own).items() if call.startswith(("onednn.qlinear", "onednn.qconv")))

    assert lowered(true) == share == kernels / 2


@needs_executorch
@torch.no_grad()
def test_product_of_activations_that_xnnpack_leaves_in_float_is_not_counted() -> None:
    of = calibrated(Attending(), quantization(quantizer="xnnpack", reduce_range=False), drawn(4, 6, 16))
    true = Pt2e().variant(of, Variant.TRUE, Lane(engine="xnnpack"))
    true(drawn(4, 6, 16))

    assert lowered(true) == 0.75


class Attending(nn.Module):
    """Three linear layers, and between them a product that is quantized and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key = self.key(x)
        shares = torch.softmax(self.query(x) @ key.transpose(-1, -2), -1)
        out: torch.Tensor = self.out(shares @ key)
        return out
