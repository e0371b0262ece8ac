"""Caps on the instruction set: one machine stands in for an older one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Isa
from noisefloor.contract.worker import Capabilities
from noisefloor.identity import environment_key
from noisefloor_workers.lanes import isa as caps
from noisefloor_workers.lanes.capabilities import probe
from noisefloor_workers.runner.link import environment_for
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner

SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
WIDE = {"calibration": {"shape": [64, 512]}, "evaluation": {"shape": [64, 512]}}


def sqnr_db(runner: Runner, isa: Isa, engine: str) -> dict[str, float]:
    """The positive stack's figures with 8-bit and with 7-bit activations."""
    cells = [
        {
            "cell": name,
            "scheme": {**SCHEME, "reduce_range": name == "reduced"},
            "lane": {"engine": engine, "isa": isa},
        }
        for name in ("full", "reduced")
    ]
    task = ShardTask.model_validate(
        {
            "subject": {"import": "subjects_under_test.stacks:positive_stack", "data": WIDE},
            "cells": cells,
            "import_allow": ["subjects_under_test"],
            "isa": isa,
        }
    )
    figures = {}
    for result in runner.run(task, lambda _progress: True):
        assert result.environment is not None, result.reason
        assert result.environment.isa_cap == isa
        value = result.measurements[0].figure.value
        assert value is not None
        figures[result.cell] = value
    return figures


@pytest.mark.parametrize("isa", get_args(Isa))
def test_cap_is_recognized_by_its_variables(isa: Isa) -> None:
    assert caps.isa_in_force(caps.cap_variables(isa)) == isa


def test_foreign_cap_is_none_of_ours() -> None:
    assert caps.isa_in_force({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}) is None


def test_cap_above_the_machine_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caps, "cpu_flags", lambda: frozenset({"sse4_1"}))

    assert caps.machine_isas() == ("native", "sse41")
    assert environment_for("avx2", 1).keys().isdisjoint(caps.VARIABLES)
    assert environment_for("sse41", 1)["ONEDNN_MAX_CPU_ISA"] == "SSE41"


@pytest.mark.skipif("avx512_vnni" not in caps.cpu_flags(), reason="saturation needs a VNNI machine to differ")
def test_cap_brings_back_saturation_and_reduced_range_avoids_it(runner: Runner, importable: Path) -> None:
    assert importable
    native = sqnr_db(runner, "native", "onednn")
    with Runner("avx2") as capped_runner:
        capped = {
            engine: sqnr_db(capped_runner, "avx2", engine) for engine in ("onednn", "fbgemm", "qnnpack")
        }

    assert native["full"] > native["reduced"] > 45
    assert capped["onednn"]["full"] < 25
    assert capped["fbgemm"]["full"] < 25
    assert capped["qnnpack"]["full"] == pytest.approx(native["full"], abs=1e-3)
    assert capped["onednn"]["reduced"] == pytest.approx(native["reduced"], abs=1e-3)


@pytest.fixture(scope="module")
def announced() -> Capabilities:
    """What a worker here says of itself."""
    return probe()


@pytest.mark.parametrize("isa", caps.machine_isas())
def test_what_a_worker_announces_is_what_its_children_measure_in(
    announced: Capabilities, shard: Callable[..., ShardTask], importable: Path, isa: Isa
) -> None:
    assert importable
    task = shard("stacks:linear", isa=isa, threads=2)
    with Runner(isa, threads=2) as runner:
        environment, *others = [result.environment for result in runner.run(task, lambda _progress: True)]
    assert environment is not None
    assert all(other == environment for other in others)
    assert environment.threads == 2
    assert announced.replace(threads=64).offers(environment)
    (offered,) = [one for one in announced.environments if one.isa_cap == isa]
    assert environment_key(offered.replace(threads=2)) == environment_key(environment)


@pytest.mark.skipif("sse41" not in caps.machine_isas(), reason="not an x86-64 machine")
def test_engine_without_code_for_the_cap_is_unsupported(
    importable: Path, shard: Callable[..., ShardTask]
) -> None:
    assert importable
    with Runner("sse41") as runner:
        results: dict[str, Any] = {
            result.cell: result for result in runner.run(shard("stacks:linear", isa="sse41"), lambda _: True)
        }

    assert results["onednn"].status is CellStatus.DONE
    assert results["x86"].status is CellStatus.UNSUPPORTED
    assert results["x86"].reason == "engine x86 rests on FBGEMM, which has no code below AVX2"
