"""Odd models in every flow: a typed end with its reason, or a figure that says what kind it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk

PT2E = {"flow": "pt2e", "mode": "static", "granularity": "per_channel", "edge": "float32->reference"}
SCHEMES: dict[str, tuple[dict[str, Any], str]] = {
    "eager": ({"flow": "eager", "mode": "static", "edge": "float32->true"}, "x86"),
    "fx": ({"flow": "fx", "mode": "static", "edge": "float32->true"}, "x86"),
    "minmax_fx": ({"flow": "minmax_fx", "mode": "static", "edge": "float32->true"}, "x86"),
    "torchao": ({"flow": "torchao", "mode": "dynamic", "edge": "float32->true"}, "aten"),
    "pt2e": (PT2E, "inductor"),
}
NO_KERNEL = "is called on a quantized tensor, for which torch has no kernel"
ANOTHER = "gives another output"
NOTHING = "nothing to quantize"
NAN = "layer '1': 1 of 16 values of its weight are not finite"
UNSUPPORTED: dict[str, dict[str, str]] = {
    "branching": {
        "eager": NO_KERNEL,
        "fx": "cannot trace",
        "minmax_fx": "cannot trace",
        "pt2e": "cannot export",
    },
    "classes": {"eager": f"aten::argmax.out {NO_KERNEL}"},
    "zeros": {"eager": "a quantized tensor meets a float one"},
    "shifting": {"fx": ANOTHER, "minmax_fx": ANOTHER, "pt2e": ANOTHER},
    "reading": {"eager": "in layer 0: the model reads weight.dtype of a quantized Linear, which keeps its"},
    "unweighted": {
        "eager": f"aten::cos.out {NO_KERNEL}",
        "fx": NOTHING,
        "minmax_fx": NOTHING,
        "torchao": "this model has none",
        "pt2e": NOTHING,
    },
}
KINDS = {
    "classes": FigureKind.NOT_APPLICABLE,
    "zeros": FigureKind.EXACT,
    "shifting": FigureKind.MISMATCH,
    "branching": FigureKind.FINITE,
    "reading": FigureKind.FINITE,
}


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def measured(model: str, flow: str, **data: Any) -> CellResult:
    scheme, engine = SCHEMES[flow]
    inputs = {"shape": [16, 4], **data}
    task = ShardTask.model_validate(
        {
            "subject": {
                "import": f"subjects_under_test.odd:{model}",
                "data": {"calibration": inputs, "evaluation": inputs},
            },
            "cells": [{"cell": flow, "scheme": scheme, "lane": {"engine": engine}}],
            "import_allow": ["subjects_under_test"],
        }
    )
    (result,) = [event.result for event in walk(task) if isinstance(event, CellFinished)]
    return result


@pytest.mark.parametrize("flow", SCHEMES)
@pytest.mark.parametrize("model", UNSUPPORTED)
def test_what_a_flow_cannot_do_is_said_and_what_it_can_is_typed(model: str, flow: str) -> None:
    result = measured(model, flow)
    reason = UNSUPPORTED[model].get(flow)

    if reason is not None:
        assert (result.status, result.measurements) == (CellStatus.UNSUPPORTED, ())
        assert result.reason is not None
        assert reason in result.reason
        return
    assert result.status is CellStatus.DONE, result.reason
    pooled = result.measurements[0]
    assert pooled.figure.kind is KINDS[model]
    assert (pooled.match_rate is not None) == (model == "classes")
    assert (pooled.note is not None) == (model == "shifting")
    if model == "zeros":
        assert pooled.sums is not None
        assert pooled.sums.zero_output


def test_an_attribute_that_is_not_of_a_packed_layer_fails() -> None:
    result = measured("lacking", "eager")

    assert result.status is CellStatus.FAILED
    assert result.reason == "AttributeError: 'Tensor' object has no attribute 'absent'"


def test_engine_that_was_changed_while_the_cell_ran_fails_it() -> None:
    before = torch.backends.quantized.engine
    result = measured("flipping", "eager")

    assert result.status is CellStatus.FAILED
    assert "the engine was x86 before the cell and qnnpack after it" in (result.reason or "")
    assert torch.backends.quantized.engine == before


@pytest.mark.parametrize("flow", SCHEMES)
def test_weights_that_are_not_finite_fail_with_the_layers_name(flow: str) -> None:
    result = measured("not_a_number", flow)

    assert result.status is CellStatus.FAILED
    assert result.reason == f"CalibrationError: {NAN}"


@pytest.mark.parametrize("flow", SCHEMES)
def test_constant_inputs_have_a_figure(flow: str) -> None:
    result = measured("plain", flow, low=0.5, high=0.5)

    assert result.status is CellStatus.DONE, result.reason
    assert result.measurements[0].figure.kind is FigureKind.FINITE
