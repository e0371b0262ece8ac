"""The min-max FX flow: torch's own operations give the same bits; patterns, fallbacks, and its character."""

import copy
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn import quantized as nnq
from torch.ao.nn.intrinsic import quantized as nniq
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_weights

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.scheme import Quantization, Variant
from noisefloor_workers.flows import CalibrationError, Unsupported, flow_named, minmax_patterns
from noisefloor_workers.flows.minmax_fx import MinMaxFx
from noisefloor_workers.flows.minmax_patterns import Replacement, register_pattern
from noisefloor_workers.lanes.engine import bound
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.inputs import ModelInputs

SUPPORTED = torch.backends.quantized.supported_engines
ENGINES: list[Engine] = [e for e in ("qnnpack", "x86", "fbgemm") if e in SUPPORTED]  # with zero points
DATA = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(2))

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, :UserWarning")


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def _patterns() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(minmax_patterns.PATTERNS)
    yield
    minmax_patterns.PATTERNS.clear()
    minmax_patterns.PATTERNS.update(before)


def quantization(**changes: Any) -> Quantization:
    return Quantization.model_validate({"flow": "minmax_fx", "mode": "static", **changes})


def variants(
    subject: nn.Module, data: Tensor, *, engine: Engine = ENGINES[0], **changes: Any
) -> tuple[Tensor, Tensor]:
    """The outputs of reference and true on the calibration data."""
    flow, lane = MinMaxFx(), Lane(engine=engine)
    with torch.no_grad(), bound(lane):
        calibrated = flow.calibrate(subject.eval(), quantization(**changes), ModelInputs(args=(data,)))
        modules = [flow.variant(calibrated, form, lane) for form in (Variant.REFERENCE, Variant.TRUE)]
        return modules[0](data.clone()), modules[1](data.clone())


def stepped(tensor: Tensor, lowest: int, highest: int) -> tuple[float, int]:
    """The seed's formula, in double precision."""
    low, high = min(0.0, float(tensor.min())), max(0.0, float(tensor.max()))
    scale = (high - low) / (highest - lowest)
    return scale, lowest - round(low / scale)


def activation(tensor: Tensor, codes: int = 127) -> Tensor:
    return torch.quantize_per_tensor(tensor, *stepped(tensor, 0, codes), torch.quint8)


def weight(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, *stepped(tensor, -127, 128), torch.qint8)


def packed(module: Any, quantized: Tensor, bias: Tensor | None, output: Tensor, codes: int = 127) -> Any:
    module.set_weight_bias(quantized, bias)
    module.scale, module.zero_point = stepped(output, 0, codes)
    return module


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("relu", [None, nn.ReLU()])
@pytest.mark.parametrize(("reduce_range", "codes"), [(True, 127), (False, 255)])
@torch.no_grad()
def test_linear_is_torchs_own_to_the_bit(
    *, engine: Engine, relu: nn.Module | None, reduce_range: bool, codes: int
) -> None:
    layer = nn.Linear(4, 5)
    subject = nn.Sequential(layer, *([relu] if relu else []))
    reference, true = variants(subject, DATA, engine=engine, reduce_range=reduce_range)
    given, held, output = activation(DATA, codes), weight(layer.weight), subject(DATA)
    with bound(Lane(engine=engine)):
        form = nniq.LinearReLU if relu else nnq.Linear
        expected = packed(form(4, 5), held, layer.bias, output, codes)(given)
    computed = functional.linear(given.dequantize(), held.dequantize(), layer.bias)
    computed = relu(computed) if relu else computed

    assert torch.equal(true, expected.dequantize())
    quantized = torch.quantize_per_tensor(computed, *stepped(output, 0, codes), torch.quint8)
    assert torch.equal(reference, quantized.dequantize())


