"""The suite and its processes: a kernel that dies, hangs or is wrong costs its case, and is named."""

import subprocess
import sys

import pytest

from noisefloor.contract.conformance import Case, Conformance, Verdict
from noisefloor.contract.lane import Engine
from noisefloor_workers.conformance.messages import Examine, Examined
from noisefloor_workers.conformance.process import Crashed, Process, SuiteError
from noisefloor_workers.conformance.suite import Wanted, conform

# A worker with two operators: linear, whose kernel this replaces, and relu as it is
WORKER = """
import os, time
from dataclasses import replace
from noisefloor_workers.conformance import worker
from noisefloor_workers.conformance.operators import OPERATORS
from tests.conformance.kernels import right

LINEAR, RELU = OPERATORS["quantized::linear"], OPERATORS["aten::relu"]

class Planted(type(LINEAR)):
    def run(self, givens):
        {body}

def correct(givens):
    return right(LINEAR, posed)(givens)

def pose(case):
    global posed
    posed = LINEAR.pose(case)
    return posed

planted = Planted(**{{**vars(LINEAR), "pose": pose}})
worker.serve({{planted.name: planted, RELU.name: RELU}})
"""
WANTED = Wanted(op="*", engines=("qnnpack",), isas=("native",), quick=True)


@pytest.fixture
def engine() -> Engine:
    import torch

    found: Engine = torch.backends.quantized.supported_engines[-1]
    return found


def command(body: str) -> list[str]:
    return [sys.executable, "-c", WORKER.format(body=body)]


def conformed(body: str, engine: Engine) -> dict[str, Conformance]:
    wanted = Wanted(op="*", engines=(engine,), isas=("native",), quick=True)
    return {one.op: one for one in conform(wanted, lambda _: None, command=command(body))}


def test_a_right_kernel_is_not_at_fault(engine: Engine) -> None:
    found = conformed("return correct(givens)", engine)["quantized::linear"]
    assert found.verdict in {Verdict.EXACT, Verdict.WITHIN_1_LSB}
    assert (found.wrong_cases, found.unsupported_cases, found.script) == (0, 0, None)
    assert found.cases > 40


def test_a_wrong_kernel_is_shrunk_to_the_least_that_fails(engine: Engine) -> None:
    """It forgets all inputs but the first three."""
    body = "w = givens['w']; w.codes[:, 3:] = w.zero_point; return correct(givens)"
    found = conformed(body, engine)["quantized::linear"]
    assert found.verdict is Verdict.WRONG
    assert 0 < found.wrong_cases < found.cases
    assert found.worst_db is not None
    assert found.case is not None
    assert found.case.sizes == {"batch": (1,), "channels": (4, 1)}
    assert found.script is not None
    assert "noisefloor" not in found.script


def test_a_kernel_that_ends_the_process_costs_its_case_and_the_next_operator_is_tried(
    engine: Engine,
) -> None:
    body = "os.abort() if posed.exact.real.shape == (3, 7) and givens['w'].zero_point else None; "
    body += "return correct(givens)"
    found = conformed(body, engine)
    linear = found["quantized::linear"]
    assert linear.verdict is Verdict.CRASHES
    assert linear.wrong_cases == 1
    assert linear.cases > 40
    assert linear.reason is not None
    assert "SIGABRT" in linear.reason
    assert '"weight_zero_point":3' in linear.reason
    assert found["aten::relu"].cases > 0
    assert found["aten::relu"].verdict is not Verdict.CRASHES


def test_what_a_process_said_of_earlier_cases_is_no_reason_why_it_ended(engine: Engine) -> None:
    good = Case(op="quantized::linear", sizes={"batch": (1,), "channels": (1, 1)})
    body = "os.write(2, b'[%d]' % len(posed.exact.real)); "
    body += "os.abort() if posed.exact.real.shape == (2, 2) else None; return correct(givens)"
    with Process("native", command=command(body)) as process:
        assert isinstance(process.ask(Examine(case=good, engine=engine)), Examined)
        with pytest.raises(Crashed, match=r"it said: \[2\]"):
            process.ask(Examine(case=good.replace(sizes={"batch": (2,), "channels": (1, 2)}), engine=engine))


def test_a_case_over_its_time_is_given_up_and_the_next_is_answered(engine: Engine) -> None:
    body = "time.sleep(3600) if posed.exact.real.shape == (2, 2) else None; return correct(givens)"
    good = Case(op="quantized::linear", sizes={"batch": (1,), "channels": (1, 1)})
    with Process("native", command=command(body), case_s=2) as process:
        assert isinstance(process.ask(Examine(case=good, engine=engine)), Examined)
        slow = good.replace(sizes={"batch": (2,), "channels": (1, 2)})
        with pytest.raises(Crashed, match="no answer within 2 s"):
            process.ask(Examine(case=slow, engine=engine))
        assert isinstance(process.ask(Examine(case=good, engine=engine)), Examined)


def test_what_a_kernel_prints_is_not_taken_for_an_answer(engine: Engine) -> None:
    found = conformed("os.write(1, b'hello'); return correct(givens)", engine)
    assert not found["quantized::linear"].verdict.is_fault


def test_a_worker_that_does_not_start_is_no_verdict() -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no torch here')"]
    with pytest.raises(SuiteError, match="no torch here"):
        list(conform(WANTED, lambda _: None, command=broken))


def test_an_oracle_at_fault_is_no_verdict(engine: Engine) -> None:
    code = WORKER.format(body="return correct(givens)").replace(
        '"pose": pose', '"formula": "2 * " + LINEAR.formula, "pose": pose'
    )
    wanted = Wanted(op="linear", engines=(engine,), isas=("native",), quick=True)
    with pytest.raises(SuiteError, match="OracleError"):
        list(conform(wanted, lambda _: None, command=[sys.executable, "-c", code]))


def test_an_engine_that_is_not_here_is_unsupported_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisefloor_workers.conformance.suite.machine_isas", lambda: ("native",))
    wanted = Wanted(op="relu", engines=("qnnpack",), isas=("sse41",), quick=True)
    (found,) = conform(wanted, lambda _: None)
    assert (found.verdict, found.cases) == (Verdict.UNSUPPORTED, 0)
    assert found.reason == "isa sse41 is above this machine; it has: native"


def test_the_suite_imports_no_torch() -> None:
    code = "import sys, noisefloor_workers.conformance.suite; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
