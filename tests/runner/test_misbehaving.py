"""Models that attack their process: each costs its own cell, and nothing else, and nothing twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner

SHORT = {"cell_timeout_s": 3, "memory_gib": 0.5}
# enough for what is right to be right on a busy machine
LONG = {"cell_timeout_s": 60, "memory_gib": 0.5}
Shard = Callable[..., ShardTask]


def run(runner: Runner, task: ShardTask) -> dict[str, CellResult]:
    results = list(runner.run(task, lambda _progress: True))
    assert sorted(result.cell for result in results) == sorted(cell.cell for cell in task.cells)
    return {result.cell: result for result in results}


def costs_one_cell(runner: Runner, task: ShardTask) -> CellResult:
    """The result of the `onednn` cell, the others being done."""
    results = run(runner, task)
    misbehaved = results.pop("onednn")
    assert {cell: result.status for cell, result in results.items()} == {
        "qnnpack": CellStatus.DONE,
        "x86": CellStatus.DONE,
    }
    return misbehaved


def test_exception_comes_with_the_models_own_line(runner: Runner, shard: Shard) -> None:
    result = costs_one_cell(runner, shard("misbehaving:build", args={"deed": "raises"}))

    assert (result.status, result.reason) == (CellStatus.FAILED, "ValueError: broken on purpose")
    assert result.traceback is not None
    assert 'raise ValueError("broken on purpose")' in result.traceback


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("kills_itself", "the process was killed by SIGKILL"),
        ("leaves", "the process exited with code 0 before it was done"),
        ("segfaults", "the process was killed by SIGSEGV"),
    ],
)
def test_death_of_the_process_is_a_crash(runner: Runner, shard: Shard, deed: str, reason: str) -> None:
    result = costs_one_cell(runner, shard("misbehaving:build", args={"deed": deed}, limits=LONG))

    assert result.status is CellStatus.CRASHED
    assert result.reason == f"{reason}, at: eager static per_tensor on onednn"
    if deed == "segfaults":
        assert result.traceback is not None
        assert "in segfaults" in result.traceback


def test_death_while_loading_concerns_all_cells(runner: Runner, shard: Shard) -> None:
    results = run(runner, shard("misbehaving:build", args={"deed": "kills_itself", "engine": "any"}))

    assert {result.status for result in results.values()} == {CellStatus.CRASHED}
    assert {result.reason for result in results.values()} == {
        "the process was killed by SIGKILL, at: running subjects_under_test.misbehaving:build in float32"
    }


def test_endless_loop_times_out_and_is_not_tried_again(runner: Runner, shard: Shard) -> None:
    pids = set()
    task = shard("misbehaving:build", args={"deed": "loops"}, limits=SHORT)
    results = {}
    for result in runner.run(task, lambda _progress: pids.add(runner.child_pid) is None):
        results[result.cell] = result

    assert results["onednn"].status is CellStatus.TIMED_OUT
    assert results["onednn"].reason is not None
    assert results["onednn"].reason.startswith("the cell took longer than 3 s")
    assert results["x86"].status is CellStatus.DONE
    assert len(pids - {None}) <= 2


def test_endless_loading_ends_all_cells_at_once(runner: Runner, shard: Shard) -> None:
    task = shard("misbehaving:build", args={"deed": "loops", "engine": "any"}, limits={"cell_timeout_s": 1})
    results = run(runner, task)

    assert {result.status for result in results.values()} == {CellStatus.TIMED_OUT}
    assert {(result.reason or "").partition(" took")[0] for result in results.values()} == {
        "loading the subject"
    }


@pytest.mark.parametrize("deed", ["eats", "eats_shared"])
def test_hoarding_memory_is_out_of_memory(runner: Runner, shard: Shard, deed: str) -> None:
    result = costs_one_cell(runner, shard("misbehaving:build", args={"deed": deed}, limits=LONG))

    assert result.status is CellStatus.OUT_OF_MEMORY


@pytest.mark.parametrize("deed", ["prints", "forges"])
def test_what_a_model_writes_is_not_taken_for_results(runner: Runner, shard: Shard, deed: str) -> None:
    result = costs_one_cell(runner, shard("misbehaving:build", args={"deed": deed}, limits=LONG))

    assert result.status is CellStatus.DONE
    assert len(result.measurements) == 1


def test_weights_that_are_not_numbers_fail_with_the_layers_name(runner: Runner, shard: Shard) -> None:
    results = run(runner, shard("misbehaving:not_a_number"))

    assert {result.status for result in results.values()} == {CellStatus.FAILED}
    assert {result.reason for result in results.values()} == {
        "CalibrationError: layer 'fc': 16 of 16 values of its weight are not finite"
    }


def test_child_killed_from_outside_costs_no_cell(runner: Runner, shard: Shard, tmp_path: Path) -> None:
    marker = tmp_path / "linger"
    marker.touch()
    killed = []

    def kill_once(progress: str) -> bool:
        if progress.endswith("on onednn") and not killed:
            assert runner.child_pid is not None
            killed.append(runner.child_pid)
            os.kill(runner.child_pid, signal.SIGKILL)
            marker.unlink()
        return True

    task = shard("misbehaving:lingering", args={"path": str(marker)}, limits=LONG)
    results = list(runner.run(task, kill_once))

    assert len(killed) == 1
    assert [result.cell for result in results] == ["qnnpack", "onednn", "x86"]
    assert {result.status for result in results} == {CellStatus.DONE}
    assert {result.measurements[0].output_digest for result in results} == {
        results[0].measurements[0].output_digest
    }


def test_server_killed_from_outside_costs_no_cell(runner: Runner, shard: Shard, tmp_path: Path) -> None:
    marker = tmp_path / "linger"
    marker.touch()

    def kill_once(progress: str) -> bool:
        if progress.endswith("on onednn") and marker.exists():
            assert runner.server_pid is not None
            os.kill(runner.server_pid, signal.SIGKILL)
            marker.unlink()
        return True

    task = shard("misbehaving:lingering", args={"path": str(marker)}, limits=LONG)
    results = list(runner.run(task, kill_once))

    assert [result.cell for result in results] == ["qnnpack", "onednn", "x86"]
    assert {result.status for result in results} == {CellStatus.DONE}