class ConvNorm(nn.Module):
    """A convolution with batch norm that is not the identity, and maybe relu."""

    def __init__(self, *, norm: bool, relu: bool, **conv: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=not norm, **conv)
        self.bn = nn.BatchNorm2d(4) if norm else None
        self.relu = relu
        if norm:
            self.bn.weight.data.uniform_(0.5, 2)
            self.bn.bias.data.uniform_(-1, 1)
            self.bn.running_mean.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(x) if self.bn is not None else x
        return functional.relu(x) if self.relu else x


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_convolution_is_torchs_own_to_the_bit(*, engine: Engine, norm: bool, relu: bool) -> None:
    subject = ConvNorm(norm=norm, relu=relu, stride=2, padding=1, padding_mode="reflect").eval()
    reference, true = variants(subject, IMAGES, engine=engine)
    conv, bn, given, output = subject.conv, subject.bn, activation(IMAGES), subject(IMAGES)
    folded, bias = conv.weight, conv.bias
    if bn is not None:
        statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
        folded, bias = fuse_conv_bn_weights(folded, bias, *statistics)
    held = weight(folded)
    with bound(Lane(engine=engine)):
        form = nniq.ConvReLU2d if relu else nnq.Conv2d
        module = form(3, 4, 3, stride=2, padding=1, padding_mode="reflect")
        expected = packed(module, held, bias, output)(given)
    padded = functional.pad(given.dequantize(), (1, 1, 1, 1), mode="reflect")
    computed = functional.conv2d(padded, held.dequantize(), bias, stride=2)
    computed = computed.relu() if relu else computed

    assert torch.equal(true, expected.dequantize())
    quantized = torch.quantize_per_tensor(computed, *stepped(output, 0, 127), torch.quint8)
    assert torch.equal(reference, quantized.dequantize())


