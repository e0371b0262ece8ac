"""Sensitivity: each layer alone, held against a conversion of its own; the mixed config is the smallest."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure
from noisefloor.contract.lane import Lane
from noisefloor.contract.layers import Sensitivity
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.scheme import Edge, Mode, Scheme
from noisefloor_workers.flows import Unsupported
from noisefloor_workers.runner.bench import Bench
from noisefloor_workers.runner.sensitivity import worth
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.load import LoadedSubject

LAYERS = ("0", "2", "4", "6")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject() -> LoadedSubject:
    """Four linear layers; the third is hard to quantize: one weight is a hundred times the others."""
    torch.manual_seed(1)
    parts = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Linear(16, 4))
    with torch.no_grad():
        model[4].weight[0, 0] *= 100
    data = [ModelInputs(args=(torch.rand(n, 16),)) for n in (64, 16)]
    return LoadedSubject(model=model.eval(), calibration=data[0], evaluation=data[1], inputs_digest="0" * 32)


def measured(subject: LoadedSubject, target_db: float | None = None, **scheme: Any) -> CellResult:
    asked = Scheme.model_validate(scheme)
    bench = Bench(subject, Analysis(layers=False, target_db=target_db))
    task = CellTask(cell="0", scheme=asked, lane=Lane(engine="x86"))
    return bench.measure(task, bench.calibration(asked.quantization))


def figure(subject: LoadedSubject, **scheme: Any) -> Figure:
    return measured(subject, **scheme).measurements[0].figure


def sensitivity(subject: LoadedSubject, target_db: float, **scheme: Any) -> Sensitivity:
    found = measured(subject, target_db, **scheme).sensitivity
    assert found is not None
    assert found.unavailable is None
    return found


def others(*layers: str) -> list[str]:
    return [layer for layer in LAYERS if layer not in layers]


WEIGHT_ONLY: dict[str, Any] = {"flow": "eager", "mode": "weight_only", "edge": "float32->fake"}


def test_one_layer_alone_is_what_a_conversion_of_that_layer_gives(subject: LoadedSubject) -> None:
    """Weights alone are quantized, so that nothing but the layer itself differs between the two ways."""
    found = sensitivity(subject, 20.0, **WEIGHT_ONLY)

    assert {layer.name for layer in found.layers} == set(LAYERS)
    assert found.layers[0].name == "4"
    for layer in found.layers:
        alone = figure(subject, **WEIGHT_ONLY, float_layers=others(layer.name))
        without = figure(subject, **WEIGHT_ONLY, float_layers=[layer.name])
        assert layer.quantize_one.value == pytest.approx(alone.value, abs=1e-3)
        assert layer.skip_one.value == pytest.approx(without.value, abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_mixed_config_is_the_smallest_that_reaches_the_target(subject: LoadedSubject, count: int) -> None:
    figures = {
        kept: worth(figure(subject, **WEIGHT_ONLY, float_layers=list(kept)))
        for size in range(len(LAYERS) + 1)
        for kept in combinations(LAYERS, size)
    }
    best = max(value for kept, value in figures.items() if len(kept) == count)
    target_db = best - 0.01
    assert min(len(kept) for kept, value in figures.items() if value >= target_db) == count

    found = sensitivity(subject, target_db, **WEIGHT_ONLY).mixed

    assert found is not None
    assert found.measured is not None
    assert (found.reached, len(found.float_layers)) == (True, count)
    assert worth(found.measured) == pytest.approx(figures[tuple(sorted(found.float_layers))], abs=1e-6)


@pytest.mark.parametrize(
    ("flow", "mode", "edge"),
    [
        ("eager", "static", "float32->true"),
        ("eager", "dynamic", "float32->true"),
        ("eager", "qat", "float32->true"),
        ("fx", "static", "float32->true"),
        ("fx", "qat", "float32->reference"),
        ("fx", "dynamic", "float32->true"),
    ],
)
def test_what_is_promised_is_measured_again_by_whoever_asks(
    subject: LoadedSubject, flow: str, mode: Mode, edge: Edge
) -> None:
    scheme = {"flow": flow, "mode": mode, "edge": edge}
    plain = figure(subject, **scheme)
    assert plain.value is not None
    found = sensitivity(subject, plain.value + 1.0, **scheme).mixed

    assert found is not None
    assert found.reached
    assert found.measured == figure(subject, **scheme, float_layers=list(found.float_layers))


def test_target_that_is_reached_needs_no_mixed_config(subject: LoadedSubject) -> None:
    assert sensitivity(subject, -100.0, **WEIGHT_ONLY).mixed is None


def test_target_out_of_reach_is_said_to_be(subject: LoadedSubject) -> None:
    found = sensitivity(subject, 900.0, flow="eager", mode="static", edge="float32->true").mixed

    assert found is not None
    assert not found.reached
    assert set(found.float_layers) == set(LAYERS)


@pytest.mark.parametrize("flow", ["eager", "fx"])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_name_that_is_no_layer_is_refused_with_the_nearest(
    subject: LoadedSubject, flow: str, mode: Mode
) -> None:
    model = nn.Sequential()
    model.add_module("encoder", subject.model)
    named = LoadedSubject(
        model=model, calibration=subject.calibration, evaluation=subject.evaluation, inputs_digest="0" * 32
    )
    with pytest.raises(Unsupported, match=r"names encoder\.9, which is no layer .* did you mean encoder\."):
        figure(named, flow=flow, mode=mode, edge="float32->true", float_layers=["encoder.9"])
