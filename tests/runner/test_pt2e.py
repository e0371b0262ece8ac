"""The PT2E flow: torchao's own functions give the same bits; what it refuses, and what its graphs hold."""

import copy
import io
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch._inductor.exc import InvalidCxxCompiler

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.measurement import GRAPH, CellResult
from noisefloor.contract.scheme import ActivationDtype, Edge, Mode, Quantization, Variant
from noisefloor_workers.flows import (
    Calibrated,
    CalibrationError,
    Unsupported,
    flow_named,
)
from noisefloor_workers.flows.pt2e import flow as flow_module
from noisefloor_workers.flows.pt2e import lowering
from noisefloor_workers.flows.pt2e.flow import Pt2e
from noisefloor_workers.flows.pt2e.graph import is_dequantize, is_quantize
from noisefloor_workers.flows.pt2e.library import embedding, pt2e, quantize_pt2e, quantizers, x86
from noisefloor_workers.flows.pt2e.lowering import Compiled, Program
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.zoo import ZOO

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch's own, on copies of graphs
    pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning"),  # where another flow did that
]

INDUCTOR, XNNPACK = Lane(engine="inductor"), Lane(engine="xnnpack")
MODES: tuple[Mode, ...] = ("static", "dynamic", "qat")
needs_executorch = pytest.mark.skipif(
    find_spec("executorch") is None, reason="needs the extra executorch, which is not installed"
)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.3


ROWS, EVALUATION = drawn(32, 16), drawn(5, 16, seed=2)
IMAGES = drawn(16, 3, 8, 8, seed=3)
IDS = torch.arange(40).reshape(8, 5) % 10


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    yield
    torch.set_num_threads(threads)


def model(name: str, **args: Any) -> nn.Module:
    from subjects_under_test import graphs

    made: nn.Module = getattr(graphs, name)(**args)
    return made.eval()


def quantization(mode: Mode = "static", **fields: Any) -> Quantization:
    return Quantization(**{"flow": "pt2e", "mode": mode, "granularity": "per_channel", **fields})


def given(*tensors: torch.Tensor, **named: torch.Tensor) -> ModelInputs:
    return ModelInputs(args=tensors, kwargs=named)


def calibrated(
    subject: nn.Module, how: Quantization, *data: torch.Tensor, **named: torch.Tensor
) -> Calibrated:
    flow = Pt2e()
    assert flow.supports(how, []) is None
    return flow.calibrate(subject, how, given(*data, **named))


def variant(of: Calibrated, which: Variant = Variant.REFERENCE, lane: Lane = INDUCTOR) -> Any:
    return Pt2e().variant(of, which, lane)


def sqnr(ref: object, actual: object) -> Any:
    return compare(edge="reference->true", ref=ref, actual=actual)[0].figure


