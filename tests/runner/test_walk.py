"""The walk: what cells share, in which order they are taken, and how each ends."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.flows import FLOWS
from noisefloor_workers.flows.eager import Eager
from noisefloor_workers.runner import bench, calibration
from noisefloor_workers.runner.messages import CellFinished, CellStarted, ShardTask, Step, SubjectStarted
from noisefloor_workers.runner.walk import walk

QAT = {"flow": "eager", "mode": "qat", "edges": ["float32->fake", "fake->true"]}
STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true"}


@pytest.fixture(autouse=True)
def _one_thread(importable: Path) -> Iterator[None]:
    assert importable
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def results(task: ShardTask) -> list[CellResult]:
    return [event.result for event in walk(task) if isinstance(event, CellFinished)]


def cells(*schemes: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"cell": f"{engine} {index}", "scheme": scheme, "lane": {"engine": engine}}
        for engine in ("onednn", "x86")
        for index, scheme in enumerate(schemes)
    ]


class Counting(Eager):
    """The eager flow, counting what it is asked for."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def calibrate(self, *args: Any) -> Any:
        self.calls[f"calibrate {args[1].mode}"] += 1
        return super().calibrate(*args)

    def variant(self, *args: Any) -> Any:
        self.calls[f"{args[0].quantization.mode} {args[1]}"] += 1
        return super().variant(*args)


