"""The bench of operators: torch's own kernels through the runner, and planted kernels that are wrong."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
import torch
from torch import Tensor

from noisefloor.contract.benchmark import OPERATORS, Operator
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import KERNEL, OUTPUT, TIES, CellResult
from noisefloor.contract.policy import Policy
from noisefloor.gate.judge import Evidence, judge_measurement
from noisefloor_workers.numerics.affine import ties
from noisefloor_workers.runner import operators
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.supervisor import Runner
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.operands import operands

EXACT = Figure.of(FigureKind.EXACT)
PER_TENSOR, PER_CHANNEL = "fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"
LEARNABLE_PER_TENSOR = "fake_quantize_learnable_per_tensor_affine"
LEARNABLE_PER_CHANNEL = "fake_quantize_learnable_per_channel_affine"
FAKES = (PER_TENSOR, PER_CHANNEL, LEARNABLE_PER_TENSOR, LEARNABLE_PER_CHANNEL)
FORWARD = {"flow": "ops", "mode": "forward", "edges": ["float64->fake", "fake->true"]}
BACKWARD = {"flow": "ops", "mode": "backward", "edges": ["float64->fake"]}
TRUE = {"flow": "ops", "mode": "forward", "edges": ["float64->true"]}
ODD_ZERO_POINTS = {"scales": [1.0, 0.5, 2.0], "zero_points": [0, 3, 5]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(operators, "MIN_RUN_TIME_S", 0.001)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def task(name: str, *schemes: dict[str, Any], engine: str = "aten", **arguments: Any) -> ShardTask:
    """Cells of one operator on a small image; per channel along its channels."""
    given: dict[str, Any] = {"name": name, "shape": [1, 3, 32, 32], **arguments}
    if "per_channel" in name:
        given.setdefault("axis", 1)
    cells = [
        {"cell": str(number), "scheme": scheme, "lane": {"engine": engine}}
        for number, scheme in enumerate(schemes)
    ]
    return ShardTask.model_validate({"subject": {"operator": given}, "cells": cells})


def measured(name: str, *schemes: dict[str, Any], **arguments: Any) -> list[CellResult]:
    """The cells, measured in this process by the runner's walk."""
    found = walk(task(name, *schemes, **arguments))
    return [event.result for event in found if isinstance(event, CellFinished)]


def figure(result: CellResult, edge: str, metric: str = "sqnr_db", place: str = OUTPUT) -> Figure:
    assert result.status is CellStatus.DONE, result.reason
    (found,) = (m.figure for m in result.measurements if (m.edge, m.metric, m.place) == (edge, metric, place))
    return found


def number(result: CellResult, edge: str, metric: str, place: str = OUTPUT) -> float:
    value = figure(result, edge, metric, place).value
    assert value is not None
    return value


@pytest.mark.parametrize("values", ["unit", "ties"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", FAKES)
def test_a_fake_quantization_of_scale_one_is_exact_in_both_directions(
    name: str, bits: int, values: str
) -> None:
    forward, backward = measured(name, FORWARD, BACKWARD, bits=bits, values=values)
    for edge in FORWARD["edges"]:
        assert figure(forward, edge) == EXACT
        assert number(forward, edge, "differing_share") == 0
        assert number(forward, edge, "max_lsb") == 0
    if "learnable" not in name:
        assert figure(backward, "float64->fake") == EXACT
        return
    assert figure(backward, "float64->fake", place="output['input']") == EXACT
    for learned in ("scale", "zero_point"):
        found = figure(backward, "float64->fake", place=f"output['{learned}']")
        assert found.kind is FigureKind.EXACT or (found.value or 0) > 110  # a sum in float32


@pytest.mark.parametrize("dtype", ["quint8", "qint8", "qint32"])
@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("quantize_per_tensor", None),
        ("dequantize_per_tensor", None),
        *((f"{way}quantize_per_channel", axis) for way in ("", "de") for axis in (0, 1, 2)),
    ],
)
def test_quantizing_and_dequantizing_are_exact_with_a_zero_point_of_zero(
    name: str, axis: int | None, dtype: str
) -> None:
    for_channels = {} if axis is None else {"axis": axis, "scales": [1.0, 0.5]}
    (found,) = measured(name, TRUE, shape=[4, 16, 32], dtype=dtype, **for_channels)
    assert figure(found, "float64->true") == EXACT
    assert number(found, "float64->true", "max_lsb") == 0


def test_the_module_quantizes_as_its_observer_says() -> None:
    forward, backward = measured("FakeQuantize", FORWARD, BACKWARD, values="unit")
    assert number(forward, "float64->fake", "differing_share") < 0.001
    assert number(forward, "float64->fake", "max_lsb") < 1.5
    assert figure(forward, "fake->true") == EXACT
    assert figure(backward, "float64->fake") == EXACT