def prepared_by_torchao(subject: nn.Module, mode: Mode, quantizer: Any, data: torch.Tensor) -> Any:
    """What a user of torchao would write."""
    qat = mode == "qat"
    subject = copy.deepcopy(subject).train(qat)
    graph = torch.export.export(subject, (data,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    if not qat:
        prepared = quantize_pt2e.prepare_pt2e(graph, quantizer)
        prepared(data)
        return prepared
    prepared = quantize_pt2e.prepare_qat_pt2e(graph, quantizer)
    pt2e.move_exported_model_to_eval(prepared)
    prepared.apply(pt2e.disable_fake_quant)(data)
    return prepared.apply(pt2e.enable_fake_quant).apply(pt2e.disable_observer)


def x86_quantizer(mode: Mode, *, reduce_range: bool = True) -> Any:
    config = x86.get_default_x86_inductor_quantization_config(
        is_qat=mode == "qat", is_dynamic=mode == "dynamic", reduce_range=reduce_range
    )
    return x86.X86InductorQuantizer().set_global(config)


def counts(graph: Any) -> tuple[int, int]:
    nodes = graph.graph.nodes
    return sum(map(is_quantize, nodes)), sum(map(is_dequantize, nodes))


@torch.no_grad()
@pytest.mark.parametrize("reduce_range", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_variants_are_torchaos_own_to_the_bit(mode: Mode, *, reduce_range: bool) -> None:
    subject = model("mlp")
    ours = calibrated(subject, quantization(mode, reduce_range=reduce_range), ROWS)
    theirs = prepared_by_torchao(subject, mode, x86_quantizer(mode, reduce_range=reduce_range), ROWS)
    if mode == "qat":
        assert torch.equal(variant(ours, Variant.FAKE)(EVALUATION), theirs(EVALUATION))
    converted = quantize_pt2e.convert_pt2e(theirs)

    assert torch.equal(variant(ours)(EVALUATION), converted(EVALUATION))
    assert counts(variant(ours).graph_module) == counts(converted)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_convolution_with_batch_norm_is_folded_as_torchao_folds_it(mode: Mode) -> None:
    subject, images = ZOO["multiple-ops"]().eval(), drawn(16, 3, 15, 15)
    nn.init.uniform_(subject.bn1.running_var, 0.5, 1.5)
    subject.bn1.eps = 0.25
    theirs = quantize_pt2e.convert_pt2e(prepared_by_torchao(subject, mode, x86_quantizer(mode), images))
    ours = variant(calibrated(subject, quantization(mode), images))

    assert torch.equal(ours(images[:3]), theirs(images[:3]))
    assert not [node for node in ours.graph_module.graph.nodes if "batch_norm" in str(node.target)]


@torch.no_grad()
def test_trained_convolution_with_batch_norm_is_torchaos_own_to_the_bit() -> None:
    subject = model("ConvBn")
    ours = calibrated(subject, quantization("qat"), IMAGES)
    theirs = prepared_by_torchao(subject, "qat", x86_quantizer("qat"), IMAGES)

    assert torch.equal(variant(ours, Variant.FAKE)(IMAGES[:3]), theirs(IMAGES[:3]))


@torch.no_grad()
def test_epsilon_of_batch_norm_is_the_models_own_where_torchaos_patterns_put_theirs() -> None:
    subject = model("ConvBn", epsilon=0.5)
    theirs = prepared_by_torchao(subject, "qat", x86_quantizer("qat"), IMAGES)
    ours = calibrated(subject, quantization("qat"), IMAGES)

    found = [sqnr(subject(IMAGES), fake(IMAGES)).value for fake in (variant(ours, Variant.FAKE), theirs)]
    assert found[0] > found[1] + 3
    assert subject.bn.eps == 0.5


@torch.no_grad()
def test_graph_that_computes_something_else_in_float_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "_with_torchaos_epsilon", copy.deepcopy)
    with pytest.raises(Unsupported, match="its graph gives another output in float: SQNR"):
        calibrated(model("ConvBn", epsilon=0.5), quantization("qat"), IMAGES)


def test_calibration_leaves_the_float_model_as_it_was() -> None:
    subject = model("ConvBn")
    before, state = subject(IMAGES), copy.deepcopy(subject.state_dict())
    calibrated(subject, quantization("qat"), IMAGES)

    assert not any(part.training for part in subject.modules())
    assert torch.equal(subject(IMAGES), before)
    assert all(torch.equal(state[name], value) for name, value in subject.state_dict().items())


# Lowering


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_compiled_kernels_are_those_that_torchao_lowers_to(mode: Mode) -> None:
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    of = calibrated(model("mlp"), quantization(mode), ROWS)
    reference, true = variant(of), variant(of, Variant.TRUE)
    output = true(EVALUATION)
    with flow_module.quiet():
        theirs = lower_pt2e_quantized_to_x86(copy.deepcopy(reference.graph_module), (EVALUATION,))

    assert torch.equal(output, theirs(EVALUATION))
    assert sqnr(reference(EVALUATION), output).value > 100
    assert torch.equal(true(EVALUATION), output)


@torch.no_grad()
def test_layer_on_three_dimensions_is_lowered_which_torchaos_lowering_leaves_in_float() -> None:
    of = calibrated(model("Tokens"), quantization(quantizer="composable"), IDS)
    reference, true = variant(of), variant(of, Variant.TRUE)

    assert sqnr(reference(IDS), true(IDS)).value > 100


@torch.no_grad()
@pytest.mark.parametrize("engine", ["inductor", pytest.param("xnnpack", marks=needs_executorch)])
def test_graph_of_float_kernels_has_no_true(engine: Engine) -> None:
    table = nn.Sequential(nn.Embedding(10, 4)).eval()
    of = calibrated(table, quantization(quantizer="composable"), IDS)
    with pytest.raises(Unsupported, match=f"nothing was lowered: {engine} has no quantized kernel"):
        variant(of, Variant.TRUE, Lane(engine=engine))(IDS)


@torch.no_grad()
def test_activations_that_a_kernel_does_not_take_are_unsupported() -> None:
    of = calibrated(model("ConvBn"), quantization(quantizer="spec"), IMAGES)
    with pytest.raises(Unsupported, match="inductor's kernel for conv takes uint8 activations, and"):
        variant(of, Variant.TRUE)
    of = calibrated(model("mlp"), quantization(quantizer="spec", activation_dtype="int16"), ROWS)
    with pytest.raises(Unsupported, match="kernel for first takes int8 or uint8 activations"):
        variant(of, Variant.TRUE)
    of = calibrated(model("mlp"), quantization(), ROWS)
    with pytest.raises(Unsupported, match="xnnpack's kernel for first takes int8 activations"):
        variant(of, Variant.TRUE, XNNPACK)


def test_inductor_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise InvalidCxxCompiler

    of = calibrated(model("mlp"), quantization(), ROWS)
    monkeypatch.setattr(lowering, "get_cpp_compiler", none)
    with pytest.raises(Unsupported, match=r"needs a C\+\+ compiler"):
        variant(of, Variant.TRUE)


@pytest.mark.skipif(platform.machine() in {"aarch64", "arm64"}, reason="this is Arm")
def test_kernels_for_arm_are_unsupported_elsewhere_and_the_reference_is_not() -> None:
    how = quantization(quantizer="arm_inductor", granularity="per_tensor", reduce_range=False)
    of = calibrated(model("mlp"), how, ROWS)

    assert sqnr(model("mlp")(EVALUATION), variant(of)(EVALUATION)).kind is FigureKind.FINITE
    with pytest.raises(Unsupported, match="has kernels on Arm only"):
        variant(of, Variant.TRUE)


def test_xnnpack_without_executorch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "executorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "executorch", None)
    of = calibrated(model("mlp"), quantization(quantizer="spec"), ROWS)
    with pytest.raises(Unsupported, match=r"install noisefloor\[executorch\]"):
        variant(of, Variant.TRUE, XNNPACK)
    with pytest.raises(Unsupported, match=r"install noisefloor\[executorch\]"):
        calibrated(model("mlp"), quantization(quantizer="xnnpack", reduce_range=False), ROWS)


def test_xnnpack_is_under_no_cap() -> None:
    of = calibrated(model("mlp"), quantization(quantizer="spec"), ROWS)
    with pytest.raises(Unsupported, match="isa native only"):
        variant(of, Variant.TRUE, Lane(engine="xnnpack", isa="avx2"))


@needs_executorch
@torch.no_grad()
def test_xnnpack_computes_what_its_reference_means() -> None:
    of = calibrated(model("mlp"), quantization(quantizer="xnnpack", reduce_range=False), ROWS)
    true = variant(of, Variant.TRUE, XNNPACK)

    assert torch.equal(true(EVALUATION), variant(of)(EVALUATION))
    assert Pt2e().output_step(true, given(EVALUATION)) == Pt2e().output_step(variant(of), given(EVALUATION))


# Exporting


@torch.no_grad()
def test_inputs_by_name_and_structured_outputs_and_any_batch() -> None:
    subject, scale = model("Keywords"), drawn(32, 1)
    of = calibrated(subject, quantization(), ROWS, scale=scale)
    reference, true = variant(of), variant(of, Variant.TRUE)
    for batch in (1, 7):
        part = given(ROWS[:batch], scale=scale[:batch])
        assert sqnr(part.fed_to(subject), part.fed_to(reference)).value > 30
    assert sqnr(part.fed_to(reference), part.fed_to(true)).value > 100


def test_calibration_with_one_sample_does_not_fix_the_batch() -> None:
    assert len(variant(calibrated(model("mlp"), quantization(), ROWS[:1]))(EVALUATION)) == len(EVALUATION)


def test_graph_of_one_batch_is_unsupported_for_another() -> None:
    reference = variant(calibrated(model("Looping"), quantization(), ROWS))

    assert reference(ROWS).shape == (32, 8)
    with pytest.raises(Unsupported, match="specialised this model to the calibration's batch of 32"):
        reference(EVALUATION)


def test_model_that_cannot_be_exported_is_unsupported() -> None:
    with pytest.raises(Unsupported) as caught:
        calibrated(model("Branching"), quantization(), ROWS)

    assert caught.value.reason.startswith("torch.export cannot export this model: GuardOnDataDependent")
    assert len(caught.value.reason) < 400


def test_model_that_the_quantizer_stumbles_over_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="x86_inductor cannot annotate this model: ValueError: Input"):
        calibrated(ZOO["multiple-ops-no-avgpool"]().eval(), quantization(), drawn(16, 3, 15, 15))


def test_model_without_what_is_quantized_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="pt2e static finds nothing to quantize for x86_inductor"):
        calibrated(nn.Sequential(nn.Sigmoid()).eval(), quantization(), ROWS)


