"""Layers: what is tapped is what runs, each layer's own error is its own, and a planted fault is found."""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.quantization import FakeQuantizeBase, ObserverBase
from torchao.quantization import Int8Tensor

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.layers import LayerReport
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.scheme import Edge, Quantization, Scheme, Variant
from noisefloor_workers.flows import FLOWS, Calibrated, flow_named
from noisefloor_workers.flows.eager import Eager
from noisefloor_workers.flows.fx import Fx
from noisefloor_workers.flows.minmax_fx import MinMaxFx, _Matched, _replacements
from noisefloor_workers.flows.pt2e.flow import Pt2e
from noisefloor_workers.flows.pt2e.graph import LAYERS as LAYER_OPERATIONS
from noisefloor_workers.flows.pt2e.graph import layer as layer_of
from noisefloor_workers.flows.torchao import TorchAo
from noisefloor_workers.lanes.engine import bound
from noisefloor_workers.numerics.accumulate import sqnr_db
from noisefloor_workers.runner.bench import Bench
from noisefloor_workers.runner.layers import layer_values
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.load import LoadedSubject

LANE = Lane(engine="x86")
ENGINE: dict[str, Engine] = {"torchao": "aten", "pt2e": "inductor"}
CHAINS: dict[tuple[str, str], tuple[Edge, ...]] = {
    ("eager", "static"): ("float32->true",),
    ("eager", "dynamic"): ("float32->true",),
    ("eager", "qat"): ("float32->fake", "fake->true", "float32->true"),
    ("eager", "weight_only"): ("float32->fake",),
    ("eager", "activation_only"): ("float32->fake",),
    ("fx", "static"): ("float32->reference", "reference->true", "float32->true"),
    ("fx", "dynamic"): ("float32->reference", "reference->true", "float32->true"),
    ("minmax_fx", "static"): ("float32->reference", "reference->true", "float32->true"),
    ("torchao", "weight_only"): ("float32->reference", "reference->true", "float32->true"),
    ("torchao", "dynamic"): ("float32->reference", "reference->true", "float32->true"),
    ("pt2e", "static"): ("float32->reference",),
    ("pt2e", "dynamic"): ("float32->reference",),
    ("fx", "qat"): ("float32->fake", "fake->reference", "reference->true", "float32->true"),
}


FLOW_AND_MODE: dict[type[Any], tuple[str, str]] = {
    Eager: ("eager", "qat"),
    Fx: ("fx", "qat"),
    MinMaxFx: ("minmax_fx", "static"),
    TorchAo: ("torchao", "weight_only"),
}
EVERY = ("conv", "first", "second", "last")
# torchao quantizes linear layers alone, and observes nothing
OBSERVERS = [(flow, layer) for flow in (Eager, Fx, MinMaxFx) for layer in EVERY]
KERNELS = OBSERVERS + [(TorchAo, layer) for layer in EVERY[1:]]


class Stack(nn.Module):
    """Three linear layers, an addition between two of them, and a batch norm that is folded."""

    fuse_groups = (("conv", "bn", "relu"),)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.first = nn.Linear(8 * 9, 32)
        self.second = nn.Linear(32, 32)
        self.add = torch.ao.nn.quantized.FloatFunctional()
        self.last = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.relu(self.bn(self.conv(x))).flatten(1))
        found: torch.Tensor = self.last(self.add.add(x, self.second(x)))
        return found


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject() -> LoadedSubject:
    torch.manual_seed(1)
    model = Stack()
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2.0)
    data = [ModelInputs(args=(torch.rand(n, 3, 5, 5),)) for n in (64, 8)]
    return LoadedSubject(model=model.eval(), calibration=data[0], evaluation=data[1], inputs_digest="0" * 32)


def measured(subject: LoadedSubject, flow: str, mode: str, **analysis: Any) -> CellResult:
    granularity = "per_channel" if flow == "pt2e" else "per_tensor"
    scheme = Scheme(flow=flow, mode=mode, granularity=granularity, edges=CHAINS[flow, mode])
    bench = Bench(subject, Analysis(**analysis))
    task = CellTask(cell="0", scheme=scheme, lane=LANE.replace(engine=ENGINE.get(flow, "x86")))
    return bench.measure(task, bench.calibration(scheme.quantization))


