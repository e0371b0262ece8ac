"""The FX flow: torch's own functions give the same bits; what it refuses, and what its figures are."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.ao import quantization as ao
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.quantization import quantize_fx
from torch.nn import functional

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.scheme import Edge, Granularity, Mode, Quantization, Variant
from noisefloor_workers.flows import FLOWS, Calibrated, CalibrationError, Unsupported, flow_named, fx
from noisefloor_workers.flows.fx import Fx
from noisefloor_workers.flows.observers import qconfig
from noisefloor_workers.lanes.engine import bound
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects import imported
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.zoo import ZOO

ENGINES: list[Engine] = [e for e in torch.backends.quantized.supported_engines if e != "none"]
LANE = Lane(engine="x86")  # the engine that is bound is what counts
DATA = torch.rand(16, 4, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(16, 3, 15, 15, generator=torch.Generator().manual_seed(2))
MODES: tuple[Mode, ...] = ("static", "dynamic", "qat")
STATIC: set[Edge] = {"float32->true", "float32->reference", "reference->true", "float64->float32"}
OFFERED: dict[Mode, set[Edge]] = {
    "static": STATIC,
    "dynamic": STATIC,
    "qat": set(get_args(Edge)),
    "weight_only": set(),
    "activation_only": set(),
}
EXACT = float("inf")
FLOAT32 = 120.0  # at least: what is left is float32's own rounding, which is the machine's
# The zoo models call conv2 twice. Lowered, both calls have the output scale of the last one, which clips the
# first: where the two ranges are far apart, that is all of the difference between reference and true.
FIGURES: dict[tuple[str, Mode], dict[Edge, float]] = {
    ("multiple-ops", "static"): {
        "float32->true": 40.585,
        "float32->reference": 40.585,
        "reference->true": EXACT,
        "float64->float32": FLOAT32,
    },
    ("multiple-ops", "dynamic"): {
        "float32->true": 45.747,
        "float32->reference": 45.747,
        "reference->true": FLOAT32,
    },
    ("multiple-ops", "qat"): {
        "float32->fake": 41.458,
        "fake->reference": EXACT,
        "fake->true": 46.460,
        "float32->true": 41.092,
    },
    ("multiple-ops-no-avgpool", "static"): {
        "float32->true": 40.821,
        "float32->reference": 38.628,
        "reference->true": 40.855,
    },
    ("multiple-ops-no-avgpool", "dynamic"): {
        "float32->true": 45.561,
        "float32->reference": 45.561,
        "reference->true": FLOAT32,
    },
    ("multiple-ops-no-avgpool", "qat"): {
        "float32->fake": 36.620,
        "fake->reference": EXACT,
        "fake->true": 35.806,
        "reference->true": 35.806,
    },
}
# qnnpack rounds averages in its own way, and has no reduced range for dynamic quantization.
OF_QNNPACK: dict[tuple[str, Mode], dict[Edge, float]] = {
    ("multiple-ops", "static"): {"float32->true": 40.818, "reference->true": 51.228},
    ("multiple-ops", "dynamic"): {"float32->true": 50.636, "reference->true": 45.674},
    ("multiple-ops-no-avgpool", "dynamic"): {"float32->true": 45.075, "reference->true": 45.538},
}


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def given(*tensors: torch.Tensor) -> ModelInputs:
    return ModelInputs(args=tensors)


def quantization(**changes: Any) -> Quantization:
    return Quantization.model_validate({"flow": "fx", "mode": "static", **changes})


def lane(engine: Engine) -> Lane:
    return Lane(engine=engine, threads=torch.get_num_threads())


def model(factory: str, **args: float) -> nn.Module:
    return imported.build(f"subjects_under_test.stacks:{factory}", args, ["subjects_under_test"]).eval()


def zoo(name: str) -> nn.Module:
    torch.manual_seed(67)
    return ZOO[name]().eval()


def prepared_by_torch(subject: nn.Module, mode: Mode, granularity: Granularity) -> Any:
    """What the tutorials do, with the same observers."""
    mapping = ao.QConfigMapping().set_global(qconfig(quantization(mode=mode, granularity=granularity)))
    subject = copy.deepcopy(subject)
    if mode != "qat":
        prepared = quantize_fx.prepare_fx(subject, mapping, (IMAGES,))
        prepared(IMAGES)
        return prepared
    prepared = quantize_fx.prepare_qat_fx(subject.train(), mapping, (IMAGES,)).eval()
    prepared.apply(ao.disable_fake_quant).apply(freeze_bn_stats)(IMAGES)
    return prepared.apply(ao.enable_fake_quant).apply(ao.disable_observer)


@pytest.mark.parametrize(
    ("mode", "granularity", "edge"),
    list(product((*MODES, "weight_only", "activation_only"), get_args(Granularity), get_args(Edge))),
)
def test_supports_what_the_mode_offers_and_says_why_not(
    mode: Mode, granularity: Granularity, edge: Edge
) -> None:
    reason = flow_named("fx").supports(quantization(mode=mode, granularity=granularity), [edge])

    if edge in OFFERED[mode] or edge.replace("float64", "float32") in OFFERED[mode]:
        assert reason is None
    elif mode in MODES:
        assert reason is not None
        assert "it has: float64, float32, reference, true" in reason
    else:
        assert reason is not None
        assert reason.startswith(f"fx has no mode {mode}")
        assert reason.endswith("it has: static, dynamic, qat")


def test_dynamic_has_no_range_to_reduce() -> None:
    reason = Fx().supports(quantization(mode="dynamic", reduce_range=False), ["float32->true"])

    assert reason is not None
    assert "reduce_range true" in reason


@pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, :UserWarning")
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(("mode", "granularity"), list(product(MODES, get_args(Granularity))))
def test_variants_are_torchs_own_to_the_bit(name: str, mode: Mode, granularity: Granularity) -> None:
    subject = zoo(name)
    flow = Fx()
    with torch.no_grad():
        theirs = prepared_by_torch(subject, mode, granularity)
        ours = flow.calibrate(subject, quantization(mode=mode, granularity=granularity), given(IMAGES))
        if mode == "qat":
            assert torch.equal(flow.variant(ours, Variant.FAKE, LANE)(IMAGES), theirs(IMAGES))
        # x86 is where torch's own reference has the reduced range that the kernels have
        with bound(lane("x86")):
            reference = quantize_fx.convert_to_reference_fx(copy.deepcopy(theirs))(IMAGES)
        for engine in ENGINES:
            with bound(lane(engine)):
                true = quantize_fx.convert_fx(copy.deepcopy(theirs))(IMAGES)
                assert torch.equal(flow.variant(ours, Variant.TRUE, LANE)(IMAGES), true)
                assert torch.equal(flow.variant(ours, Variant.REFERENCE, LANE)(IMAGES), reference)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, :UserWarning")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scale", [0.0, 1e-7, 0.01, 1.0, 1e6])
def test_reference_quantizes_activations_as_torch_does_with_a_reduced_range(
    engine: Engine, scale: float
) -> None:
    for low in (-1.0, -0.3, 0.0, 0.5):
        data = (DATA + low) * scale
        with bound(lane("x86")):
            expected = torch.quantize_per_tensor_dynamic(data, torch.quint8, reduce_range=True)
        with bound(lane(engine)):
            found = fx._quantized_as_it_comes(data, torch.quint8)
        assert (found.q_scale(), found.q_zero_point()) == (expected.q_scale(), expected.q_zero_point())
        assert torch.equal(found.int_repr(), expected.int_repr())


class Functional(nn.Module):
    """A linear function, and no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight)