def test_engines_share_reference_calibration_and_fake_output(
    shard: Callable[..., ShardTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, passes = Counting(), Counter()
    monkeypatch.setitem(FLOWS, "eager", flow)
    forward = bench.forward

    def counting_forward(model: Any, inputs: Any) -> Any:
        passes[type(model).__name__] += 1
        return forward(model, inputs)

    for module in (bench, calibration):
        monkeypatch.setattr(module, "forward", counting_forward)
    ended = results(shard("stacks:linear", cells=cells(STATIC, QAT)))

    assert [result.status for result in ended] == [CellStatus.DONE] * 4
    assert flow.calls == {
        "calibrate static": 1,
        "calibrate qat": 1,
        "qat fake": 1,
        "static true": 2,
        "qat true": 2,
    }
    assert passes == {"Sequential": 2, "Stubs": 5}  # the float model in float32 and in float64


def test_failed_calibration_is_not_tried_again(
    shard: Callable[..., ShardTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Counting()
    monkeypatch.setitem(FLOWS, "eager", flow)
    ended = results(shard("stacks:linear", args={"weight": 3e38}, cells=cells(STATIC)))
    again = results(shard("stacks:mixed"))

    assert [result.status for result in ended] == [CellStatus.DONE] * 2
    assert {(result.status, result.reason) for result in again} == {
        (CellStatus.FAILED, "CalibrationError: layer 'unused': its observer saw no data during calibration")
    }
    assert flow.calls["calibrate static"] == 2


def test_events_tell_what_is_done_one_quantization_after_another(shard: Callable[..., ShardTask]) -> None:
    events = list(walk(shard("stacks:linear", cells=cells(STATIC, QAT))))

    assert isinstance(events[0], SubjectStarted)
    assert events[1] == Step(text="loading subjects_under_test.stacks:linear")
    assert [event.cell for event in events if isinstance(event, CellStarted)] == [
        "onednn 0",
        "x86 0",
        "onednn 1",
        "x86 1",
    ]
    assert Step(text="eager qat per_tensor on x86") in events


def test_result_carries_environment_engine_digest_and_step(shard: Callable[..., ShardTask]) -> None:
    result = results(shard("stacks:linear"))[1]

    assert result.environment is not None
    assert result.environment.torch == torch.__version__
    assert (result.environment.isa_cap, result.environment.threads) == ("native", 1)
    assert result.executed_engine == "onednn"
    assert result.inputs_digest is not None
    assert result.measurements[0].spread is not None
    assert result.measurements[0].spread.lsb is not None


def test_engine_is_put_back(shard: Callable[..., ShardTask]) -> None:
    before = torch.backends.quantized.engine
    results(shard("stacks:linear"))

    assert torch.backends.quantized.engine == before


def test_model_that_overwrites_its_input_and_output_is_measured_on_what_they_were(
    shard: Callable[..., ShardTask],
) -> None:
    ended = results(shard("stacks:overwriting"))

    assert [result.status for result in ended] == [CellStatus.DONE] * 3


@pytest.mark.parametrize(
    ("lane", "scheme", "reason"),
    [
        ({"engine": "x86", "isa": "avx2"}, STATIC, "isa avx2 is not in force in this process"),
        ({"engine": "x86", "threads": 7}, STATIC, "7 threads are not in force"),
        ({"engine": "x86"}, {**STATIC, "edge": "fake->true"}, "eager static has no variant fake"),
    ],
)
def test_what_cannot_be_done_is_unsupported_with_the_reason(
    shard: Callable[..., ShardTask], lane: dict[str, Any], scheme: dict[str, Any], reason: str
) -> None:
    (result,) = results(shard("stacks:linear", cells=[{"cell": "c", "scheme": scheme, "lane": lane}]))

    assert result.status is CellStatus.UNSUPPORTED
    assert result.reason is not None
    assert result.reason.startswith(reason)
    assert result.measurements == ()


def test_engine_that_the_build_lacks_is_unsupported(
    shard: Callable[..., ShardTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["qnnpack", "none"])
    ended = {result.cell: result for result in results(shard("stacks:linear"))}

    assert ended["qnnpack"].status is CellStatus.DONE
    assert ended["x86"].status is CellStatus.UNSUPPORTED
    assert ended["x86"].reason == "engine x86 is not in this build of torch here; it has: qnnpack"


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("raises", "ValueError: broken on purpose"),
        ("raises_unprintable", "UnprintableError: <its message raises RuntimeError>"),
        ("raises_dirt", "ValueError: nul  and surrogate ?"),
        ("exits", "SystemExit: 3"),
        ("interrupts", "KeyboardInterrupt"),
        ("recurses", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_a_model_raises_fails_its_cell_alone(
    shard: Callable[..., ShardTask], deed: str, reason: str
) -> None:
    ended = {result.cell: result for result in results(shard("misbehaving:build", args={"deed": deed}))}
    failed = ended.pop("onednn")

    assert {result.status for result in ended.values()} == {CellStatus.DONE}
    assert failed.status is CellStatus.FAILED
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert failed.traceback is not None
    assert "misbehaving.py" in failed.traceback
    assert len(failed.traceback.encode()) <= 16_384


def test_subject_that_cannot_be_run_ends_all_cells(shard: Callable[..., ShardTask]) -> None:
    ended = results(shard("misbehaving:build", args={"deed": "exits", "engine": "any"}))

    assert [(result.cell, result.status) for result in ended] == [
        (cell, CellStatus.FAILED) for cell in ("qnnpack", "onednn", "x86")
    ]


def test_import_that_is_not_allowed_ends_all_cells(shard: Callable[..., ShardTask]) -> None:
    ended = results(shard("stacks:linear", import_allow=[]))

    assert {result.status for result in ended} == {CellStatus.FAILED}
    assert {(result.reason or "").partition(":")[0] for result in ended} == {"ImportRefusedError"}


def test_task_survives_its_line(shard: Callable[..., ShardTask]) -> None:
    task = shard("stacks:linear")
    task = task.replace(subject=task.subject.replace(seeds=type(task.subject.seeds)(stream=42)))

    assert ShardTask.model_validate_json(task.line()) == task
    assert sys.getsizeof(task.line()) < 4096


def test_every_edge_of_the_chain_is_measured(shard: Callable[..., ShardTask]) -> None:
    """float64 → float32 → fake → true: the first link is float32's own floor."""
    scheme = {"flow": "eager", "mode": "qat", "edges": ["float64->float32", "float32->fake", "fake->true"]}
    task = shard("stacks:linear")
    cells = [{**cell.model_dump(), "scheme": scheme} for cell in task.cells]
    for result in results(task.replace(cells=cells)):
        figures = {m.edge: m.figure for m in result.measurements}
        assert list(figures) == scheme["edges"]
        assert figures["float64->float32"].value is None or figures["float64->float32"].value > 120
        assert figures["float32->fake"].value is not None
        assert figures["float32->fake"].value < 60


def test_operation_without_a_quantized_kernel_is_unsupported_and_named_with_its_layer(
    shard: Callable[..., ShardTask],
) -> None:
    for result in results(shard("stacks:residual", cells=cells(STATIC))):
        assert result.status is CellStatus.UNSUPPORTED
        assert result.reason == (
            "in layer block: aten::add.out is called on a quantized tensor, for which torch has no kernel"
        )


def test_error_names_the_innermost_layer(shard: Callable[..., ShardTask]) -> None:
    (result,) = results(shard("stacks:narrow", cells=cells(STATIC)[:1]))
    assert result.status is CellStatus.FAILED
    assert result.reason is not None
    assert result.reason.startswith(
        "in layer body.fc: RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    )


@pytest.mark.parametrize("mode", ["static", "qat"])
def test_embedding_is_refused_by_name_and_can_stay_float(shard: Callable[..., ShardTask], mode: str) -> None:
    numbers = {"shape": [8], "distribution": "integers", "high": 8}
    subject = {
        "import": "subjects_under_test.stacks:embedded",
        "data": {"calibration": numbers, "evaluation": numbers},
    }
    scheme = {"flow": "eager", "mode": mode, "edge": "float32->true"}
    refused, kept = [
        results(shard("stacks:embedded", subject=subject, cells=cells({**scheme, **more})[:1]))[0]
        for more in ({}, {"float_layers": ["table"]})
    ]
    assert refused.status is CellStatus.UNSUPPORTED
    assert refused.reason is not None
    assert "embedding 'table'" in refused.reason
    assert kept.status is CellStatus.DONE
    assert kept.measurements[0].figure.value is not None