def reports(result: CellResult) -> dict[Edge, LayerReport]:
    return {report.edge: report for report in result.layers}


@pytest.mark.parametrize(("flow", "mode"), CHAINS)
def test_every_layer_of_every_edge_is_matched_by_name(subject: LoadedSubject, flow: str, mode: str) -> None:
    found = reports(measured(subject, flow, mode))

    assert tuple(found) == CHAINS[flow, mode]
    for report in found.values():
        assert (report.unavailable, report.unmatched, report.matched_share) == (None, (), 1.0)
        assert not report.taps_change_output
        names = [layer.name for layer in report.layers]
        linear_only = (mode == "dynamic" and flow != "pt2e") or flow == "torchao"
        assert [name for name in names if name in {"conv", "first", "second", "last"}] == (
            ["first", "second", "last"] if linear_only else ["conv", "first", "second", "last"]
        )
        if report.edge == CHAINS[flow, mode][0] and mode != "activation_only":
            assert all(layer.weight is not None for layer in report.layers if layer.kind.startswith("Linear"))


@pytest.mark.parametrize(
    ("flow", "mode"),
    [
        ("eager", "static"),
        ("fx", "static"),
        ("eager", "qat"),
        ("minmax_fx", "static"),
        ("torchao", "dynamic"),
    ],
)
def test_last_layers_cumulative_error_is_the_outputs(subject: LoadedSubject, flow: str, mode: str) -> None:
    result = measured(subject, flow, mode)
    headline = {m.edge: m.figure for m in result.measurements}["float32->true"]
    last = reports(result)["float32->true"].layers[-1]

    assert last.name == "last"
    # the float form has its batch norm folded: float32's own rounding is all that differs
    assert last.cumulative.value == pytest.approx(headline.value, abs=1e-3)


def test_own_error_is_that_of_the_kernel_fed_with_the_references_values(subject: LoadedSubject) -> None:
    quantization = Quantization(flow="eager", mode="static")
    flow = Eager()
    with bound(LANE), torch.no_grad():
        calibrated = flow.calibrate(subject.model, quantization, subject.calibration)
        true: Any = flow.variant(calibrated, Variant.TRUE, LANE)
        values = layer_values(flow.layers(calibrated, Variant.FLOAT32), subject.evaluation)
        # by hand: quantize what the float layer before gave with its scale, and run the one kernel
        first, second = true.module.first, true.module.second
        fed = torch.quantize_per_tensor(values["first"], first.scale, first.zero_point, torch.quint8)
        by_hand = second(fed).dequantize()
    found = reports(measured(subject, "eager", "static"))["float32->true"]
    layer = next(layer for layer in found.layers if layer.name == "second")
    with torch.no_grad():
        expected = subject.model.second(fed.dequantize())

    assert layer.local == sqnr_db(ref=expected, actual=by_hand)
    assert layer.weight == sqnr_db(
        ref=subject.model.second.weight.detach(), actual=second.weight().dequantize()
    )


def test_looking_leaves_the_models_as_they_were(subject: LoadedSubject) -> None:
    quantization = Quantization(flow="eager", mode="static")
    flow = Eager()
    with bound(LANE), torch.no_grad():
        calibrated = flow.calibrate(subject.model, quantization, subject.calibration)
        true = flow.variant(calibrated, Variant.TRUE, LANE)
        before = subject.evaluation.fed_to(true)
        for variant, module in ((Variant.FLOAT32, None), (Variant.TRUE, true)):
            layer_values(flow.layers(calibrated, variant, module), subject.evaluation)
        after = subject.evaluation.fed_to(true)
        again = subject.evaluation.fed_to(flow.variant(calibrated, Variant.TRUE, LANE))

    assert torch.equal(before, after)
    assert torch.equal(before, again)  # the observers have seen nothing of the evaluation data
    assert not any(part._forward_hooks for part in true.modules())
    assert "add" not in vars(true.module.add)