@pytest.mark.parametrize("engine", ENGINES)
def test_dynamic_function_has_the_range_of_dynamic_layers_on_every_engine(engine: Engine) -> None:
    layer = nn.Linear(4, 4, bias=False)
    function = Functional()
    function.weight = layer.weight
    flow = Fx()
    outputs = []
    with torch.no_grad(), bound(lane(engine)):
        for subject in (nn.Sequential(layer), function):  # a layer alone is traced as its function
            calibrated = flow.calibrate(subject, quantization(mode="dynamic"), given(DATA))
            outputs.append(flow.variant(calibrated, Variant.TRUE, LANE)(DATA))

    assert torch.equal(*outputs)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_dynamic_quantizes_recurrent_layers(kind: type[nn.Module]) -> None:
    flow, subject, sequences = Fx(), nn.Sequential(kind(4, 4)).eval(), DATA.reshape(4, 4, 4)
    with torch.no_grad(), bound(lane("x86")):
        calibrated = flow.calibrate(subject, quantization(mode="dynamic"), given(sequences))
        expected = subject(sequences)[0]
        for variant in (Variant.REFERENCE, Variant.TRUE):
            found = flow.variant(calibrated, variant, LANE)(sequences)[0]
            assert not torch.equal(found, expected)
            torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