# Quantizers


@torch.no_grad()
def test_embedding_and_composable_are_torchaos_own_to_the_bit() -> None:
    subject = model("Tokens")
    only = quantization("weight_only", quantizer="embedding")
    theirs = prepared_by_torchao(subject, "static", embedding.EmbeddingQuantizer(), IDS)
    reference = variant(calibrated(subject, only, IDS))
    assert torch.equal(reference(IDS), quantize_pt2e.convert_pt2e(theirs)(IDS))
    assert counts(reference.graph_module) == (0, 1)

    both = quantizers.ComposableQuantizer([embedding.EmbeddingQuantizer(), x86_quantizer("static")])
    theirs = prepared_by_torchao(subject, "static", both, IDS)
    reference = variant(calibrated(subject, quantization(quantizer="composable"), IDS))
    assert torch.equal(reference(IDS), quantize_pt2e.convert_pt2e(theirs)(IDS))


def quantized_dtypes(graph: Any) -> Counter[torch.dtype]:
    return Counter(a for node in graph.graph.nodes if is_quantize(node) for a in node.args if a in DTYPES)


DTYPES = {torch.int8, torch.uint8, torch.int16, torch.float8_e5m2, torch.float8_e4m3fn}


@torch.no_grad()
@pytest.mark.parametrize("dtype", get_args(ActivationDtype))
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
def test_spec_quantizes_activations_to_every_dtype(dtype: ActivationDtype, granularity: str) -> None:
    reduce_range = not dtype.startswith("float8")
    how = quantization(
        quantizer="spec", activation_dtype=dtype, granularity=granularity, reduce_range=reduce_range
    )
    subject = model("ConvBn")
    graph = variant(calibrated(subject, how, IMAGES)).graph_module

    assert quantized_dtypes(graph) == {getattr(torch, dtype): 4}
    weights = [node for node in graph.graph.nodes if "dequantize_per_channel" in str(node.target)]
    biases = 0 if dtype.startswith("float8") else 2
    assert len(weights) == (2 + biases if granularity == "per_channel" else 0)
    if dtype == "int16":
        assert sqnr(subject(IMAGES), graph(IMAGES)).value > 40


