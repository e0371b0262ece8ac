"""bisect: the first commit at which a figure is lost, the first cap, or the first layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import typer
from rich.console import Console

from noisefloor.cli.options import Format, FormatOption, JobFile, read_job, require_torch
from noisefloor.cli.report import print_json
from noisefloor.contract.bisection import Bisection, Over, Step
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.report import Report
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor.gate.bisect import bisect as search
from noisefloor.gate.saved import label
from noisefloor_workers.checkout import prepare
from noisefloor_workers.cli.commits import git, measured
from noisefloor_workers.lanes.isa import machine_isas

NOTHING_FOUND_EXIT = 2
SHORT_SHA = 12
EXACT = Figure(value=None, kind=FigureKind.EXACT)
Figures = Mapping[str, Figure]

say = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps in order, the first one good and the last one bad, and how each is measured."""

    over: Over
    names: Sequence[str]
    titles: Mapping[str, str]
    measure: Callable[[str], Figures]


def bisect(
    job: JobFile,
    command: Annotated[
        list[str] | None, typer.Argument(help="After --: checks a commit out; {sha} stands for it.")
    ] = None,
    good: Annotated[str | None, typer.Option(help="A commit with the figure as it should be.")] = None,
    bad: Annotated[str, typer.Option(help="A commit without it.")] = "HEAD",
    over: Annotated[str, typer.Option(help=f"{', '.join(get_args(Over))}.")] = "commits",
    below: Annotated[
        float | None, typer.Option(help="What is below is bad, in dB; half of the loss by default.")
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Hand each result to the service.")] = False,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Find the first commit at which the job's worst loss appears.

    noisefloor bisect job.yaml --good v1 -- git checkout -q {sha}

    The command checks out and prepares a commit; the job, as it is now, is then measured in a process of
    its own. A commit that cannot be prepared or measured is passed over. --over isa tries this machine's caps
    in turn; --over layers quantizes one layer more at a time. With --push every result is a job of the
    service (NOISEFLOOR_URL, NOISEFLOOR_PROJECT, NOISEFLOOR_TOKEN). Exit code 2: no first bad one is found.
    """
    require_torch()
    spec = read_job(job)
    if over not in get_args(Over):
        raise InvalidRequestError(f"over = {over!r}: accepted: {', '.join(get_args(Over))}")
    if over == "commits":
        steps = _commits(spec, good, bad, command, push=push)
    elif over == "isa":
        steps = _isas(spec, push=push)
    else:
        if below is None:
            raise InvalidRequestError("over layers needs --below: without a quantized layer all is exact")
        steps = _layers(spec)
    found = _search(steps, below)
    if format is Format.JSON:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(0 if found.first_bad is not None else NOTHING_FOUND_EXIT)


def _search(steps: Steps, below: float | None) -> Bisection:
    names = steps.names
    figures: dict[str, Figures] = {}
    notes: dict[str, str] = {}

    def at(name: str) -> Figures:
        say.print(f"measuring {name[:SHORT_SHA]} {steps.titles.get(name, '')}")
        figures[name] = steps.measure(name)
        return figures[name]

    first, last = at(names[0]), at(names[-1])
    series = max(first.keys() & last.keys(), key=lambda key: _lost(first[key], last[key]), default=None)
    if series is None or _lost(first[series], last[series]) <= 0:
        raise InvalidRequestError(f"nothing is lost from {names[0][:SHORT_SHA]} to {names[-1][:SHORT_SHA]}")

    def is_bad(step: int) -> bool | None:
        try:
            figure = at(names[step]).get(series)
        except UnavailableError as error:
            notes[names[step]] = error.detail
            return None
        return None if figure is None else _is_bad(figure, first[series], last[series], below)

    found = search(len(names) - 1, is_bad)
    told = {0: False, **found.told, len(names) - 1: True}
    shown = tuple(
        Step(
            name=names[step],
            title=steps.titles.get(names[step], ""),
            figure=figures.get(names[step], {}).get(series),
            bad=verdict,
            note=notes.get(names[step]),
        )
        for step, verdict in sorted(told.items())
    )
    first_bad = next(
        (s for s in shown if found.first_bad is not None and s.name == names[found.first_bad]), None
    )
    return Bisection(
        over=steps.over,
        series=series,
        good=first[series],
        bad=last[series],
        steps=shown,
        first_bad=first_bad,
        candidates=tuple(names[step] for step in found.candidates),
    )


def _lost(good: Figure, bad: Figure) -> float:
    """How much is lost in dB; what has no number lost more than any number can say."""
    if good.value is not None and bad.value is not None:
        return good.value - bad.value
    rank = {FigureKind.EXACT: 2, FigureKind.FINITE: 1}
    return float("inf") if rank.get(good.kind, 0) > rank.get(bad.kind, 0) else 0.0


def _is_bad(figure: Figure, good: Figure, bad: Figure, below: float | None) -> bool:
    """Whether a figure is below what is asked, or nearer to the bad end than to the good one."""
    if figure.kind is FigureKind.EXACT:
        return False
    if figure.value is not None and below is not None:
        return figure.value < below
    if figure.value is None or good.value is None:
        return True
    return bad.value is not None and good.value - figure.value > (good.value - bad.value) / 2


def _commits(spec: JobSpec, good: str | None, bad: str, command: list[str] | None, *, push: bool) -> Steps:
    if good is None or not command:
        raise InvalidRequestError("over commits needs --good, and after -- the command that checks out {sha}")
    line = git("rev-list", "--first-parent", "--reverse", f"{good}..{bad}").split()
    if not line:
        raise InvalidRequestError(f"no commit lies between --good {good} and --bad {bad} along first parents")
    names = [git("rev-parse", "--verify", f"{good}^{{commit}}").strip(), *line]

    def measure(sha: str) -> Figures:
        prepare(command, sha)
        return _figures(measured(spec, push=push))

    titles = {sha: git("show", "--no-patch", "--format=%s", sha).strip()[:200] for sha in names}
    return Steps(over="commits", names=names, titles=titles, measure=measure)


def _isas(spec: JobSpec, *, push: bool) -> Steps:
    def measure(isa: str) -> Figures:
        return _figures(measured(spec.replace(lanes=spec.lanes.replace(isa=(isa,))), push=push), by_isa=False)

    return Steps(over="isa", names=machine_isas(), titles={}, measure=measure)


def _layers(spec: JobSpec) -> Steps:
    """One scheme's layers in the model's order: each step quantizes one more, the others stay float."""
    if len(spec.subjects) != 1 or len(spec.subjects[0].schemes or spec.schemes) != 1:
        raise InvalidRequestError("over layers takes a job of one subject and one scheme")
    (scheme,) = spec.subjects[0].schemes or spec.schemes
    whole = measured(spec.replace(analysis=spec.analysis.replace(layers=True)), push=False)
    layers = [layer.name for view in whole.layers for report in view.reports[:1] for layer in report.layers]
    names = list(dict.fromkeys(layers))
    if not names:
        raise InvalidRequestError("the layers of this flow are not known, so none can be left out")
    ends = ["", *names]

    def measure(last: str) -> Figures:
        if not last:
            return dict.fromkeys(_figures(whole), EXACT)
        kept = tuple(names[ends.index(last) :])
        mixed = scheme.replace(float_layers=(*scheme.float_layers, *kept))
        subject = spec.subjects[0].replace(schemes=(mixed,))
        return _figures(measured(spec.replace(subjects=(subject,), schemes=()), push=False), by_scheme=False)

    return Steps(over="layers", names=ends, titles={"": "(no layer is quantized)"}, measure=measure)


def _figures(report: Report, *, by_isa: bool = True, by_scheme: bool = True) -> Figures:
    """The figure of each output, by subject, scheme, lane and edge."""
    found = {}
    for cell in report.cells:
        shown = cell if by_isa else cell.replace(lane=cell.lane.replace(isa="native"))
        shown = shown if by_scheme else shown.replace(scheme=shown.scheme.replace(float_layers=()))
        for m in cell.measurements:
            if (m.place, m.metric) == (OUTPUT, SQNR):
                found[f"{label(shown)} · {m.edge}"] = m.figure
    return found


def _print(found: Bisection) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.series}: {found.good} → {found.bad} dB", markup=False)
    for step in found.steps:
        verdict = {True: "bad", False: "good", None: "cannot be told"}[step.bad]
        figure = "" if step.figure is None else f"{step.figure} dB"
        parts = (step.name[:SHORT_SHA], figure, verdict, step.title, step.note or "")
        console.print("  " + "  ".join(part for part in parts if part), markup=False)
    if found.first_bad is not None:
        console.print(f"first bad: {found.first_bad.name} {found.first_bad.title}", markup=False)
    else:
        console.print(f"the first bad one is among: {', '.join(found.candidates)}", markup=False)