def test_a_real_child_measures_operators(runner: Runner) -> None:
    """The time is that of the machine: here it is only said to be one."""
    (found,) = runner.run(task(LEARNABLE_PER_CHANNEL, BACKWARD), lambda _: True)
    assert found.executed_engine == "aten"
    assert found.environment is not None
    cost = {m.metric: m.figure.value or 0.0 for m in found.measurements if m.place == KERNEL}
    assert set(cost) == {"time_median_s", "time_iqr_s", "bandwidth_gb_per_s"}
    assert cost["time_median_s"] > 0
    assert cost["time_iqr_s"] >= 0
    assert cost["bandwidth_gb_per_s"] > 0


def test_bandwidth_counts_each_tensor_once() -> None:
    (found,) = measured("quantize_per_tensor", TRUE, shape=[1000])
    seconds = number(found, "float64->true", "time_median_s", KERNEL)
    moved = number(found, "float64->true", "bandwidth_gb_per_s", KERNEL) * 1e9 * seconds
    assert moved == pytest.approx(1000 * (4 + 1))


def test_only_the_accuracy_of_an_operator_is_judged() -> None:
    (found,) = measured(PER_TENSOR, {**FORWARD, "floor_db": {"float64->fake": 60}})
    policy = Policy.model_validate({"rules": {"max_drop_db": 0.5}})
    judged = {
        m.metric
        for m in found.measurements
        if judge_measurement(
            policy,
            Evidence(edge=m.edge, place=m.place, metric=m.metric, figure=m.figure),
            today=date(2026, 1, 1),
        )
        is not None
    }
    assert judged == {"sqnr_db"}


def test_fake_and_true_differ_at_ties_where_the_zero_point_is_odd() -> None:
    """Quantizing adds the zero point before it rounds half to even, fake quantization after."""
    (found,) = measured(PER_CHANNEL, FORWARD, **ODD_ZERO_POINTS)
    assert figure(found, "float64->fake") == EXACT
    assert number(found, "fake->true", "max_lsb") == 1
    of_ties = number(found, "fake->true", "differing_share", TIES)
    assert 0.5 < of_ties < 0.8  # two of three channels; ties beyond the bounds are clamped alike


def test_a_learnable_gradient_with_a_negative_zero_point_is_found_wrong_per_tensor() -> None:
    """Torch 2.13 rounds that zero point by adding a half and cutting off, which is for positive ones."""
    signed = {"dtype": "qint8", "bits": 4, "zero_points": [-4]}
    (per_tensor,) = measured(LEARNABLE_PER_TENSOR, BACKWARD, **signed)
    (per_channel,) = measured(LEARNABLE_PER_CHANNEL, BACKWARD, **signed)
    assert number(per_tensor, "float64->fake", "sqnr_db") < 0
    assert number(per_channel, "float64->fake", "sqnr_db") > 15
    wrong, right = (
        number(found, "float64->fake", "differing_share", "output['input']")
        for found in (per_tensor, per_channel)
    )
    assert wrong > 10 * right


def test_a_learnable_gradient_rounds_otherwise_than_its_forward_pass_with_an_odd_zero_point() -> None:
    """Torch 2.13 adds the zero point before it rounds in this gradient alone."""
    (learnable,) = measured(LEARNABLE_PER_CHANNEL, BACKWARD, zero_points=[3])
    (original,) = measured(PER_CHANNEL, BACKWARD, zero_points=[3])
    assert number(learnable, "float64->fake", "differing_share", TIES) > 0
    assert figure(original, "float64->fake") == EXACT


def test_the_same_seed_draws_the_same_operands_and_another_seed_others() -> None:
    operator = Operator(name=PER_TENSOR, shape=(64,))
    first, again, other = (operands(operator, seed) for seed in (3, 3, 4))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.upstream, again.upstream)
    assert not torch.equal(first.x, other.x)


def test_values_lie_on_ties_beside_them_at_the_bounds_and_beyond() -> None:
    operator = Operator(name="quantize_per_tensor", shape=(4096,), zero_points=(128,))
    given = operands(operator, seed=3)
    on_tie = ties(given.x, scale=given.scale)
    assert 0.2 < on_tie.double().mean() < 0.3
    beside = given.x[~on_tie]
    assert ((beside % 1 - 0.5).abs() < 1e-4).double().mean() > 0.25
    position = given.x + 128
    assert (position < -1).any()
    assert (position > 256).any()
    bounds = {-0.5, 0.5, 254.5, 255.5}
    assert bounds <= set(position[on_tie].tolist())