@torch.no_grad()
def test_spec_shares_fixes_and_derives() -> None:
    of = calibrated(model("Shapes"), quantization(quantizer="spec", reduce_range=False), IMAGES)
    nodes = list(variant(of).graph_module.graph.nodes)
    step = {node.args[0].name: node.args[1:3] for node in nodes if is_quantize(node)}
    assert (step["sigmoid"], step["tanh"], step["softmax"]) == (
        (1 / 256, -128),
        (2 / 256, 0),
        (1 / 256, -128),
    )
    assert step["cat"] == step["max_pool2d"] == step["flatten"]

    graph = variant(of).graph_module
    (linear,) = [node for node in nodes if node.target is torch.ops.aten.linear.default]
    activation, weight, bias = linear.args
    scales = [graph.get_buffer(str(node.args[1].target)) for node in (weight, bias)]
    torch.testing.assert_close(scales[1], scales[0] * activation.args[1], rtol=1e-6, atol=0)
    assert bias.args[-1] is torch.int32


@torch.no_grad()
def test_spec_uses_half_the_range_where_it_is_reduced() -> None:
    wide, narrow = (
        variant(calibrated(model("mlp"), quantization(quantizer="spec", reduce_range=reduced), ROWS))
        for reduced in (False, True)
    )
    bounds = [
        {node.args[3:5] for node in found.graph_module.graph.nodes if is_quantize(node)}
        for found in (wide, narrow)
    ]
    assert bounds == [{(-128, 127)}, {(-64, 63)}]


@torch.no_grad()
def test_spec_trains_convolutions_with_batch_norm() -> None:
    subject = model("ConvBn")
    of = calibrated(subject, quantization("qat", quantizer="spec", reduce_range=False), IMAGES)

    assert sqnr(subject(IMAGES[:3]), variant(of, Variant.FAKE)(IMAGES[:3])).value > 30