class Gated(nn.Module):
    """What torch quantizes by observers of its own alone."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2)
        self.prelu = nn.PReLU()
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.norm(self.prelu(self.up(x))))


@pytest.mark.parametrize(("mode", "granularity"), list(product(MODES[::2], get_args(Granularity))))
def test_layers_that_take_their_own_observers_have_them(mode: Mode, granularity: Granularity) -> None:
    torch.manual_seed(3)
    flow, subject = Fx(), Gated().eval()
    # not x86 or onednn, whose kernel of a transposed convolution from 3 channels to 4 is wrong by 0.8
    with torch.no_grad(), bound(lane("qnnpack")):
        calibrated = flow.calibrate(subject, quantization(mode=mode, granularity=granularity), given(IMAGES))
        true = flow.variant(calibrated, Variant.TRUE, LANE)
        found = true(IMAGES)

    assert flow.output_step(true, given(IMAGES)) == 1 / 256
    assert (found - subject(IMAGES)).abs().mean() < 0.03


def test_calibration_leaves_the_float_model_as_it_was() -> None:
    subject = zoo("multiple-ops")
    before = subject(IMAGES)
    Fx().calibrate(subject, quantization(mode="qat"), given(IMAGES))

    assert not any(part.training for part in subject.modules())
    assert torch.equal(subject(IMAGES), before)


def true_step(subject: nn.Module, mode: Mode = "static") -> tuple[nn.Module, float | None]:
    flow = Fx()
    true = flow.variant(flow.calibrate(subject, quantization(mode=mode), given(DATA)), Variant.TRUE, LANE)
    return true, flow.output_step(true, given(DATA))


class Several(nn.Module):
    """Two outputs, or one that is worked on in float after it is dequantized."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.both = both

    def forward(self, x: torch.Tensor) -> Any:
        x = self.fc(x)
        return (x, self.fc(x)) if self.both else torch.sin(x)


def test_output_step_is_the_scale_of_the_last_dequantization() -> None:
    true, step = true_step(model("linear"))

    assert step == pytest.approx(true.fc.scale)


def test_output_without_a_single_quantization_has_no_step() -> None:
    assert true_step(Several(both=True).eval())[1] is None
    assert true_step(Several(both=False).eval())[1] is None
    assert true_step(model("linear"), "dynamic")[1] is None


@pytest.mark.parametrize("variant", [Variant.FLOAT64, Variant.FLOAT32, Variant.FAKE])
def test_variant_that_the_mode_lacks_is_unsupported(variant: Variant) -> None:
    flow = Fx()
    with pytest.raises(Unsupported, match="fx static derives: reference, true; not"):
        flow.variant(flow.calibrate(model("linear"), quantization(), given(DATA)), variant, LANE)


class Emptying(nn.Module):
    """Calls its last layer with no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.first(x)
        return x, self.last(x[:0] + 1)


@pytest.mark.parametrize("mode", ["static", "qat"])
@pytest.mark.parametrize(
    ("subject", "inputs", "layer", "reason"),
    [
        (lambda: Emptying().eval(), DATA, "getitem", "saw no data"),
        (lambda: model("linear", weight=float("nan")), DATA, "fc", "1 of 16 values of its weight are not"),
        (lambda: model("linear", weight=3e38), DATA * 3e38, "fc", "saw NaN or infinity"),
        (lambda: model("linear"), DATA * float("nan"), "input_1", "saw NaN or infinity"),
        (
            lambda: model("linear", weight=0.0),
            torch.tensor([[3e38, -3e38, 0.0, 0.0]]),
            "input_1",
            "no finite positive scale",
        ),
    ],
)
def test_unsound_observer_is_an_error_with_the_layers_name(
    *, mode: Mode, subject: Callable[[], nn.Module], inputs: torch.Tensor, layer: str, reason: str
) -> None:
    with pytest.raises(CalibrationError, match=reason) as caught:
        Fx().calibrate(subject(), quantization(mode=mode), given(inputs))

    assert caught.value.layer == layer


def test_weight_of_a_fused_layer_is_named_as_in_the_model() -> None:
    subject = zoo("multiple-ops")
    torch.nn.init.constant_(subject.bn1.weight, float("inf"))
    with pytest.raises(CalibrationError) as caught:
        Fx().calibrate(subject, quantization(), given(IMAGES))

    assert caught.value.layer == "bn1"


def test_layer_that_nothing_calls_is_not_in_the_graph() -> None:
    subject = model("mixed")
    torch.nn.init.constant_(subject.unused.weight, float("nan"))
    calibrated = Fx().calibrate(subject, quantization(), given(DATA))

    assert "unused" not in dict(calibrated.module.named_children())


class Branching(nn.Module):
    """Goes one of two ways by its data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class Counting(nn.Module):
    """Loops as many times as it has rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(len(x)):
            x = x * 2
        return x


class Drawing(nn.Module):
    """Draws numbers that do not depend on the input, which a trace keeps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(4)


