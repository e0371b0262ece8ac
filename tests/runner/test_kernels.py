"""An operator in a runner's child: its cases are in a process of their own, which the child takes with it."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from noisefloor.contract.conformance import Verdict
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.conformance.given import Givens
from noisefloor_workers.conformance.known import KnownIssue
from noisefloor_workers.conformance.operators import OPERATORS
from noisefloor_workers.conformance.operators.operator import Operator
from noisefloor_workers.runner import kernels
from noisefloor_workers.runner.messages import CellFinished, ShardTask, Step
from noisefloor_workers.runner.supervisor import Runner
from noisefloor_workers.runner.walk import walk

HERE = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
PATIENCE_S = 20  # with a process that should have gone; only a failure waits for it
LINEAR = OPERATORS["quantized::linear"]


def task(op: str, *engines: str, mode: str = "quick", threads: int = 1, **changes: Any) -> ShardTask:
    """A cell on each engine, named after it."""
    scheme = {"flow": "conformance", "mode": mode}
    cells = [
        {"cell": engine, "scheme": scheme, "lane": {"engine": engine, "threads": threads}}
        for engine in engines or HERE
    ]
    return ShardTask.model_validate({"subject": {"conformance": op}, "cells": cells, **changes})


def walked(given: ShardTask) -> dict[str, CellResult]:
    """Walked in this process, so that a kernel can be planted; its cases are in a forked one all the same."""
    events = [event for event in walk(given) if isinstance(event, CellFinished)]
    return {event.result.cell: event.result for event in events}


def plant(patch: pytest.MonkeyPatch, deed: Callable[[Givens], torch.Tensor]) -> None:
    """Put a kernel in place of torch's linear."""

    class Planted(Operator):
        def run(self, givens: Givens) -> torch.Tensor:
            return deed(givens)

    patch.setitem(OPERATORS, LINEAR.name, Planted(**vars(LINEAR)))


def test_every_engine_gives_a_row_with_figures_and_where_it_was_found(runner: Runner) -> None:
    results = {result.cell: result for result in runner.run(task("aten::relu"), lambda _: True)}
    assert set(results) == set(HERE)
    for engine, result in results.items():
        assert (result.status, result.executed_engine) == (CellStatus.DONE, engine)
        assert result.environment is not None
        assert (result.environment.torch, result.environment.threads) == (torch.__version__, 1)
        found = result.conformance
        assert found is not None
        assert (found.op, found.engine, found.isa) == ("aten::relu", engine, "native")
        assert found.cases > 0
        figures = {m.metric: m.figure.value for m in result.measurements}
        assert figures["wrong_cases"] == found.wrong_cases
        assert figures["max_lsb"] == found.max_lsb
    assert len({result.inputs_digest for result in results.values()}) == 1


def test_another_grid_has_another_digest() -> None:
    quick, full = (walked(task("aten::relu", HERE[0], mode=mode))[HERE[0]] for mode in ("quick", "full"))
    assert quick.inputs_digest != full.inputs_digest
    assert quick.conformance is not None
    assert full.conformance is not None
    assert quick.conformance.cases < full.conformance.cases


def test_progress_is_told_case_by_case() -> None:
    steps = [event.text for event in walk(task("aten::relu", HERE[0])) if isinstance(event, Step)]
    count = len(steps)
    assert steps == [
        f"aten::relu on {HERE[0]}, native: case {number} of {count}" for number in range(1, count + 1)
    ]


def test_what_cannot_be_tried_is_unsupported_with_a_reason() -> None:
    results = walked(task("aten::relu", "inductor"))
    assert results["inductor"].status is CellStatus.UNSUPPORTED
    assert results["inductor"].reason == "its engines are: qnnpack, onednn, x86, fbgemm"
    assert results["inductor"].conformance is not None
    threads = walked(task("aten::relu", HERE[0], threads=2))[HERE[0]]
    assert (threads.status, threads.conformance) == (CellStatus.UNSUPPORTED, None)
    assert threads.reason == "the conformance suite runs on device cpu with 1 thread"


def test_an_operator_of_another_version_of_the_suite_is_unsupported() -> None:
    (result,) = walked(task("quantized::new_one", HERE[0])).values()
    assert (result.status, result.conformance) == (CellStatus.UNSUPPORTED, None)
    assert result.reason == "operator quantized::new_one is not part of this worker's conformance suite"


def off_by_ten(givens: Givens) -> torch.Tensor:
    right = LINEAR.run(givens)
    codes = (right.int_repr().int() + 10).clamp(max=255).to(torch.uint8)
    return torch._make_per_tensor_quantized_tensor(codes, right.q_scale(), right.q_zero_point())


