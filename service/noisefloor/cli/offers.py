"""What a worker says of its own files: the options, and the command that checks a commit out."""

import os
import shlex
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from noisefloor.contract.job import Sha
from noisefloor.errors import InvalidRequestError

Commit = Annotated[str | None, typer.Option(help="The whole sha of the commit that the files here are of.")]
Checkout = Annotated[
    str | None,
    typer.Option(help="A command that checks a commit out here; {sha} stands for it. One slot only."),
]


def offered(commit: str | None, command: list[str]) -> dict[str, Any]:
    """What `Capabilities` say of it."""
    return {"commit": _sha(commit), "checks_out": bool(command)}


def _sha(commit: str | None) -> str | None:
    """The commit, or the error that says what one is."""
    try:
        return TypeAdapter(Sha | None).validate_python(commit)
    except ValidationError:
        raise InvalidRequestError(f"commit = {commit!r}: give a sha, 7 to 64 hexadecimal digits") from None


def command_of(checkout: str | None, slots: int) -> list[str]:
    """The command in its parts; none where none is given. From then on no bytecode is written here."""
    if checkout is None:
        return []
    try:
        command = shlex.split(checkout)
    except ValueError as error:
        raise InvalidRequestError(f"checkout = {checkout!r}: {error}") from None
    if not command:
        raise InvalidRequestError("checkout = '': give a command, such as 'git -C /src checkout -q {sha}'")
    if slots > 1:
        raise InvalidRequestError(
            f"slots = {slots}: with --checkout accepted: 1, since one commit is checked out"
        )
    # bytecode is told apart by seconds and sizes: that of one commit would pass for another's
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return command
