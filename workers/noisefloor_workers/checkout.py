"""A commit checked out by the user's own command. No torch here."""

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from noisefloor.errors import UnavailableError

WAIT_S = 1.0


class CheckoutFailedError(UnavailableError):
    """The command that checks a commit out failed."""


def prepare(
    command: Sequence[str], sha: str, keep: Callable[[], bool] = lambda: True, *, limit_s: float = math.inf
) -> bool:
    """Run the command with {sha} replaced, and `NOISEFLOOR_SHA` set.

    Raises `CheckoutFailedError` where it fails or takes longer than `limit_s`. `keep` is asked each second;
    once it says no, the command is ended, with what it started: False.
    """
    try:
        ran = subprocess.Popen(  # noqa: S603 - the user's own command
            [part.replace("{sha}", sha) for part in command],
            env={**os.environ, "NOISEFLOOR_SHA": sha},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise CheckoutFailedError(f"the command {command[0]!r} cannot be run: {error.strerror}") from None
    with ran:
        try:
            output = _output(ran, keep, time.monotonic() + limit_s)
        except subprocess.TimeoutExpired:
            raise CheckoutFailedError(f"the command took longer than {limit_s:g} s") from None
        finally:
            if ran.returncode is None:
                os.killpg(ran.pid, signal.SIGKILL)
    if output is not None and ran.returncode:
        said = output.strip().splitlines()[-1:]
        raise CheckoutFailedError(f"the command ended with {ran.returncode}: {' '.join(said)}")
    return output is not None


def _output(ran: "subprocess.Popen[str]", keep: Callable[[], bool], deadline_s: float) -> str | None:
    """What it wrote to standard error, or else to standard output; None if it is to be stopped."""
    while True:
        try:
            output, errors = ran.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline_s:
                raise
            if not keep():
                return None
        else:
            return errors if errors.strip() else output
