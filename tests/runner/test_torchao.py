"""The torchao flow: torchao's own functions give the same bits; what it refuses, what its reference means."""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor
from torch.nn import functional
from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
from torchao.quantization import (
    Float8Tensor,
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    quantize_,
)
from torchao.quantization.granularity import PerGroup, PerRow, PerTensor
from torchao.quantization.quant_primitives import (
    MappingType,
    _choose_qparams_affine_tinygemm,
    _dequantize_affine_tinygemm,
    _quantize_affine_tinygemm,
)

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.scheme import Granularity, Quantization, Variant
from noisefloor_workers.flows import Calibrated, CalibrationError, Unsupported, flow_named, torchao
from noisefloor_workers.flows.torchao import TorchAo
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.inputs import ModelInputs

ATEN, INDUCTOR = Lane(engine="aten"), Lane(engine="inductor")
DATA = torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(1))
WEIGHT_ONLY, DYNAMIC = {"mode": "weight_only"}, {"mode": "dynamic"}
ROW, FLOAT8, INT4 = (
    {"granularity": "per_channel"},
    {"weight_dtype": "float8_e4m3fn"},
    {"weight_dtype": "int4"},
)
PLAIN = {"set_inductor_config": False}
# What the scheme says, and torchao's config for it, by hand.
CONFIGS: list[tuple[dict[str, Any], Callable[[], Any]]] = [
    (WEIGHT_ONLY, lambda: Int8WeightOnlyConfig(granularity=PerTensor(), **PLAIN)),
    ({**WEIGHT_ONLY, **ROW}, lambda: Int8WeightOnlyConfig(**PLAIN)),
    ({**WEIGHT_ONLY, **ROW, "group_size": 8}, lambda: Int8WeightOnlyConfig(granularity=PerGroup(8), **PLAIN)),
    ({**WEIGHT_ONLY, **ROW, **INT4}, lambda: PrototypeInt4WeightOnlyConfig(group_size=32, **PLAIN)),
    (
        {**WEIGHT_ONLY, **ROW, **INT4, "group_size": 64},
        lambda: PrototypeInt4WeightOnlyConfig(group_size=64, **PLAIN),
    ),
    ({**WEIGHT_ONLY, **FLOAT8}, lambda: Float8WeightOnlyConfig(granularity=PerTensor(), **PLAIN)),
    ({**WEIGHT_ONLY, **ROW, **FLOAT8}, lambda: Float8WeightOnlyConfig(**PLAIN)),
    (
        {**WEIGHT_ONLY, **ROW, **FLOAT8, "group_size": 16},
        lambda: Float8WeightOnlyConfig(granularity=PerGroup(16), **PLAIN),
    ),
    (
        DYNAMIC,
        lambda: Int8DynamicActivationInt8WeightConfig(granularity=PerTensor(), reduce_range=True, **PLAIN),
    ),
    ({**DYNAMIC, **ROW}, lambda: Int8DynamicActivationInt8WeightConfig(reduce_range=True, **PLAIN)),
    ({**DYNAMIC, **ROW, "reduce_range": False}, lambda: Int8DynamicActivationInt8WeightConfig(**PLAIN)),
]
SCHEMES = [scheme for scheme, _ in CONFIGS]


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Two linear layers, one called by keyword, and what torchao leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.up = nn.Linear(64, 128)
        self.down = nn.Linear(128, 64, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(input=functional.gelu(self.up(self.norm(x))))


def net() -> nn.Module:
    torch.manual_seed(2)
    return Net().eval()


def quantization(**changes: Any) -> Quantization:
    return Quantization.model_validate({"flow": "torchao", **WEIGHT_ONLY, **changes})


def calibrated(subject: nn.Module, **changes: Any) -> Calibrated:
    return TorchAo().calibrate(subject, quantization(**changes), ModelInputs(args=(DATA,)))


def variant(subject: nn.Module, form: Variant, lane: Lane = ATEN, **changes: Any) -> nn.Module:
    return TorchAo().variant(calibrated(subject, **changes), form, lane)


def ratio_db(ref: Tensor, actual: Tensor) -> float:
    error = float((ref.double() - actual.double()).norm())
    return 20 * math.log10(float(ref.double().norm()) / error) if error else math.inf


@pytest.mark.parametrize(("scheme", "config"), CONFIGS, ids=[str(quantization(**s).label) for s in SCHEMES])
@torch.no_grad()
def test_true_is_torchaos_own_to_the_bit(scheme: dict[str, Any], config: Callable[[], Any]) -> None:
    theirs = net()
    quantize_(theirs, config())
    ours = variant(net(), Variant.TRUE, **scheme)

    assert type(ours.up.weight) is type(theirs.up.weight)
    assert torch.equal(ours(DATA), theirs(DATA))
    assert not torch.equal(ours(DATA), net()(DATA))


@pytest.mark.parametrize("scheme", SCHEMES, ids=[str(quantization(**s).label) for s in SCHEMES])
@torch.no_grad()
def test_reference_is_true_but_for_the_order_of_float32_operations(scheme: dict[str, Any]) -> None:
    """Its error against float32 is the quantization's: 20 to 50 dB; against true it is float32's own."""
    subject = net()
    reference, true = (variant(subject, form, **scheme)(DATA) for form in (Variant.REFERENCE, Variant.TRUE))

    assert ratio_db(subject(DATA), reference) < 60
    assert ratio_db(reference, true) > 110


@pytest.mark.parametrize("granularity", get_args(Granularity))
@pytest.mark.parametrize("reduce_range", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 1.0, 1e30])
def test_activations_of_int8_are_torchaos_own_to_the_bit(
    *, granularity: Granularity, reduce_range: bool, scale: float
) -> None:
    given = DATA * scale
    scheme = quantization(**DYNAMIC, granularity=granularity, reduce_range=reduce_range)
    theirs = PerRow() if granularity == "per_channel" else PerTensor()
    expected = Int8Tensor.from_hp(given, theirs, reduce_range=reduce_range).dequantize()

    assert torch.equal(torchao._ActivationsAsTheyCome(scheme).applied(given), expected)


