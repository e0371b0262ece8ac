"""A bisection on the service, followed; and how any is printed."""

import typer
from rich.console import Console

from noisefloor.cli.options import Format
from noisefloor.cli.report import print_json
from noisefloor.client import Client
from noisefloor.contract.bisection import Bisection, BisectionView, Step
from noisefloor.errors import UnavailableError
from noisefloor.gate.bisect import called

WAIT_S = 2.0  # how late a step is said to have begun
VERDICTS = {True: "bad", False: "good", None: "cannot be told"}

say = Console(stderr=True, highlight=False, soft_wrap=True)


def follow(service: Client, posted: BisectionView) -> Bisection:
    """Say what is measured until the bisection has ended.

    Raises `UnavailableError` where it ended without an answer: with the reason.
    """
    say.print(f"{service.url}/projects/{service.project}/bisections/{posted.id}", markup=False)
    said, view = "", posted
    while not view.status.settled:
        now = f"{view.message}; waiting for {view.waiting_for}" if view.waiting_for else view.message
        if now != said:
            say.print(now, markup=False)
            said = now
        view = service.bisection(posted.id, wait_s=WAIT_S)
    if view.found is None:
        raise UnavailableError(f"bisection {view.id} is {view.status.value}: {view.message}")
    return view.found


def print_bisection(found: Bisection, format: Format) -> None:  # noqa: A002 - the option's name
    """The steps in order, and the answer."""
    if format is Format.JSON:
        print_json(found)
        return
    typer.echo(f"{found.series}: {found.good} → {found.bad} dB")
    for step in found.steps:
        typer.echo(f"  {'  '.join(part for part in _words(found, step) if part)}")
    typer.echo(found.conclusion)


def _words(found: Bisection, step: Step) -> tuple[str, ...]:
    figure = "" if step.figure is None else f"{step.figure} dB"
    name = called(step.name, found.over)
    return (name, figure, VERDICTS[step.bad], step.title, step.note or "")
