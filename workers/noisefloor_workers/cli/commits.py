"""A commit checked out, a job measured at what is checked out, and what git says of it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from noisefloor.client.checkout import checkout
from noisefloor.contract.job import JobSpec
from noisefloor.contract.report import Report
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor_workers.checkout import prepare

SHORT_SHA = 12
OWN: Mapping[str, str] = {}
# bytecode is told apart by seconds and sizes: that of one commit would pass for another's
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


def measured(spec: JobSpec, *, explains: str | None = None, environment: Mapping[str, str] = OWN) -> Report:
    """The job measured by `noisefloor run` in a process of its own, which imports what is there now.

    What `explains` a job of a service is handed to that service.
    """
    document = spec.model_dump_json(by_alias=True, exclude_defaults=True)
    command = [sys.executable, "-m", "noisefloor.cli", "run", "-", "--format", "json"]
    ran = subprocess.run(  # noqa: S603 - this interpreter, on our own command
        [*command, *(["--push", "--explains", explains] if explains is not None else ["--no-git"])],
        input=document,
        env={**os.environ, **NO_BYTECODE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return Report.model_validate_json(ran.stdout)
    except ValidationError:
        said = ran.stderr.strip().splitlines()[-3:]
        raise UnavailableError(f"it could not be measured: {' '.join(said)}") from None


def check_out(command: Sequence[str], sha: str) -> None:
    """Have the user's command check a commit out here.

    Raises `CheckoutFailedError` where it fails, `InvalidRequestError` where it leaves another commit: then it
    does so at each.
    """
    prepare(command, sha)
    there = checkout(Path.cwd(), os.environ).git
    if sha not in (there.sha, there.merge):
        left = (there.merge or there.sha or "no commit")[:SHORT_SHA]
        raise InvalidRequestError(f"the command left {left} checked out instead of {sha[:SHORT_SHA]}")


def git(*arguments: str) -> str:
    """What git answers here; `InvalidRequestError` where it refuses."""
    try:
        return subprocess.run(  # noqa: S603 - our own words
            ["git", *arguments],  # noqa: S607 - the git of the user's path
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise InvalidRequestError(f"git {' '.join(arguments)}: {said}") from None