def scale_off(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    return ((x / scale).round() + zero_point).clamp(low, high).sub(zero_point) * (scale * 1.01)


def half_away(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    rounded = torch.where(x < 0, (x / scale - 0.5).ceil(), (x / scale + 0.5).floor())
    return (rounded + zero_point).clamp(low, high).sub(zero_point) * scale


@pytest.mark.parametrize(
    ("kernel", "most_db", "least_lsb", "tie_share"),
    [(scale_off, 45, 1.2, 0.9), (half_away, 60, 1.0, 0.4)],
)
def test_a_planted_forward_kernel_is_reported_wrong(
    kernel: Callable[..., Tensor],
    most_db: float,
    least_lsb: float,
    tie_share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, PER_TENSOR, kernel)
    (found,) = measured(PER_TENSOR, FORWARD, zero_points=[4])
    for edge in FORWARD["edges"]:
        assert number(found, edge, "sqnr_db") < most_db
        assert number(found, edge, "max_lsb") >= least_lsb
        assert number(found, edge, "differing_share", TIES) > tie_share


def test_a_planted_gradient_mask_that_is_off_by_one_is_reported_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class OffByOne(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, high: int) -> Tensor:
            ctx.save_for_backward(x)
            ctx.high = high
            return x.round().clamp(0, high)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
            (x,) = ctx.saved_tensors
            return gradients[0] * ((x.round() >= 0) & (x.round() < ctx.high)), None

    monkeypatch.setattr(torch, PER_TENSOR, lambda x, *given: OffByOne.apply(x, given[-1]))
    (found,) = measured(PER_TENSOR, BACKWARD, bits=4)
    assert number(found, "float64->fake", "sqnr_db") < 25
    assert 0.02 < number(found, "float64->fake", "differing_share") < 0.1


def test_a_kernel_that_takes_another_channels_scale_is_reported_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = torch.fake_quantize_per_channel_affine

    def wrong(x: Tensor, scale: Tensor, *given: Any) -> Tensor:
        return right(x, scale.roll(1), *given)

    monkeypatch.setattr(torch, PER_CHANNEL, wrong)
    (found,) = measured(PER_CHANNEL, FORWARD, scales=[1.0, 0.5, 2.0])
    assert number(found, "float64->fake", "sqnr_db") < 20


@pytest.mark.parametrize("zero_point_dtype", ["int32", "float32", "float16"])
@pytest.mark.parametrize("name", [*FAKES, "quantize_per_tensor", "quantize_per_channel"])
def test_every_dtype_of_zero_points_is_taken_forward(name: str, zero_point_dtype: str) -> None:
    scheme = FORWARD if name in FAKES else TRUE
    (found,) = measured(name, scheme, zero_point_dtype=zero_point_dtype)
    assert figure(found, scheme["edges"][0]) == EXACT


@pytest.mark.parametrize("zero_point_dtype", ["int32", "float16"])
@pytest.mark.parametrize("name", [LEARNABLE_PER_TENSOR, LEARNABLE_PER_CHANNEL])
def test_what_torch_does_not_take_is_unsupported_in_its_words(name: str, zero_point_dtype: str) -> None:
    (found,) = measured(name, BACKWARD, zero_point_dtype=zero_point_dtype)
    assert found.status is CellStatus.UNSUPPORTED
    assert found.reason is not None
    assert found.reason.startswith(f"{zero_point_dtype} zero points: Expected zero_point")


@pytest.mark.parametrize(
    ("name", "scheme", "engine", "reason"),
    [
        ("quantize_per_tensor", BACKWARD, "aten", "quantize_per_tensor has no gradient"),
        ("quantize_per_tensor", FORWARD, "aten", "has no edge float64->fake; it has: float64->true"),
        (PER_TENSOR, {**BACKWARD, "edges": ["fake->true"]}, "aten", "has no edge fake->true"),
        (PER_TENSOR, FORWARD, "x86", "ops does not run on engine x86; it runs on: aten"),
        (
            PER_TENSOR,
            {"flow": "eager", "mode": "qat", "edges": ["fake->true"]},
            "aten",
            "measured with the flow ops, not with eager",
        ),
    ],
)
def test_what_an_operator_does_not_have_is_unsupported(
    name: str, scheme: dict[str, Any], engine: str, reason: str
) -> None:
    (found,) = measured(name, scheme, engine=engine)
    assert found.status is CellStatus.UNSUPPORTED
    assert reason in (found.reason or "")


def test_another_error_of_torch_is_no_lack_of_support(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("the kernel is broken")

    monkeypatch.setattr(torch, PER_TENSOR, broken)
    (found,) = measured(PER_TENSOR, FORWARD)
    assert (found.status, found.reason) == (CellStatus.FAILED, "RuntimeError: the kernel is broken")


def test_an_operator_that_ends_its_process_costs_its_own_cell(runner: Runner) -> None:
    """Torch 2.13 has no code for float zero points of 32-bit codes, and runs into it."""
    crashing = task("quantize_per_channel", TRUE, dtype="qint32", zero_point_dtype="float32")
    (found,) = runner.run(crashing, lambda _: True)
    assert found.status is CellStatus.CRASHED
    assert "signal 4" in (found.reason or "") or "SIGILL" in (found.reason or "")


def test_every_operator_of_the_contract_runs() -> None:
    for name in OPERATORS:
        scheme = FORWARD if Operator.model_construct(name=name).is_fake else TRUE
        (found,) = measured(name, scheme)
        assert found.status is CellStatus.DONE, found.reason