class Sum(nn.Module):
    """A sum of two tensors, or of one with itself or with a number."""

    def __init__(self, other: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        return x + self.other(x)


@pytest.mark.parametrize("engine", ENGINES)
def test_sum_is_torchs_own_to_the_bit(engine: Engine) -> None:
    reference, true = variants(Sum(lambda x: x), DATA, engine=engine)
    given, step = activation(DATA), stepped(DATA + DATA, 0, 127)
    with bound(Lane(engine=engine)):
        expected = torch.ops.quantized.add(given, given, *step)

    assert torch.equal(true, expected.dequantize())
    computed = given.dequantize() + given.dequantize()
    assert torch.equal(reference, torch.quantize_per_tensor(computed, *step, torch.quint8).dequantize())


@pytest.mark.parametrize(
    "operation",
    [
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        functional.relu,
        lambda x: functional.max_pool2d(x, 2, stride=1),
        lambda x: torch.reshape(x, (8, -1)),
        lambda x: x.view(-1, 9),
        lambda x: x.relu().flatten(1),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_copy_keeps_the_range_of_its_input(operation: Callable[[Tensor], Tensor], engine: Engine) -> None:
    class Copying(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return operation(x)

    subject = nn.Sequential(operation) if isinstance(operation, nn.Module) else Copying()
    reference, true = variants(subject, IMAGES, engine=engine)
    given = activation(IMAGES)
    with bound(Lane(engine=engine)):
        expected = operation(given)
    step = given.q_scale(), given.q_zero_point()

    assert (expected.q_scale(), expected.q_zero_point()) == step
    assert torch.equal(true, expected.dequantize())
    computed = torch.quantize_per_tensor(operation(given.dequantize()), *step, torch.quint8)
    assert torch.equal(reference, computed.dequantize())


def assert_same_but_for_a_step(reference: Tensor, true: Tensor) -> None:
    """A kernel rounds a tie in its own way."""
    step = float(reference.unique().diff().min())
    assert (reference - true).abs().max() <= 1.01 * step


def quantized_nodes(subject: nn.Module, data: Tensor, **changes: Any) -> set[str]:
    """The nodes that end a match that was not left in float."""
    calibrated = MinMaxFx().calibrate(subject.eval(), quantization(**changes), ModelInputs(args=(data,)))
    return {node.name for node in calibrated.replacements}


class Branch(nn.Module):
    """An in-place relu on what is used once more."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        return self.relu(x) * x


class Looking(nn.Module):
    """Integers in, which reshape could take, and a linear layer behind the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 4)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.table(x.reshape(-1)))


class Keyword(nn.Module):
    """A linear layer called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=self.first(x))


def without_statistics() -> nn.Module:
    """Batch norm of the batch itself, which cannot be folded."""
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.MaxPool2d(2))


@pytest.mark.parametrize(
    ("subject", "data", "quantized"),
    [
        (nn.Sequential(nn.Linear(4, 4), Sum(lambda _: 1)), DATA, {"_0"}),
        (nn.Sequential(nn.Linear(4, 4), Sum(lambda x: x.size(0))), DATA, {"_0"}),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding="same"), nn.MaxPool2d(2)), IMAGES, {"_1"}),
        (nn.Sequential(nn.Conv1d(9, 3, 1), nn.Linear(9, 2)), IMAGES[:, 0], {"_1"}),
        (without_statistics(), IMAGES, {"_2"}),
        (Looking(), torch.arange(8), {"fc"}),
        (Branch(), DATA, {"fc"}),
        (Keyword(), DATA, {"first"}),
    ],
    ids=[
        "number",
        "size",
        "padding by a word",
        "no pattern",
        "no statistics",
        "integers",
        "in place",
        "keyword",
    ],
)
@torch.no_grad()
def test_what_is_not_implemented_stays_float(subject: nn.Module, data: Tensor, quantized: set[str]) -> None:
    assert quantized_nodes(subject, data) == quantized
    reference, true = variants(subject, data)
    expected = subject(data)

    assert (reference - true).norm() < 0.02 * expected.norm()
    assert 0 < (true - expected).norm() < 0.05 * expected.norm()


@torch.no_grad()
def test_float_island_is_computed_between_dequantize_and_quantize() -> None:
    subject = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    _, true = variants(subject, DATA)
    first, last = subject[0], subject[2]
    with bound(Lane(engine=ENGINES[0])):
        hidden = first(DATA)
        given = packed(nnq.Linear(4, 4), weight(first.weight), first.bias, hidden)(activation(DATA))
        step = stepped(hidden.tanh(), 0, 127)
        between = torch.quantize_per_tensor(given.dequantize().tanh(), *step, torch.quint8)
        expected = packed(nnq.Linear(4, 2), weight(last.weight), last.bias, subject(DATA))(between)

    assert torch.equal(true, expected.dequantize())


@torch.no_grad()
def test_layer_called_twice_has_an_output_range_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x) * 100)

    subject = Twice()
    reference, true = variants(subject, DATA)
    expected = subject(DATA)

    assert_same_but_for_a_step(reference, true)
    assert (true - expected).norm() < 0.05 * expected.norm()


def test_float_layers_stay_float() -> None:
    subject = nn.Sequential(ConvNorm(norm=True, relu=True), nn.Flatten(), nn.Linear(196, 2))

    assert quantized_nodes(subject, IMAGES) == {"relu", "_1", "_2"}
    assert quantized_nodes(subject, IMAGES, float_layers=["0.bn"]) == {"_1", "_2"}
    assert quantized_nodes(subject, IMAGES, float_layers=["2", "0.conv"]) == {"_1"}


def test_float_layer_that_nothing_calls_is_unsupported_with_the_nearest() -> None:
    subject = nn.Sequential(ConvNorm(norm=True, relu=True))
    with pytest.raises(Unsupported, match=r"0\.con.*did you mean 0\.conv"):
        quantized_nodes(subject, IMAGES, float_layers=["0.con"])


@pytest.mark.usefixtures("_patterns")
@torch.no_grad()
def test_pattern_of_a_users_own_is_quantized() -> None:
    @register_pattern(operator.mul, (nn.Hardswish, nn.Linear))
    def ours(match: minmax_patterns.Match) -> Any:
        if len(match.nodes) == 1:
            kernel: Any = lambda a, b: torch.ops.quantized.mul(a, b, *match.output)  # noqa: E731
            return Replacement(operation=match.operation(), kernel=lambda: Applied(kernel))
        seen.append([type(part) for part in match.operations])
        return NotImplemented

    class Applied(nn.Module):
        def __init__(self, function: Callable[..., Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, *args: Tensor) -> Tensor:
            return self.function(*args)

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tail = nn.Sequential(nn.Linear(4, 4), nn.Hardswish())

        def forward(self, x: Tensor) -> Tensor:
            return self.tail(x * x)

    seen: list[list[type]] = []
    subject = Product().eval()
    assert quantized_nodes(subject, DATA) == {"mul"}
    assert seen == [[nn.Hardswish, nn.Linear]]
    _, true = variants(subject, DATA)
    given = activation(DATA)
    product = torch.ops.quantized.mul(given, given, *stepped(DATA * DATA, 0, 127))
    assert torch.equal(true, subject.tail(product.dequantize()))


@pytest.mark.usefixtures("_patterns")
@pytest.mark.parametrize("pattern", [nn.Linear, nn.Module])
def test_last_registered_of_a_length_comes_first(pattern: type[nn.Module]) -> None:
    register_pattern(pattern)(lambda _: NotImplemented)
    subject = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    assert quantized_nodes(subject, DATA) == {"_1"}


@pytest.mark.usefixtures("_patterns")
def test_chain_has_one_tensor_between_its_operations() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + x

    register_pattern((operator.add, nn.Linear))(lambda _: NotImplemented)

    assert quantized_nodes(Residual(), DATA) == {"fc", "add"}


@pytest.mark.parametrize(("largest", "code"), [(0.9, 128), (1.0, 129)])
def test_largest_weight_is_clipped_by_a_step_or_two(largest: float, code: int) -> None:
    """The codes go to 128, and the zero point is rounded on its own: the character of the range."""
    quantized = minmax_patterns.quantized_weight("fc", torch.tensor([[-1.0, -0.3, 0.2, largest]]))
    scale, zero_point = quantized.q_scale(), quantized.q_zero_point()

    assert scale == pytest.approx((largest + 1.0) / 255)
    assert round(largest / scale) + zero_point == code
    assert quantized.int_repr()[0, -1] == 127
    assert quantized.dequantize()[0, -1] == pytest.approx((127 - zero_point) * scale)


def test_zero_weights_have_a_step_of_one() -> None:
    quantized = minmax_patterns.quantized_weight("fc", torch.zeros(2, 2))

    assert (quantized.q_scale(), quantized.q_zero_point()) == (1.0, 0)


def test_layer_without_a_positive_weight_is_unsupported() -> None:
    subject = nn.Sequential(nn.Linear(4, 4))
    nn.init.constant_(subject[0].weight, -0.5)
    with pytest.raises(Unsupported, match="layer '0': without a positive weight its zero point is 128"):
        quantized_nodes(subject, DATA)


@pytest.mark.skipif("onednn" not in SUPPORTED, reason="this build of torch has no onednn")
@torch.no_grad()
def test_onednn_takes_weights_whose_zero_point_is_zero_alone() -> None:
    subject = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(Unsupported, match=r"layer '0' on engine onednn: .* only supports symmetric"):
        variants(subject, DATA, engine="onednn")
    subject[0].weight.clamp_(-0.4, 0.4)
    subject[0].weight[0, :2] = torch.tensor([-0.4980, 0.502])  # round(low / step) = -127
    reference, true = variants(subject, DATA, engine="onednn")

    assert_same_but_for_a_step(reference, true)


@pytest.mark.parametrize(
    ("subject", "data", "layer", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 4)), DATA * float("nan"), "input_1", "saw NaN or infinity"),
        (nn.Sequential(nn.Linear(4, 4)), DATA[:0], "input_1", "saw no data"),
        (nn.Sequential(nn.Linear(4, 4)), DATA.clamp(-1, 1) * 3e38, "0", "saw NaN or infinity"),
    ],
    ids=["NaN", "empty", "overflow"],
)
def test_unsound_range_is_an_error_with_the_layers_name(
    subject: nn.Module, data: Tensor, layer: str, reason: str
) -> None:
    subject[0].weight.data.fill_(1)
    subject[0].weight.data[0] = -1
    with pytest.raises(CalibrationError, match=reason) as caught:
        quantized_nodes(subject, data)

    assert caught.value.layer == layer


@pytest.mark.parametrize(("name", "layer"), [("conv.weight", "conv"), ("bn.bias", "bn")])
def test_weight_that_is_not_finite_is_an_error_with_the_layers_name(name: str, layer: str) -> None:
    subject = ConvNorm(norm=True, relu=True)
    subject.get_parameter(name).data.view(-1)[0] = float("nan")
    with pytest.raises(CalibrationError, match="not finite") as caught:
        quantized_nodes(subject, IMAGES)

    assert caught.value.layer == layer


def test_weight_that_leaves_float32_when_folded_is_an_error() -> None:
    subject = ConvNorm(norm=True, relu=False)
    subject.conv.weight.data.fill_(1e30)
    subject.bn.weight.data.fill_(1e30)
    with pytest.raises(CalibrationError, match="once batch norm is folded"):
        quantized_nodes(subject, IMAGES * 1e-30)


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("subject", "reason"),
    [(Deciding(), "torch.fx cannot trace this model"), (nn.Tanh(), "minmax_fx finds nothing to quantize")],
)
def test_model_that_cannot_be_quantized_is_unsupported(subject: nn.Module, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        quantized_nodes(subject, DATA)


@pytest.mark.parametrize(
    ("changes", "edge", "reason"),
    [
        ({}, "float32->true", None),
        ({"float_layers": ["fc"]}, "reference->true", None),
        ({}, "float32->fake", "minmax_fx static has no variant fake"),
        ({"mode": "dynamic"}, "float32->true", "minmax_fx has no mode dynamic; it has: static"),
        ({"granularity": "per_channel"}, "float32->true", "granularity per_tensor is the only one"),
        ({"weight_dtype": "int4"}, "float32->true", "no use for weight_dtype int4"),
    ],
)
def test_supports_what_it_offers_and_says_why_not(
    changes: dict[str, Any], edge: Any, reason: str | None
) -> None:
    said = flow_named("minmax_fx").supports(quantization(**changes), [edge])

    assert said is reason if reason is None else reason in (said or "")


def test_variant_that_it_lacks_is_unsupported() -> None:
    flow = MinMaxFx()
    calibrated = flow.calibrate(nn.Sequential(nn.Linear(4, 4)), quantization(), ModelInputs(args=(DATA,)))
    with pytest.raises(Unsupported, match="minmax_fx static derives: reference, true; not fake"):
        flow.variant(calibrated, Variant.FAKE, Lane(engine="qnnpack"))


@torch.no_grad()
def test_float_model_and_the_generator_stay_as_they_were() -> None:
    subject = ConvNorm(norm=True, relu=True).eval()
    before, state = copy.deepcopy(subject.state_dict()), torch.get_rng_state()
    variants(subject, IMAGES)

    assert torch.equal(torch.get_rng_state(), state)
    after = subject.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert type(subject.conv) is nn.Conv2d


@pytest.mark.parametrize("name", ["multiple-ops", "multiple-ops-no-avgpool"])
def test_zoo_is_measured_on_every_engine(name: str) -> None:
    data = {"calibration": {"shape": [256, 3, 15, 15]}, "evaluation": {"shape": [10, 3, 15, 15]}}
    scheme = {"flow": "minmax_fx", "mode": "static", "edges": ["float32->reference", "reference->true"]}
    cells = [
        {"cell": engine, "scheme": scheme, "lane": {"engine": engine}} for engine in SUPPORTED[:0] or ENGINES
    ]
    cells.append({"cell": "aten", "scheme": scheme, "lane": {"engine": "aten"}})
    task = ShardTask.model_validate(
        {"subject": {"zoo": name, "seeds": {"stream": 67}, "data": data}, "cells": cells}
    )
    ended = {event.result.cell: event.result for event in walk(task) if isinstance(event, CellFinished)}
    refused = ended.pop("aten")

    assert refused.status is CellStatus.UNSUPPORTED
    assert list(ended) == ENGINES
    for result in ended.values():
        assert result.status is CellStatus.DONE, result.traceback
        figures = {m.edge: m.figure for m in result.measurements if m.metric == "sqnr_db"}
        assert figures["float32->reference"].value is not None
        assert figures["float32->reference"].value > 25
        lsb = [m.spread.lsb for m in result.measurements if m.edge == "reference->true" and m.spread]
        kind = figures["reference->true"].kind
        assert kind is FigureKind.EXACT or figures["reference->true"].value > 40, (kind, lsb)