@torch.no_grad()
@pytest.mark.parametrize(
    ("how", "layer", "name"),
    [
        (quantization(), "last", "mlp"),
        (quantization("dynamic"), "first", "mlp"),
        (quantization(quantizer="spec"), "last", "mlp"),
        (quantization(quantizer="arm_inductor", granularity="per_tensor", reduce_range=False), "last", "mlp"),
        (quantization(quantizer="composable"), "table", "Tokens"),
        (quantization(quantizer="composable"), "fc", "Tokens"),
        pytest.param(
            quantization(quantizer="xnnpack", reduce_range=False), "first", "mlp", marks=needs_executorch
        ),
    ],
)
def test_layer_that_stays_float_keeps_its_weight(how: Quantization, layer: str, name: str) -> None:
    data = IDS if name == "Tokens" else ROWS
    everywhere = calibrated(model(name), how, data)
    kept = calibrated(model(name), how.replace(float_layers=(layer,)), data)

    assert layer in Pt2e().keepable(everywhere)
    assert set(Pt2e().keepable(everywhere)) - set(Pt2e().keepable(kept)) == {layer}
    assert metrics(everywhere)["coverage"] == 1
    assert metrics(kept)["coverage"] == 0.5


def test_unknown_layer_is_unsupported_with_the_nearest() -> None:
    with pytest.raises(Unsupported, match=r"float_layers names lost, .* did you mean last"):
        calibrated(model("mlp"), quantization(float_layers=("lost",)), ROWS)


PLUGIN = """
from noisefloor_workers.flows.pt2e.library import quantizers, x86


class Stubborn(quantizers.Quantizer):
    def annotate(self, model):
        config = x86.get_default_x86_inductor_quantization_config(reduce_range=True)
        return x86.X86InductorQuantizer().set_global(config).annotate(model)

    def validate(self, model):
        pass


def stubborn(quantization):
    assert quantization.quantizer == "acme.stubborn"
    return Stubborn()
"""


