"""Failpoints: moments around every commit and every send at which a test has this process die, or fail.

    NOISEFLOOR_FAILPOINTS='record.after_commit=kill*2' noisefloor up

`kill` ends the process as `kill -9` does. `raise` fails as the database or the network does there: before a
commit the transaction is rolled back; after it the commit stands, and its caller hears of a failure.
"""

import itertools
import logging
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from sqlalchemy.exc import OperationalError

from noisefloor.errors import SettingsError

Transaction = Literal[
    "accept",
    "appear",
    "bisect",
    "cancel",
    "cancel_step",
    "claim",
    "claim_delivery",
    "conclude_delivery",
    "end_bisection",
    "end_shard",
    "expire_checks",
    "forget_suite",
    "forget_webhook",
    "gate",
    "give_back",
    "heartbeat",
    "hook",
    "import",
    "leave",
    "move",
    "policy",
    "prune",
    "push",
    "record",
    "release_delivery",
    "replay",
    "retention",
    "retry",
    "settings",
    "submit",
    "suite",
    "tidy",
    "webhook",
]
COMMITS = tuple(f"{name}.{side}_commit" for name in get_args(Transaction) for side in ("before", "after"))
SENDS = tuple(f"{name}.{side}_send" for name in ("news", "http") for side in ("before", "after"))
KNOWN = (*COMMITS, *SENDS)
ACTION = re.compile(r"(?P<action>kill|raise)(?:\*(?P<time>[1-9]\d*))?")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Armed:
    """What a point does when it is reached: each time, or at one time alone."""

    kills: bool
    time: int | None
    times: Iterator[int] = field(default_factory=lambda: itertools.count(1))


_armed: dict[str, Armed] = {}


def arm(text: str) -> None:
    """Set what points do, `point=action[*N],…`, in place of what was set. Raises `SettingsError`."""
    _armed.clear()
    _armed.update(_read(part) for part in text.split(",") if part)
    if _armed:
        log.warning("failpoints are set: %s", text)


def reach(point: str) -> None:
    """Do here what the point is armed with: nothing, outside of tests."""
    armed = _armed.get(point)
    if armed is None or armed.time not in {None, next(armed.times)}:
        return
    if armed.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    failure = OSError(f"failpoint {point}")
    raise failure if point.startswith("http.") else OperationalError("", None, failure)


def _read(part: str) -> tuple[str, Armed]:
    point, _, action = part.strip().partition("=")
    found = ACTION.fullmatch(action)
    if point not in KNOWN:
        raise SettingsError(f"failpoints: {point!r} is none; there are {', '.join(KNOWN)}")
    if found is None:
        raise SettingsError(f"failpoints: {point} = {action!r}; a point can kill, raise, kill*N and raise*N")
    time = found["time"]
    return point, Armed(kills=found["action"] == "kill", time=int(time) if time else None)