def test_weights_are_compared_with_batch_norm_folded_in(subject: LoadedSubject) -> None:
    for flow, mode in (
        ("eager", "qat"),
        ("fx", "qat"),
        ("eager", "static"),
        ("fx", "static"),
        ("minmax_fx", "static"),
    ):
        for report in reports(measured(subject, flow, mode)).values():
            figure = next(layer for layer in report.layers if layer.name == "conv").weight
            assert figure is not None
            # int8 per tensor: tens of dB; weights without the batch norm would be a few
            assert figure.value is None or figure.value > 30, (flow, mode, report.edge, figure)


@pytest.mark.parametrize(("flow", "layer"), KERNELS)
def test_weights_shifted_by_one_step_are_found_in_the_kernel(
    subject: LoadedSubject, monkeypatch: pytest.MonkeyPatch, flow: type[Any], layer: str
) -> None:
    def shifted(module: nn.Module) -> None:
        part = _named(module, layer)[1]
        if isinstance(part.weight, Int8Tensor):
            part.weight.qdata.copy_((part.weight.qdata.to(torch.int16) + 1).clamp(-128, 127))
            return
        weight, bias = part.weight(), part.bias()
        codes = (weight.int_repr().to(torch.int16) + 1).clamp(-128, 127).to(torch.int8)
        scale, zero_point = weight.q_scale(), weight.q_zero_point()
        part.set_weight_bias(torch._make_per_tensor_quantized_tensor(codes, scale, zero_point), bias)

    _is_in_the_kernel(_with_faulty_kernel(subject, monkeypatch, flow, shifted), layer)


@pytest.mark.parametrize(("flow", "layer"), KERNELS)
def test_replaced_kernel_is_found_in_the_kernel(
    subject: LoadedSubject, monkeypatch: pytest.MonkeyPatch, flow: type[Any], layer: str
) -> None:
    def replaced(module: nn.Module) -> None:
        path, part = _named(module, layer)
        parent, _, child = path.rpartition(".")
        setattr(module.get_submodule(parent), child, Wrong(part))

    _is_in_the_kernel(_with_faulty_kernel(subject, monkeypatch, flow, replaced), layer)


@pytest.mark.parametrize(("flow", "layer"), OBSERVERS)
def test_widened_observer_is_found_in_the_quantization(
    subject: LoadedSubject, monkeypatch: pytest.MonkeyPatch, flow: type[Any], layer: str
) -> None:
    class Widened(flow):  # type: ignore[misc]
        def calibrate(self, *args: Any) -> Calibrated:
            return _widened(super().calibrate(*args), layer)

    name, mode = FLOW_AND_MODE[flow]
    monkeypatch.setitem(FLOWS, name, Widened())
    found = reports(measured(subject, name, mode))

    headline, *inner, kernel = [found[edge] for edge in CHAINS[name, mode][:-1]]
    assert headline.edge in {"float32->fake", "float32->reference"}
    assert headline.ranked[0].name == layer
    for report in (*inner, kernel):
        assert all(one.local.value is None or one.local.value > 40 for one in report.layers), report


@pytest.mark.parametrize("fault", ["weights", "range"])
@pytest.mark.parametrize("layer", ["conv", "first", "second", "last"])
def test_fault_in_an_exported_graph_is_found(
    subject: LoadedSubject, monkeypatch: pytest.MonkeyPatch, fault: str, layer: str
) -> None:
    """Compiled as a whole, `true` cannot be looked into: what it was made from can."""

    class Faulty(Pt2e):
        def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
            module: Any = super().variant(calibrated, variant, lane)
            graph = module.graph_module
            node = next(n for n in graph.graph.nodes if n.target in LAYER_OPERATIONS and layer_of(n) == layer)
            if fault == "weights":
                codes = operator.attrgetter(node.args[1].args[0].target)(graph)
                codes.data.copy_((codes.to(torch.int16) + 1).clamp(-128, 127))
            else:  # what the layer takes was quantized four times too widely
                quantize = node.args[0].args[0]
                for part in (quantize, *quantize.users):
                    part.update_arg(1, part.args[1] * 4)
            graph.recompile()
            return module

    monkeypatch.setitem(FLOWS, "pt2e", Faulty())
    (report,) = measured(subject, "pt2e", "static").layers
    noisiest = report.ranked[0]

    if fault == "weights":
        assert noisiest.name == layer
        return
    ran = [one.name for one in report.layers]
    assert ran.index(noisiest.name) == ran.index(layer) - 1  # the layer whose output it is


