"""bisect: the first commit, cap or layer at which a figure is lost, here or on a service."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from rich.console import Console

from noisefloor.cli.bisection import follow, print_bisection
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    Project,
    Token,
    Url,
    client,
    here,
    new_key,
    read_job,
    require_torch,
)
from noisefloor.contract.bisection import Bisection, BisectionSpec, Over
from noisefloor.contract.job import PRIORITIES, Git, JobSpec
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor.gate.bisect import Measured, Search, called
from noisefloor.gate.steps import NO_LAYERS, at_step, layer_names, over_layers, told, without_layers
from noisefloor.problems import invalid_request
from noisefloor_workers.cli.commits import check_out, git, measured
from noisefloor_workers.lanes.isa import machine_isas

NOTHING_FOUND_EXIT = 2

say = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The steps in order, and how each is measured."""

    search: Search
    measure: Callable[[Search, int], Measured]


def bisect(
    job: Annotated[str | None, typer.Argument(help="Job file, YAML or JSON; - reads standard input.")] = None,
    command: Annotated[
        list[str] | None, typer.Argument(help="After --: checks a commit out; {sha} stands for it.")
    ] = None,
    good: Annotated[str | None, typer.Option(help="A commit with the figure as it should be.")] = None,
    bad: Annotated[str | None, typer.Option(help="A commit without it; HEAD by default.")] = None,
    over: Annotated[str, typer.Option(help=f"{', '.join(get_args(Over))}.")] = "commits",
    below: Annotated[
        float | None, typer.Option(help="What is below is bad, in dB; half of the loss by default.")
    ] = None,
    on_service: Annotated[
        bool, typer.Option("--on-service", help="Let the service's workers measure the steps.")
    ] = False,
    of: Annotated[
        str | None, typer.Option(help="A job of the service whose worst loss is looked for, there.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="The key of the service's series that is looked at, there.")
    ] = None,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Find the first commit at which the job's worst loss appears.

    noisefloor bisect job.yaml --good v1 -- git checkout -q {sha}

    noisefloor bisect --of JOB --over layers

    The command checks out and prepares a commit; the job, as it is now, is then measured in a process of
    its own. A commit that cannot be prepared or measured is passed over. --over isa tries this machine's caps
    in turn; --over layers quantizes one layer more at a time. With --on-service, or --of, the service
    measures every step on its workers, and --over environments compares all that they offer. Exit code 2:
    no first bad one is found.
    """
    if over not in get_args(Over):
        raise InvalidRequestError(f"over = {over!r}: accepted: {', '.join(get_args(Over))}")
    if (job is None) == (of is None):
        raise InvalidRequestError("give a job's file, or with --of a job of the service: one of them")
    spec = read_job(job) if job is not None else None
    if on_service or spec is None:
        where = {"over": over, "of": of, "series": series, "below_db": below}
        asked = _asked(spec, where, good, bad)
        with client(url, (spec and spec.project) or project, token) as service:
            found = follow(service, service.bisect(asked, idempotency_key=new_key()))
    else:
        spec = spec.replace(priority=PRIORITIES["bisect"])
        found = _searched(_prepared(spec, over, good, bad, below, command), below)
    print_bisection(found, format)
    raise typer.Exit(0 if found.found else NOTHING_FOUND_EXIT)


def _asked(spec: JobSpec | None, where: dict[str, Any], good: str | None, bad: str | None) -> BisectionSpec:
    """What the service is asked. It has no repository: commits are named here, where the job's are not."""
    asked = {"job": spec and here(spec), **where}
    if where["over"] == "commits" and good is not None:
        asked["commits"] = _line(good, bad or "HEAD")
    try:
        return BisectionSpec.model_validate(asked)
    except ValidationError as error:
        raise invalid_request(error.errors()) from None


def _prepared(
    spec: JobSpec,
    over: str,
    good: str | None,
    bad: str | None,
    below: float | None,
    command: list[str] | None,
) -> Prepared:
    require_torch()
    if over == "commits":
        return _commits(spec, _line(good, bad or "HEAD"), command)
    if over == "isa":
        return _isas(spec)
    if over == "layers":
        return _layers(spec, below)
    raise InvalidRequestError("over environments takes the workers of a service: --on-service")


def _searched(steps: Prepared, below: float | None) -> Bisection:
    search = steps.search.replace(below_db=below)
    while due := search.due():
        (at,) = due
        step = search.step(at)
        say.print(f"measuring {called(step.name, search.over)} {step.title}", markup=False)
        try:
            found = steps.measure(search, at)
        except UnavailableError as error:
            found = Measured(note=error.detail)
        search = search.with_step(at, found)
    if (trouble := search.trouble()) is not None:
        raise InvalidRequestError(trouble)
    return search.result()


def _commits(spec: JobSpec, line: Sequence[str], command: list[str] | None) -> Prepared:
    if not command:
        raise InvalidRequestError("over commits needs the command that checks out {sha}, after --")

    def measure(search: Search, at: int) -> Measured:
        check_out(command, search.names[at])
        # a commit that the file names is not the one that is checked out now
        return told(measured(spec.replace(git=Git())).cells, "commits")

    titles = {sha: git("show", "--no-patch", "--format=%s", sha).strip()[:200] for sha in line}
    return Prepared(search=Search(over="commits", names=tuple(line), titles=titles), measure=measure)


def _line(good: str | None, bad: str) -> list[str]:
    """The commits from the good one to the bad one along first parents, both with them.

    A good one that is not among them says nothing of where their line begins, which may be bad already.
    """
    if good is None:
        raise InvalidRequestError("over commits needs --good")
    line = git("rev-list", "--first-parent", "--reverse", f"{good}..{bad}").split()
    if not line:
        raise InvalidRequestError(f"no commit lies between --good {good} and --bad {bad} along first parents")
    first = git("rev-parse", "--verify", f"{good}^{{commit}}").strip()
    before = git("rev-list", "--first-parent", "--max-count=2", line[0]).split()[1:]
    if before != [first]:
        where = f"the merge base is {before[0]}: give that as --good" if before else "they have no merge base"
        raise InvalidRequestError(f"--good {good} is no ancestor of {bad} along first parents; {where}")
    return [first, *line]


def _isas(spec: JobSpec) -> Prepared:
    def measure(search: Search, at: int) -> Measured:
        return told(measured(at_step(spec, search, at)).cells, "isa")

    return Prepared(search=Search(over="isa", names=machine_isas()), measure=measure)


def _layers(spec: JobSpec, below: float | None) -> Prepared:
    """One scheme's layers in the model's order: each step quantizes one more, the others stay float."""
    if below is None:
        raise InvalidRequestError("over layers needs --below: without a quantized layer all is exact")
    if (refusal := without_layers(spec)) is not None:
        raise InvalidRequestError(refusal)
    whole = measured(spec.replace(analysis=spec.analysis.replace(layers=True)))
    names, found = layer_names(whole.layers), told(whole.cells, "layers")
    if not names or not found.figures:
        raise InvalidRequestError(found.note or NO_LAYERS)

    def measure(search: Search, at: int) -> Measured:
        return told(measured(at_step(spec, search, at)).cells, "layers")

    return Prepared(search=over_layers(names, found.figures), measure=measure)