class Dropping(nn.Module):
    """Asks whether it is in training, which `prepare_qat_fx` wants when it traces."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self.fc(x), 0.5, self.training)


@pytest.mark.parametrize(
    ("subject", "mode", "reason"),
    [
        (
            Branching,
            "static",
            "torch.fx cannot trace this model: TraceError: symbolically traced variables",
        ),
        (
            Counting,
            "dynamic",
            "torch.fx cannot trace this model: RuntimeError: 'len' is not supported in",
        ),
        (Drawing, "static", "torch.fx traces this model, but the trace gives another output"),
        (Dropping, "qat", "torch.fx traces this model, but the trace gives another output"),
        (nn.Dropout, "dynamic", "fx dynamic finds nothing to quantize"),
    ],
)
def test_model_that_fx_cannot_quantize_is_unsupported(
    subject: type[nn.Module], mode: Mode, reason: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        Fx().calibrate(subject().eval(), quantization(mode=mode), given(DATA))

    assert caught.value.reason.startswith(reason)
    assert len(caught.value.reason) < 400


def test_model_that_asks_whether_it_is_in_training_is_quantized_where_the_trace_is_not() -> None:
    assert isinstance(Fx().calibrate(Dropping().eval(), quantization(), given(DATA)), Calibrated)


class Counted(Fx):
    """The FX flow, counting what it is asked for."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def calibrate(self, *args: Any) -> Any:
        self.calls["calibrate"] += 1
        return super().calibrate(*args)

    def variant(self, *args: Any) -> Any:
        self.calls[str(args[1])] += 1
        return super().variant(*args)


def walked(name: str, mode: Mode, edges: list[Edge]) -> list[CellResult]:
    scheme = {"flow": "fx", "mode": mode, "edges": edges}
    subject = {
        "zoo": name,
        "seeds": {"stream": 67},
        "data": {"calibration": {"shape": [2048, 3, 15, 15]}, "evaluation": {"shape": [10, 3, 15, 15]}},
    }
    cells = [{"cell": engine, "scheme": scheme, "lane": {"engine": engine}} for engine in ENGINES]
    task = ShardTask.model_validate({"subject": subject, "cells": cells})
    return [event.result for event in walk(task) if isinstance(event, CellFinished)]


def test_engines_share_calibration_and_what_no_engine_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Counted()
    monkeypatch.setitem(FLOWS, "fx", flow)
    ended = walked("multiple-ops", "qat", ["float32->reference", "reference->true", "fake->true"])

    assert [result.status for result in ended] == [CellStatus.DONE] * len(ENGINES)
    assert flow.calls == {"calibrate": 1, "fake": 1, "reference": 1, "true": len(ENGINES)}


@pytest.mark.parametrize(("name", "mode"), FIGURES)
def test_every_engine_gives_the_known_figures(name: str, mode: Mode) -> None:
    for result in walked(name, mode, list(FIGURES[name, mode])):
        own = OF_QNNPACK.get((name, mode), {}) if result.cell == "qnnpack" else {}
        expected = {**FIGURES[name, mode], **own}
        assert result.status is CellStatus.DONE, result.traceback
        for measurement in result.measurements:
            figure, expected_db = measurement.figure, expected[measurement.edge]
            if expected_db == EXACT:
                assert figure.kind is FigureKind.EXACT
            elif expected_db == FLOAT32:
                assert figure.value is not None
                assert figure.value > FLOAT32
            else:
                assert figure.value == pytest.approx(expected_db, abs=1e-3)