@torch.no_grad()
def test_quantizer_of_a_plugin_is_called_with_the_quantization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_quantizer.py").write_text(PLUGIN)
    installed = tmp_path / "acme-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    points = "[noisefloor.quantizers]\nacme.stubborn = acme_quantizer:stubborn\n"
    (installed / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    how = quantization(quantizer="acme.stubborn")

    subject = model("mlp")
    found, own = (variant(calibrated(subject, each, ROWS))(EVALUATION) for each in (how, quantization()))
    assert torch.equal(found, own)
    # it knows no float layers, which is found out
    with pytest.raises(Unsupported, match=r"quantizer acme\.stubborn cannot keep the layer last in float"):
        calibrated(model("mlp"), how.replace(float_layers=("last",)), ROWS)


SAID: list[tuple[Quantization, list[Edge], str]] = [
    (quantization("activation_only"), [], "pt2e has no mode activation_only; it has: static, dynamic, qat"),
    (quantization(), ["fake->true"], "pt2e static has no variant fake"),
    (quantization("weight_only", quantizer="spec"), ["float32->true"], "weight_only has no variant true"),
    (quantization("weight_only"), [], "x86_inductor has no mode weight_only; it has: static, dynamic, qat"),
    (quantization(granularity="per_tensor"), [], "granularity per_channel is the only one"),
    (quantization(weight_dtype="int4"), [], "no use for weight_dtype int4"),
    (quantization(activation_dtype="int8"), [], "x86_inductor static has no activation_dtype int8"),
    (quantization("qat", quantizer="composable"), [], "composable has no mode qat; it has: static, dynamic"),
    (
        quantization(quantizer="arm_inductor", granularity="per_tensor"),
        [],
        "reduce_range false is the only one",
    ),
    (quantization(quantizer="xnnpack"), [], "reduce_range false is the only one"),
    (
        quantization("dynamic", quantizer="spec", activation_dtype="int16"),
        [],
        "spec dynamic has no activation_dtype int16; it has: int8, uint8",
    ),
    (quantization(quantizer="spec", activation_dtype="float8_e5m2"), [], "reduce_range false is the only"),
    (
        quantization(quantizer="acme.none"),
        [],
        "quantizer acme.none is not part of this worker; it has: x86_inductor",
    ),
]


@pytest.mark.parametrize(("how", "edges", "reason"), SAID)
def test_what_is_not_offered_is_refused_with_what_is(
    how: Quantization, edges: list[Edge], reason: str
) -> None:
    said = flow_named("pt2e").supports(how, edges)

    assert said is not None
    assert reason in said


@pytest.mark.parametrize("which", [Variant.FLOAT64, Variant.FLOAT32, Variant.FAKE])
def test_variant_that_the_mode_lacks_is_unsupported(which: Variant) -> None:
    of = calibrated(model("mlp"), quantization(), ROWS)
    with pytest.raises(Unsupported, match="pt2e static derives: reference, true; not"):
        variant(of, which)


# Soundness


@pytest.mark.parametrize("mode", ["static", "qat"])
@pytest.mark.parametrize(
    ("name", "weight", "data", "layer", "reason"),
    [
        ("Empty", 1.0, ROWS, "last", "saw no data"),
        ("mlp", float("nan"), ROWS, "first", "1 of 512 values of its weight are not finite"),
        ("mlp", 3e38, ROWS.abs() * 3e38, "act", "saw NaN or infinity"),
        ("mlp", 1.0, ROWS * float("nan"), "input", "saw NaN or infinity"),
    ],
)
def test_unsound_observer_is_an_error_with_the_layers_name(
    *, mode: Mode, name: str, weight: float, data: torch.Tensor, layer: str, reason: str
) -> None:
    subject = model(name)
    with torch.no_grad():
        subject.first.weight[0, 0] = weight
    with pytest.raises(CalibrationError, match=reason) as caught:
        calibrated(subject, quantization(mode), data)

    assert caught.value.layer == layer


def test_observer_without_a_finite_scale_is_an_error_with_the_layers_name() -> None:
    data = ROWS.clone()
    data[0, :2] = torch.tensor([3e38, -3e38])
    with torch.no_grad():
        subject = model("mlp")
        subject.first.weight.zero_()
    with pytest.raises(CalibrationError, match="no finite positive scale") as caught:
        calibrated(subject, quantization(quantizer="spec", reduce_range=False), data)

    assert caught.value.layer == "input"


# Facts


def metrics(of: Calibrated) -> dict[str, float | None]:
    facts = Pt2e().facts(of)
    assert {fact.place for fact in facts} == {GRAPH}
    assert {fact.edge for fact in facts} == {"float32->reference"}
    return {fact.metric: fact.figure.value for fact in facts}


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_facts_are_what_torchaos_own_graphs_hold(mode: Mode) -> None:
    subject = model("mlp")
    of = calibrated(subject, quantization(mode), ROWS)
    found = metrics(of)
    for fold, suffix in ((False, "_unfolded"), (True, "")):
        theirs = quantize_pt2e.convert_pt2e(
            prepared_by_torchao(subject, mode, x86_quantizer(mode), ROWS), fold_quantize=fold
        )
        assert counts(theirs) == (found[f"quantize_nodes{suffix}"], found[f"dequantize_nodes{suffix}"])

    assert found["weights_folded"] == 2
    assert found["coverage"] == 1
    assert found["training_ops"] == 0
    assert (found["prepare_s"] or 0) > 0
    assert (found["convert_s"] or 0) > 0
    saved = next(fact for fact in Pt2e().facts(of) if fact.metric == "save_load_db")
    assert saved.figure.kind is FigureKind.EXACT


@torch.no_grad()
def test_constants_that_are_not_quantized_are_not_folded() -> None:
    reference = variant(calibrated(model("Constant"), quantization(), drawn(4, 2)))

    assert metrics(calibrated(model("Constant"), quantization(), drawn(4, 2)))["weights_folded"] == 1
    assert torch.ops.aten.t.default in [node.target for node in reference.graph_module.graph.nodes]


def test_operations_left_in_training_are_counted() -> None:
    graph = torch.export.export(model("ConvBn").train(), (IMAGES,)).module()

    assert flow_module.facts.training_ops(graph) == 2
    pt2e.move_exported_model_to_eval(graph)
    assert flow_module.facts.training_ops(graph) == 0


@torch.no_grad()
def test_saved_program_gives_the_same_output_when_it_is_loaded() -> None:
    reference = variant(calibrated(model("mlp"), quantization(), ROWS)).graph_module
    file = io.BytesIO()
    torch.export.save(torch.export.export(reference, (EVALUATION,)), file)
    file.seek(0)

    assert torch.equal(torch.export.load(file).module()(EVALUATION), reference(EVALUATION))


def test_quantized_graph_is_in_no_mode_of_its_own() -> None:
    graph = variant(calibrated(model("mlp"), quantization(), ROWS)).graph_module
    with pytest.raises(NotImplementedError):
        graph.train()


@torch.no_grad()
def test_layers_are_the_models_own_in_float_and_reference() -> None:
    of = calibrated(model("mlp"), quantization(), ROWS)
    flow, names = Pt2e(), []
    for which, module in ((Variant.FLOAT32, None), (Variant.REFERENCE, variant(of))):
        tapped = flow.layers(of, which, module)
        seen: list[str] = []
        output = tapped.run(given(EVALUATION), lambda call, seen=seen: seen.append(call.layer))
        names.append(seen)
        expected = variant(of) if module is not None else model_of(of)
        assert torch.equal(output, expected(EVALUATION))
    assert names == [["input input_1", "first", "act", "last"]] * 2
    with pytest.raises(Unsupported, match="compiled as a whole"):
        flow.layers(of, Variant.TRUE)


def model_of(of: Calibrated) -> nn.Module:
    assert isinstance(of, flow_module.Prepared)
    return of.module


@torch.no_grad()
def test_output_step_is_that_of_the_last_quantization() -> None:
    flow = Pt2e()
    quantized = variant(calibrated(model("mlp"), quantization(quantizer="spec"), ROWS))
    (last,) = quantized.graph_module.graph.output_node().all_input_nodes
    floating = variant(calibrated(model("mlp"), quantization(), ROWS))

    assert flow.output_step(quantized, given(EVALUATION)) == last.args[1]
    assert flow.output_step(floating, given(EVALUATION)) is None
    assert isinstance(floating, Program)
    assert not isinstance(floating, Compiled)


# End to end


def walked(engine: Engine, shard: Callable[..., ShardTask], edges: list[Edge]) -> CellResult:
    scheme = {"flow": "pt2e", "mode": "static", "granularity": "per_channel", "edges": edges}
    data = {"calibration": {"shape": [32, 16]}, "evaluation": {"shape": [8, 16]}}
    cells = [{"cell": engine, "scheme": scheme, "lane": {"engine": engine}}]
    subject = {"import": "subjects_under_test.graphs:mlp", "data": data}
    task = shard("stacks:linear", cells=cells, subject=subject)
    (ended,) = [event.result for event in walk(task) if isinstance(event, CellFinished)]
    return ended


def test_cell_is_measured_from_end_to_end(shard: Callable[..., ShardTask]) -> None:
    ended = walked("inductor", shard, ["float32->reference", "reference->true", "float32->true"])

    assert ended.status is CellStatus.DONE, ended.traceback
    assert ended.executed_engine == "inductor"
    figures = {found.edge: found.figure for found in ended.measurements if found.place == "output"}
    assert figures["reference->true"].value is None or figures["reference->true"].value > 100
    assert figures["float32->true"].value == pytest.approx(figures["float32->reference"].value, abs=1e-3)
    (lowered,) = [found for found in ended.measurements if found.metric == "lowered"]
    assert (lowered.place, lowered.edge, lowered.figure.value) == (GRAPH, "reference->true", 1)


def test_edge_without_true_runs_on_either_engine(shard: Callable[..., ShardTask]) -> None:
    for engine in get_args(Engine):
        ended = walked(engine, shard, ["float32->reference"])
        expected = CellStatus.DONE if engine in {"inductor", "xnnpack"} else CellStatus.UNSUPPORTED
        assert ended.status is expected, ended.reason


def test_step_of_trained_weights_differs_from_that_of_converted_ones() -> None:
    """The fused kernel and the conversion disagree on a symmetric range: `fake->reference` shows it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    inputs = given(torch.rand(64, 16))
    with torch.no_grad():
        calibrated = Pt2e().calibrate(model, quantization(mode="qat"), inputs)
        inputs.fed_to(Pt2e().variant(calibrated, Variant.FAKE, INDUCTOR))
    weights: Any = calibrated.module.get_submodule("activation_post_process_1")
    observer = weights.activation_post_process
    converted, _zero_point = weights.calculate_qparams()

    assert torch.equal(weights.scale, torch.maximum(-observer.min_val / 128, observer.max_val / 127))
    assert torch.allclose(converted, torch.maximum(-observer.min_val, observer.max_val) * 2 / 255)
    assert not torch.equal(weights.scale, converted)