def test_flow_that_cannot_look_into_layers_says_so(
    subject: LoadedSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opaque(Eager):
        layers = Fx.__mro__[1].layers  # the protocol's own: it raises

    monkeypatch.setitem(FLOWS, "eager", Opaque())
    result = measured(subject, "eager", "static")
    report = reports(result)["float32->true"]

    assert report.unavailable == "Opaque cannot look into the layers of float32"
    assert result.measurements[0].figure.value is not None


class Wrong(nn.Module):
    """A kernel that takes the samples of a batch in the wrong order."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.part(x.flip(0))
        return found


def _named(module: nn.Module, layer: str) -> tuple[str, Any]:
    """The module that computes a layer; minmax_fx calls it by the last of the nodes that it stands for."""
    names = {layer, f"module.{layer}", "matched_relu" if layer == "conv" else f"matched_{layer}"}
    return next((path, part) for path, part in module.named_modules() if path in names)


def _with_faulty_kernel(
    subject: LoadedSubject,
    monkeypatch: pytest.MonkeyPatch,
    flow: type[Any],
    plant: Callable[[nn.Module], None],
) -> dict[Edge, LayerReport]:
    class Faulty(flow):  # type: ignore[misc]
        def variant(self, calibrated: Calibrated, variant: Variant, lane: Lane) -> nn.Module:
            module: nn.Module = super().variant(calibrated, variant, lane)
            if variant is Variant.TRUE:
                plant(module)
            return module

    name, mode = FLOW_AND_MODE[flow]
    assert type(flow_named(name)).__name__ == flow.__name__
    monkeypatch.setitem(FLOWS, name, Faulty())
    return reports(measured(subject, name, mode))


def _is_in_the_kernel(found: dict[Edge, LayerReport], layer: str) -> None:
    """Ranked first where the kernel is held against the model of it, and by far; not before."""
    *inner, kernel = [edge for edge in found if edge != "float32->true"]
    assert found[kernel].ranked[0].name == layer
    assert (found[kernel].ranked[0].share or 0) > 0.9
    assert found[kernel].first_divergent == layer or found[kernel].first_divergent is None
    for edge in inner:
        assert found[edge].unavailable is None
        weights = [one.weight.value for one in found[edge].layers if one.weight and one.weight.value]
        assert all(value > 30 for value in weights)


def _widened(calibrated: Calibrated, layer: str) -> Calibrated:
    """With the range of a layer's output four times as wide."""
    prepared: Any = calibrated.module
    if isinstance(calibrated, _Matched):
        last = next(node for node, (match, _) in calibrated.replacements.items() if match.layer == layer)
        seen = calibrated.ranges[last]
        wide = dataclasses.replace(seen, low=4 * seen.low, high=4 * seen.high)
        ranges = {**calibrated.ranges, last: wide}
        redone = _replacements(calibrated.module, ranges, calibrated.quantization)
        return dataclasses.replace(calibrated, ranges=ranges, replacements=redone)
    if isinstance(prepared, torch.fx.GraphModule):
        node = next(n for n in prepared.graph.nodes if str(n.target) == layer)
        found: Any = prepared.get_submodule(str(next(iter(node.users)).target))
    else:
        found = _named(prepared, layer)[1].activation_post_process
    observer = found.activation_post_process if isinstance(found, FakeQuantizeBase) else found
    observer.min_val.mul_(4)
    observer.max_val.mul_(4)
    _recompute(prepared)
    return calibrated


def _recompute(prepared: nn.Module) -> None:
    """Fake quantizers keep the scale that they computed last."""
    for part in prepared.modules():
        if isinstance(part, FakeQuantizeBase) and isinstance(part.activation_post_process, ObserverBase):
            scale, zero_point = part.calculate_qparams()
            part.scale.copy_(scale)
            part.zero_point.copy_(zero_point)
