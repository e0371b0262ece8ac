"""Noise: what moves without a cause is measured, and told from what does not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from noisefloor.contract.measurement import Measurement
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk

DYNAMIC = {"flow": "eager", "mode": "dynamic", "edges": ["float32->true", "float64->float32"]}
CELLS = [{"cell": "x86", "scheme": DYNAMIC, "lane": {"engine": "x86"}}]


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(task: ShardTask) -> list[Measurement]:
    (result,) = [event.result for event in walk(task) if isinstance(event, CellFinished)]
    return list(result.measurements)


def test_what_is_steady_has_no_spread(shard: Callable[..., ShardTask]) -> None:
    found = measured(shard("stacks:linear", cells=CELLS, analysis={"repeats": 3, "threads": [1, 2]}))[0].noise

    assert found is not None
    assert (found.runs, found.threads, found.distinct_outputs, found.spread_db) == (6, (1, 2), 1, 0.0)


@pytest.mark.parametrize(
    ("cause", "analysis", "runs", "distinct"),
    [
        ("passes", {"repeats": 4}, 4, 4),
        ("passes", {"repeats": 2, "threads": [2]}, 4, 4),
        ("threads", {"repeats": 4}, 4, 1),
        ("threads", {"repeats": 2, "threads": [2]}, 4, 2),
    ],
)
def test_what_moves_by_itself_or_with_the_threads_is_seen(
    shard: Callable[..., ShardTask], cause: str, analysis: dict[str, Any], runs: int, distinct: int
) -> None:
    task = shard("stacks:unsteady", args={"cause": cause}, cells=CELLS, analysis=analysis)
    figure, noise = next((m.figure, m.noise) for m in measured(task))

    assert noise is not None
    assert (noise.runs, noise.distinct_outputs) == (runs, distinct)
    assert noise.spread_db is not None
    assert (noise.spread_db > 0) == (distinct > 1)
    assert noise.lowest.value is not None
    assert figure.value is not None
    assert torch.get_num_threads() == 1


def test_noise_is_measured_only_where_it_is_asked_for(shard: Callable[..., ShardTask]) -> None:
    assert measured(shard("stacks:linear", cells=CELLS))[0].noise is None


def test_own_floor_is_float32_against_float64(shard: Callable[..., ShardTask]) -> None:
    quantized, precision = measured(shard("stacks:linear", cells=CELLS))

    assert quantized.own_floor == precision.figure
    assert precision.own_floor is None
    assert quantized.own_floor is not None
    assert quantized.own_floor.value is not None
    assert quantized.own_floor.value > 100


def test_model_that_is_bound_to_float32_has_no_own_floor(shard: Callable[..., ShardTask]) -> None:
    scheme = {**DYNAMIC, "edges": ["float32->true"]}
    (found,) = measured(shard("stacks:single", cells=[{**CELLS[0], "scheme": scheme}]))

    assert found.figure.value is not None
    assert found.own_floor is None