@pytest.mark.parametrize(
    ("op", "verdict", "known"),
    [
        (LINEAR.name, "wrong", "ten too many"),
        (LINEAR.name, "crashes", None),
        ("quantized::add", "wrong", None),
    ],
)
def test_a_fault_that_is_known_says_why_and_no_other_is_known_to_have_gone(
    monkeypatch: pytest.MonkeyPatch, op: str, verdict: str, known: str | None
) -> None:
    values = {"op": [op], "engine": [HERE[0]], "torch": ">=2", "verdict": [verdict], "reason": "ten too many"}
    monkeypatch.setattr(kernels, "ours", lambda: (KnownIssue.model_validate(values),))
    plant(monkeypatch, off_by_ten)
    found = walked(task(LINEAR.name, HERE[0]))[HERE[0]].conformance
    assert found is not None
    assert (found.verdict, found.known, found.gone) == (Verdict.WRONG, known, None)


def test_a_wrong_kernel_has_a_script_and_its_worst_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, off_by_ten)
    (result,) = walked(task(LINEAR.name, HERE[0])).values()
    found = result.conformance
    assert found is not None
    assert (result.status, found.verdict) == (CellStatus.DONE, Verdict.WRONG)
    assert found.script is not None
    figures = {m.metric: m.figure.value for m in result.measurements}
    assert figures["worst_db"] == found.worst_db
    assert figures["wrong_share"] == found.wrong_share > 0.5


def test_a_kernel_that_ends_its_process_costs_its_cases_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def aborts(givens: Givens) -> torch.Tensor:
        weight = givens["w"]
        if getattr(weight, "zero_point", 0):
            os.abort()
        return LINEAR.run(givens)

    plant(monkeypatch, aborts)
    results = walked(task(LINEAR.name, "qnnpack", "inductor") if "qnnpack" in HERE else task(LINEAR.name))
    first = next(iter(results.values()))
    found = first.conformance
    assert found is not None
    assert (first.status, found.verdict) == (CellStatus.DONE, Verdict.CRASHES)
    assert 0 < found.wrong_cases < found.cases
    assert found.reason is not None
    assert "SIGABRT" in found.reason
    assert '"op":"quantized::linear"' in found.reason
    assert len(results) > 1


def test_a_suite_that_cannot_be_trusted_fails_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Operator(**{**vars(LINEAR), "formula": f"2 * {LINEAR.formula}"})
    monkeypatch.setitem(OPERATORS, LINEAR.name, broken)
    (result,) = walked(task(LINEAR.name, HERE[0])).values()
    assert (result.status, result.conformance) == (CellStatus.FAILED, None)
    assert "OracleError" in (result.reason or "")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def workers_of(pid: int | None) -> list[int]:
    """The processes below a child that wait for questions: what they put on themselves is on them by then."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in below if Path(f"/proc/{one}/fd/0").readlink().name.startswith("pipe:")]
    except OSError:
        return []


class Ambush:
    """Stops the first process that runs cases, so that it hears of nothing, and then does a deed."""

    def __init__(self, runner: Runner, deed: Callable[[], None]) -> None:
        self.stopped: int | None = None
        self._runner, self._deed = runner, deed
        self._thread = threading.Thread(target=self._lie_in_wait)
        self._thread.start()

    def _lie_in_wait(self) -> None:
        while self.stopped is None:
            for worker in workers_of(self._runner.child_pid):
                os.kill(worker, signal.SIGSTOP)
                self.stopped = worker
                self._deed()
                return
            time.sleep(0.001)

    def left_behind(self) -> bool:
        """Whether the stopped process outlives those above it; if so it is ended here."""
        self._thread.join()
        assert self.stopped is not None
        deadline_s = time.monotonic() + PATIENCE_S
        while state(self.stopped) != "Z" and time.monotonic() < deadline_s:
            time.sleep(0.01)
        lives = state(self.stopped) != "Z"
        if lives:
            os.kill(self.stopped, signal.SIGKILL)
        return lives


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["child", "server"])
def test_a_killed_runner_leaves_no_process_behind_and_its_cells_are_run_again(
    runner: Runner, victim: str
) -> None:
    given = task("aten::relu")
    ambush = Ambush(runner, lambda: kill(getattr(runner, f"{victim}_pid")))
    results = list(runner.run(given, lambda _: True))
    assert not ambush.left_behind()
    assert {result.status for result in results} == {CellStatus.DONE}
    assert len(results) == len(HERE)


def test_a_cell_over_its_time_ends_and_its_processes_with_it(runner: Runner) -> None:
    given = task("aten::relu", HERE[0], limits={"cell_timeout_s": 2})
    ambush = Ambush(runner, lambda: None)
    (result,) = runner.run(given, lambda _: True)
    assert not ambush.left_behind()
    assert result.status is CellStatus.TIMED_OUT
    assert (result.reason or "").startswith("the cell took longer than 2 s")
