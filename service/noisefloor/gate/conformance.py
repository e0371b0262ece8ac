"""What an operator's conformance means for the verdict. Pure."""

from noisefloor.contract.conformance import Conformance
from noisefloor.contract.verdict import Finding, Verdict

REASON_CHARS = 200  # a process that ended may have said much; the cell has it all


def judge_conformance(of_fault: Verdict, found: Conformance | None) -> Finding:
    """The policy's verdict of a fault for a kernel that has one, unless it is known.

    >>> wrong = Conformance(op="aten::relu", engine="x86", isa="native", verdict="wrong", cases=9)
    >>> judge_conformance(Verdict.REGRESSED, wrong).verdict.value
    'regressed'
    """
    if found is None:
        message = "cases were counted, and what was found of them is missing"
        return Finding(verdict=Verdict.ERROR, rule="conformance", message=message)
    if not found.verdict.is_fault:
        return Finding(verdict=Verdict.PASS, rule="conformance", message=found.summary)
    message = found.summary + (f" ({found.reason[:REASON_CHARS]})" if found.reason else "")
    if found.known is not None:
        known = f"known: {found.known}; {message}"
        return Finding(verdict=Verdict.ACKNOWLEDGED, rule="known_issue", message=known)
    return Finding(verdict=of_fault, rule="on.conformance", message=message)
