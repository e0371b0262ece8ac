"""What each irregular outcome leads to. The one place where `on` becomes a verdict."""

from noisefloor.contract.policy import Consequence, On
from noisefloor.contract.verdict import Verdict

CONSEQUENCES: dict[Consequence, Verdict] = {
    "warn": Verdict.WARN,
    "fail": Verdict.REGRESSED,
    "error": Verdict.ERROR,
}


def led_to(on: On, outcome: str) -> Verdict | None:
    """The verdict that an outcome leads to; None where it is only named (`environment_changed: attribute`).

    To fail without a baseline is a verdict of its own: nothing was lost, and nothing may pass.

    >>> led_to(On(), "no_baseline").value, led_to(On(), "unsupported").value
    ('no_baseline', 'warn')
    """
    consequence = getattr(on, outcome)
    if consequence == "attribute":
        return None
    if outcome == "no_baseline" and consequence == "fail":
        return Verdict.NO_BASELINE
    return CONSEQUENCES[consequence]