@pytest.mark.parametrize("granularity", get_args(Granularity))
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e30])
def test_activations_of_float8_are_torchaos_own_to_the_bit(granularity: Granularity, scale: float) -> None:
    scheme = quantization(**DYNAMIC, **FLOAT8, granularity=granularity)
    theirs = PerRow() if granularity == "per_channel" else PerTensor()
    expected = Float8Tensor.from_hp(DATA * scale, granularity=theirs).dequantize()

    assert torch.equal(torchao._ActivationsAsTheyCome(scheme).applied(DATA * scale), expected)


@pytest.mark.parametrize("group_size", torchao.INT4_GROUP_SIZES)
@torch.no_grad()
def test_int4_weight_is_torchaos_own_to_the_bit(group_size: int) -> None:
    weight, blocks = torch.randn(16, 128), [1, group_size]
    step, zero = _choose_qparams_affine_tinygemm(
        weight, MappingType.ASYMMETRIC, blocks, torch.int32, 0, 15, 1e-6, None, torch.float32
    )
    held = _quantize_affine_tinygemm(weight, blocks, step, zero, torch.int32, 0, 15)
    expected = _dequantize_affine_tinygemm(held, blocks, step, zero, torch.int32, 0, 15)
    subject = nn.Sequential(nn.Linear(128, 16, bias=False))
    subject[0].weight.copy_(weight)
    scheme = {**ROW, **INT4, "group_size": group_size}
    found = variant(subject, Variant.REFERENCE, **scheme)[0].weight

    assert torch.equal(found, expected)
    # the kernel's own, by way of an identity: one product in each sum
    kernel = variant(subject, Variant.TRUE, **scheme)(torch.eye(128)).T
    torch.testing.assert_close(kernel, expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning")
@torch._dynamo.config.patch(recompile_limit=1)
@torch.no_grad()
def test_inductor_is_torchaos_own_compiled_each_time_anew() -> None:
    counters.clear()
    subject = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    for scheme in ({**DYNAMIC, **ROW}, {**ROW, **INT4}):
        compiled = variant(subject, Variant.TRUE, INDUCTOR, **scheme)(DATA)
        assert counters["stats"]["unique_graphs"] == 1
        eager = variant(subject, Variant.TRUE, ATEN, **scheme)(DATA)
        assert ratio_db(eager, compiled) > 110
        counters.clear()
    theirs = copy.deepcopy(subject)
    quantize_(theirs, PrototypeInt4WeightOnlyConfig(group_size=32, **PLAIN))
    torch.compiler.reset()
    assert torch.equal(compiled, torch.compile(theirs, options={"freezing": True})(DATA))
    assert not any("cache_hit" in name or "cache_miss" in name for name in counters["inductor"])


class Deciding(nn.Module):
    """Goes one of two ways by its data."""

    def __init__(self, sign: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if self.sign(x.sum()) else x


@pytest.mark.parametrize("sign", [lambda total: total > 0, float])
@torch.no_grad()
def test_model_that_is_not_compiled_whole_is_unsupported(sign: Callable[[Tensor], Any]) -> None:
    true = variant(Deciding(sign).eval(), Variant.TRUE, INDUCTOR)
    with pytest.raises(Unsupported, match="inductor cannot compile this model whole: ") as caught:
        true(DATA)

    assert len(caught.value.reason) < 400


@inductor.patch({"cpp.cxx": ("no-such-compiler",)})
def test_machine_without_a_compiler_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"engine inductor needs a C\+\+ compiler: .*no-such-compiler"):
        variant(net(), Variant.TRUE, INDUCTOR)


@torch.no_grad()
def test_float_model_stays_as_it_was() -> None:
    subject = net()
    before, expected = copy.deepcopy(subject.state_dict()), subject(DATA)
    for scheme in SCHEMES:
        one = calibrated(subject, **scheme)
        for form in (Variant.REFERENCE, Variant.TRUE):
            TorchAo().variant(one, form, ATEN)(DATA)

    after = subject.state_dict()
    assert all(
        type(after[name]) is Tensor and torch.equal(after[name], held) for name, held in before.items()
    )
    assert torch.equal(subject(DATA), expected)


@pytest.mark.parametrize("form", [Variant.REFERENCE, Variant.TRUE])
@torch.no_grad()
def test_float_layers_stay_float(form: Variant) -> None:
    subject = net()
    kept = variant(subject, form, **DYNAMIC, float_layers=["up"])

    assert torch.equal(kept.up.weight, subject.up.weight)
    assert torch.equal(kept.up(DATA), subject.up(DATA))
    assert not torch.equal(kept(DATA), subject(DATA))


def test_layer_by_two_names_is_quantized_once_and_kept_by_either() -> None:
    inner = nn.Linear(4, 4)
    subject = nn.Sequential(nn.Sequential(inner), nn.Sequential(inner), nn.Linear(4, 4)).eval()
    quantized = variant(subject, Variant.TRUE)
    kept = variant(subject, Variant.TRUE, float_layers=["1.0"])

    assert isinstance(quantized[0][0].weight, Int8Tensor)
    assert quantized[0][0] is quantized[1][0]
    assert type(kept[0][0].weight) is nn.Parameter


@pytest.mark.parametrize(
    ("subject", "changes", "reason"),
    [
        (net, {"float_layers": ["upp"]}, "float_layers names upp, .*did you mean up"),
        (net, {"float_layers": ["norm"]}, "float_layers names norm"),
        (net, {"float_layers": ["up", "down"]}, "float_layers names every linear layer"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1)), {}, "torchao quantizes linear layers, and .* has none"),
    ],
)
def test_model_without_what_is_asked_for_is_unsupported(
    subject: Callable[[], nn.Module], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        calibrated(subject(), **changes)


@pytest.mark.parametrize(
    ("layer", "changes", "reason"),
    [
        (nn.Linear(40, 16), {**ROW, **INT4}, "layer '0': its 40 inputs are no multiple of group_size 32"),
        (nn.Linear(32, 10), {**ROW, **INT4}, "layer '0': its 10 outputs are no multiple of 16"),
        (nn.Linear(40, 16), {**ROW, "group_size": 16}, "layer '0': its 40 inputs are no multiple of group"),
    ],
)
def test_layer_of_another_shape_is_unsupported_by_name(
    layer: nn.Module, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported, match=f"{reason}.*; float_layers can keep it float"):
        variant(nn.Sequential(layer), Variant.TRUE, **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torchao asks for such a device alone")
@pytest.mark.parametrize("form", [Variant.REFERENCE, Variant.TRUE])
def test_dynamic_float8_is_unsupported_for_torchaos_reason(form: Variant) -> None:
    with pytest.raises(
        Unsupported, match="layer 'up' to float8_e4m3fn: Float8 dynamic quantization requires CUDA"
    ):
        variant(net(), form, **DYNAMIC, **FLOAT8)


def test_weight_that_torchao_leaves_as_it_was_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes over some in silence: the figure would be of a float model."""
    monkeypatch.setattr(torchao, "_require_fit", lambda *_: None)
    with pytest.raises(Unsupported, match="leaves the weight of layer '0' as it was, which is no int4"):
        variant(nn.Sequential(nn.Linear(40, 16)), Variant.TRUE, **ROW, **INT4)


@pytest.mark.parametrize(
    ("value", "changes", "reason"),
    [
        (float("nan"), {}, "64 of 8192 values of its weight are not finite"),
        (0.0, {**FLOAT8, **ROW}, "the range of its weight gives no finite positive scale"),
    ],
)
def test_unsound_weight_is_an_error_with_the_layers_name(
    value: float, changes: dict[str, Any], reason: str
) -> None:
    subject = net()
    subject.up.weight.data[0] = value
    with pytest.raises(CalibrationError, match=reason) as caught:
        variant(subject, Variant.TRUE, **changes)

    assert caught.value.layer == "up"


@pytest.mark.parametrize(
    ("changes", "edge", "reason"),
    [
        *((scheme, "reference->true", None) for scheme in SCHEMES),
        ({**DYNAMIC, **FLOAT8}, "float64->float32", None),
        ({}, "float32->fake", "torchao weight_only has no variant fake"),
        ({"mode": "static"}, "float32->true", "torchao has no mode static; it has: weight_only, dynamic"),
        (
            {**DYNAMIC, **INT4},
            "float32->true",
            "torchao dynamic has no weight_dtype int4; it has: int8, float8",
        ),
        ({**INT4}, "float32->true", "int4 in groups has scales in each row: granularity per_channel"),
        (
            {"group_size": 8},
            "float32->true",
            "int8 in groups has scales in each row: granularity per_channel",
        ),
        ({**ROW, **INT4, "group_size": 16}, "float32->true", "no group_size 16; it has: 32, 64, 128"),
        ({**DYNAMIC, **ROW, "group_size": 8}, "float32->true", "leave group_size out"),
        ({**DYNAMIC, **FLOAT8, "reduce_range": False}, "float32->true", "reduce_range true is the only one"),
        ({"activation_dtype": "int8"}, "float32->true", "no use for activation_dtype int8"),
    ],
)
def test_supports_what_it_offers_and_says_why_not(
    changes: dict[str, Any], edge: Any, reason: str | None
) -> None:
    said = flow_named("torchao").supports(quantization(**changes), [edge])

    assert said is None if reason is None else reason in (said or "")


@pytest.mark.parametrize("form", [Variant.FLOAT32, Variant.FAKE])
def test_variant_that_it_lacks_is_unsupported(form: Variant) -> None:
    with pytest.raises(Unsupported, match="torchao weight_only derives: reference, true; not"):
        variant(net(), form)


def test_walk_measures_every_engine(shard: Callable[..., ShardTask]) -> None:
    edges = ["float32->reference", "float32->true", "reference->true"]
    scheme = {"flow": "torchao", **DYNAMIC, **ROW, "edges": edges}
    cells = [
        {"cell": engine, "scheme": scheme, "lane": {"engine": engine}}
        for engine in ("aten", "inductor", "x86")
    ]
    task = shard("stacks:linear", cells=cells)
    ended = {event.result.cell: event.result for event in walk(task) if isinstance(event, CellFinished)}

    assert ended["x86"].status is CellStatus.UNSUPPORTED
    assert ended["x86"].reason == "torchao does not run on engine x86; it runs on: aten, inductor"
    for engine in ("aten", "inductor"):
        result = ended[engine]
        assert result.status is CellStatus.DONE, result.traceback
        assert result.executed_engine == engine
        figures = {m.edge: m.figure for m in result.measurements if m.metric == "sqnr_db"}
        assert 20 < (figures["float32->true"].value or 0) < 60
        assert (
            figures["reference->true"].kind is FigureKind.EXACT
            or (figures["reference->true"].value or 0) > 110
        )
