"""The verdict over cases: the worst wins, and refusals never count as a pass."""

import pytest

from noisefloor.contract.conformance import Case, Outcome, Values, Verdict
from noisefloor_workers.conformance.verdict import settle, to_shrink


def case(values: Values = "seven_bit", seed: int = 0) -> Case:
    return Case(op="quantized::linear", sizes={"batch": (1,)}, values=values, seed=seed)


def outcome(verdict: Verdict, **figures: float) -> Outcome:
    return Outcome.model_validate({"verdict": verdict, "elements": 10, **figures})


@pytest.mark.parametrize(
    ("verdicts", "settled"),
    [
        ([], "unsupported"),
        (["unsupported", "unsupported"], "unsupported"),
        (["unsupported", "exact"], "exact"),
        (["exact", "within_1_lsb", "exact"], "within_1_lsb"),
        (["within_1_lsb", "wrong"], "wrong"),
        (["wrong", "nondeterministic"], "nondeterministic"),
        (["nondeterministic", "crashes", "exact"], "crashes"),
    ],
)
def test_the_worst_of_the_cases_is_the_verdict(verdicts: list[str], settled: str) -> None:
    examined = [(case(), outcome(Verdict(verdict))) for verdict in verdicts]
    assert settle("op", "x86", "native", examined).verdict == settled


def test_the_figures_are_over_all_cases() -> None:
    found = settle(
        "op",
        "x86",
        "native",
        [
            (case(), outcome(Verdict.EXACT)),
            (case("full"), outcome(Verdict.WRONG, wrong_elements=5, max_lsb=9, sqnr_db=12.0)),
            (case("extreme"), outcome(Verdict.WRONG, wrong_elements=1, max_lsb=3, sqnr_db=-2.0)),
            (case(), Outcome(verdict=Verdict.UNSUPPORTED, reason="not here")),
        ],
    )
    assert (found.cases, found.wrong_cases, found.unsupported_cases) == (4, 2, 1)
    assert (found.worst_db, found.max_lsb, found.wrong_share) == (-2.0, 9, 0.2)
    assert found.reason == "with values: full, extreme; not here"


def test_the_gentlest_case_of_the_worst_verdict_is_shrunk() -> None:
    examined = [
        (case("full"), outcome(Verdict.WRONG)),
        (case("extreme"), outcome(Verdict.CRASHES)),
        (case("ties", 1), outcome(Verdict.CRASHES)),
        (case("seven_bit"), outcome(Verdict.EXACT)),
    ]
    chosen = to_shrink(examined)
    assert chosen is not None
    assert chosen[0] == case("ties", 1)
    assert to_shrink(examined[-1:]) is None
