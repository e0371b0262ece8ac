"""The comparisons that numerics scripts of the eager flow make, on every engine, to the digit."""

from collections.abc import Iterator

import pytest
import torch

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.scheme import Scheme
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk

ENGINES = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
IMAGE = [3, 15, 15]
MODEL_FIRST = ["model", "calibration", "evaluation"]
DATA_FIRST = ["calibration", "evaluation", "model"]

COMPARISONS = {
    "per tensor": (
        "multiple-ops",
        42,
        MODEL_FIRST,
        (1024, 1),
        "static",
        "per_tensor",
        "float32->true",
        41.496,
    ),
    "per channel": (
        "multiple-ops",
        67,
        MODEL_FIRST,
        (2048, 10),
        "static",
        "per_channel",
        "float32->true",
        39.976,
    ),
    "fake": (
        "multiple-ops-no-avgpool",
        67,
        MODEL_FIRST,
        (2048, 10),
        "qat",
        "per_tensor",
        "float32->fake",
        36.365,
    ),
    "true": ("multiple-ops-no-avgpool", 67, MODEL_FIRST, (2048, 10), "qat", "per_tensor", "fake->true", None),
    "weight only": (
        *("multiple-ops-no-avgpool", 67, DATA_FIRST, (2048, 10)),
        *("weight_only", "per_tensor", "float32->fake", 48.796),
    ),
    "activation only": (
        *("multiple-ops-no-avgpool", 67, DATA_FIRST, (2048, 10)),
        *("activation_only", "per_tensor", "float32->fake", 39.932),
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(name: str) -> list[CellResult]:
    zoo, seed, order, (calibration, evaluation), mode, granularity, edge, _ = COMPARISONS[name]
    scheme = {"flow": "eager", "mode": mode, "granularity": granularity, "edge": edge}
    task = ShardTask.model_validate(
        {
            "subject": {
                "zoo": zoo,
                "seeds": {"stream": seed, "order": order},
                "data": {
                    "calibration": {"shape": [calibration, *IMAGE]},
                    "evaluation": {"shape": [evaluation, *IMAGE]},
                },
            },
            "cells": [
                CellTask(cell=engine, scheme=Scheme.model_validate(scheme), lane={"engine": engine})
                for engine in ENGINES
            ],
        }
    )
    return [event.result for event in walk(task) if isinstance(event, CellFinished)]


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_engine_gives_the_known_figure(name: str) -> None:
    expected_db = COMPARISONS[name][-1]
    results = run(name)

    assert [result.cell for result in results] == ENGINES
    for result in results:
        assert result.status is CellStatus.DONE, result.traceback
        assert result.executed_engine == result.cell
        (measurement,) = [m for m in result.measurements if m.place == "output"]
        if expected_db is None:
            assert measurement.figure.kind is FigureKind.EXACT
        else:
            assert measurement.figure.value == pytest.approx(expected_db, abs=1e-3)
