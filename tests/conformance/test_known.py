"""Known deviations: what they cover, what is new beside them, and what has gone away."""

from typing import Any

import pytest
from pydantic import ValidationError

from noisefloor.contract.conformance import Conformance
from noisefloor.contract.lane import Isa
from noisefloor_workers.conformance.known import KNOWN, KnownIssue, marked, matching_nothing

SATURATES: dict[str, Any] = {
    "op": ["quantized::linear*"],
    "engine": ["x86", "fbgemm"],
    "isa": ["avx512_core", "avx2"],
    "torch": ">=2.13,<2.14",
    "values": ["full", "extreme"],
    "reason": "it saturates",
}


def issue(**changed: Any) -> KnownIssue:
    return KnownIssue.model_validate({**SATURATES, **changed})


def row(**changed: Any) -> Conformance:
    fault = {
        "op": "quantized::linear",
        "engine": "x86",
        "isa": "avx2",
        "verdict": "wrong",
        "cases": 9,
        "wrong_cases": 3,
        "values": ["full"],
    }
    return Conformance.model_validate({**fault, **changed})


def after(
    *rows: Conformance, known: list[KnownIssue], torch: str = "2.13.0+cpu", native: Isa = "native"
) -> list[Conformance]:
    return marked(rows, known, torch=torch, native=native)


def test_a_known_fault_has_its_reason_and_is_not_new() -> None:
    (found,) = after(row(), known=[issue()])
    assert (found.known, found.gone, found.is_new_fault) == ("it saturates", None, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"op": "quantized::conv2d"},
        {"engine": "onednn"},
        {"isa": "sse41"},
        {"verdict": "crashes"},
        {"verdict": "nondeterministic"},
        {"values": ["seven_bit", "full"]},
    ],
    ids=str,
)
def test_another_fault_is_new(changed: dict[str, Any]) -> None:
    (found,) = after(row(**changed), known=[issue()])
    assert found.known is None
    assert found.is_new_fault


@pytest.mark.parametrize(("torch", "is_new"), [("2.13.1", False), ("2.13.0.dev1", True), ("2.14.0", True)])
def test_an_issue_is_one_of_its_versions_of_torch(torch: str, *, is_new: bool) -> None:
    (found,) = after(row(), known=[issue()], torch=torch)
    assert found.is_new_fault == is_new


@pytest.mark.parametrize(("native", "is_new"), [("native", True), ("avx512_core", False), ("avx2", False)])
def test_what_runs_uncapped_is_under_what_its_processor_amounts_to(native: Isa, *, is_new: bool) -> None:
    (found,) = after(row(isa="native"), known=[issue()], native=native)
    assert found.is_new_fault == is_new


def test_issues_together_explain_a_fault_in_several_values() -> None:
    gentle = issue(values=["seven_bit"], reason="it is upside down")
    (found,) = after(row(values=["seven_bit", "full"]), known=[issue(), gentle])
    assert found.known == "it saturates; it is upside down"


def test_an_issue_without_caps_and_values_is_of_all() -> None:
    (found,) = after(row(isa="sse41", values=["seven_bit", "ties"]), known=[issue(isa=[], values=[])])
    assert not found.is_new_fault


def test_a_deviation_that_has_gone_away_is_said_of_what_ran() -> None:
    right = {"verdict": "exact", "wrong_cases": 0, "values": []}
    exact, unsupported, other = after(
        row(**right),
        row(engine="fbgemm", **{**right, "verdict": "unsupported"}),
        row(**{**right, "op": "aten::relu"}),
        known=[issue()],
    )
    assert (exact.gone, exact.is_new_fault) == ("it saturates", False)
    assert (unsupported.gone, other.gone) == (None, None)


def test_a_deviation_that_is_left_anywhere_has_not_gone() -> None:
    exact = row(engine="fbgemm", verdict="exact", wrong_cases=0, values=[])
    assert [one.gone for one in after(row(), exact, known=[issue()])] == [None, None]


def test_a_deviation_has_gone_though_there_is_another_fault() -> None:
    (found,) = after(row(values=["seven_bit"]), known=[issue()])
    assert (found.gone, found.known, found.is_new_fault) == ("it saturates", None, True)


def test_an_issue_that_was_not_run_has_not_gone() -> None:
    (found,) = after(row(op="aten::relu", verdict="exact", values=[]), known=[issue()])
    assert found.gone is None


def test_a_glob_that_is_no_operators_is_named() -> None:
    known = [issue(), issue(op=["aten::*", "quantised::linear"])]
    assert matching_nothing(known, ["quantized::linear", "aten::relu"]) == ["quantised::linear"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"engine": ["fbgem"]}, "qnnpack"),
        ({"engine": []}, "at least 1"),
        ({"op": []}, "at least 1"),
        ({"isa": ["avx"]}, "sse41"),
        ({"torch": "2.13"}, "no version specifier"),
        ({"verdict": ["exact"]}, "no fault"),
        ({"values": ["nine_bit"]}, "seven_bit"),
        ({"reason": ""}, "at least 1"),
        ({"because": "why not"}, "because"),
    ],
    ids=str,
)
def test_a_field_that_is_not_accepted_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KNOWN.validate_python([{**SATURATES, **changed}])
