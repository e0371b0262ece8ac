"""The runner's own life: it starts, stops, starts again, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noisefloor_workers.runner.link import environment_for
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner, RunnerUnavailable

PATIENCE_S = 60.0
Shard = Callable[..., ShardTask]

PARENT = """
import sys
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner
task = ShardTask.model_validate_json(sys.stdin.readline())
with Runner() as runner:
    def tell(progress):
        if runner.child_pid is not None:
            print(runner.server_pid, runner.child_pid, flush=True)
        return True
    list(runner.run(task, tell))
"""


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [below for child in found for below in descendants(child)]


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def gone(pids: list[int]) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while any(lives(pid) for pid in pids) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not any(lives(pid) for pid in pids)


def test_supervisor_imports_no_torch() -> None:
    code = "import sys, noisefloor_workers.runner.supervisor; print('torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert asked.stdout.strip() == "False"


def test_stop_kills_the_child_and_what_it_abandoned(runner: Runner, shard: Shard) -> None:
    seen: list[int] = []

    def stop_when_abandoned(_progress: str) -> bool:
        assert runner.server_pid is not None
        seen[:] = descendants(runner.server_pid)
        return len(seen) < 2

    task = shard("misbehaving:build", args={"deed": "abandons", "engine": "any"})
    results = list(runner.run(task, stop_when_abandoned))

    assert results == []
    assert len(seen) == 2
    assert not any(lives(pid) for pid in seen)
    assert runner.child_pid is None


def test_stop_is_heard_while_the_server_starts(shard: Shard) -> None:
    asked: list[str] = []

    def stop(progress: str) -> bool:
        asked.append(progress)
        return False

    with Runner(threads=2) as runner:
        results = list(runner.run(shard("stacks:linear", threads=2), stop))
        server = runner.server_pid

    assert results == []
    # torch starts in more than the second between two ticks, or is there at once
    assert len(asked) == 1
    assert server is not None
    assert not lives(server)


def test_generator_closed_early_ends_the_child(runner: Runner, shard: Shard) -> None:
    results = runner.run(shard("stacks:linear"), lambda _progress: True)
    next(results)
    child = runner.child_pid
    results.close()

    assert child is not None
    assert not lives(child)
    assert len(list(runner.run(shard("stacks:linear"), lambda _progress: True))) == 3


def test_closed_runner_leaves_no_process_and_no_descriptor(importable: Path, shard: Shard) -> None:
    assert importable
    before = descriptors()
    with Runner() as runner:
        results = runner.run(shard("stacks:linear"), lambda _progress: True)
        next(results)
        server, child = runner.server_pid, runner.child_pid
        assert server is not None
        assert child is not None
    results.close()

    assert not lives(server)
    assert not lives(child)
    assert server not in descendants(os.getpid())
    assert descriptors() == before


def test_nothing_survives_a_killed_parent(importable: Path, shard: Shard) -> None:
    assert importable
    task = shard("misbehaving:build", args={"deed": "loops", "engine": "any"})
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(task.line())
        parent.stdin.flush()
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert all(lives(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    assert len(pids) == 2
    assert gone(pids)


def test_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch on this worker')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with Runner() as runner, pytest.raises(RunnerUnavailable, match="ImportError: no torch on this worker"):
        runner.start()


def test_task_for_another_lane_is_refused(runner: Runner, shard: Shard) -> None:
    with pytest.raises(ValueError, match="the task is for avx2"):
        next(runner.run(shard("stacks:linear", isa="avx2"), lambda _progress: True))


def test_no_secret_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISEFLOOR_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")

    environment = environment_for("native", 3)

    assert environment.keys().isdisjoint({"NOISEFLOOR_DATABASE_URL", "ONEDNN_MAX_CPU_ISA"})
    assert (environment["OMP_NUM_THREADS"], environment["OPENBLAS_NUM_THREADS"]) == ("3", "1")
