"""conformance: which quantized kernels of torch compute what they should, on this machine."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, TypeVar, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisefloor.cli.options import Format, FormatOption, read_document, require_torch
from noisefloor.contract.conformance import CONFORMANCE, Conformance, Verdict
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine, Isa
from noisefloor.contract.operators import OPERATORS
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor.problems import invalid_request
from noisefloor_workers.conformance.known import (
    KNOWN,
    KnownIssue,
    marked,
    matching_nothing,
    ours,
)
from noisefloor_workers.conformance.process import SuiteError
from noisefloor_workers.conformance.suite import Wanted, conform
from noisefloor_workers.lanes.isa import machine_isas, native_level

Name = TypeVar("Name", bound=str)
ISAS: tuple[Isa, ...] = get_args(Isa)
NOTHING_RAN_EXIT = 2
TABLE_WIDTH = 120  # also where the output is no terminal
STYLES = {
    Verdict.EXACT: "green",
    Verdict.WITHIN_1_LSB: "green",
    Verdict.UNSUPPORTED: "dim",
    Verdict.WRONG: "bold red",
    Verdict.NONDETERMINISTIC: "bold red",
    Verdict.CRASHES: "bold red",
}


def conformance(
    op: Annotated[str, typer.Option(help="Operators to try, a glob: 'conv*'.")] = "*",
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable: {', '.join(QUANTIZED_ENGINES)}; default all.")
    ] = None,
    isa: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable: {', '.join(ISAS)}; default this machine's.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cases.")] = False,
    known: Annotated[
        list[str] | None, typer.Option(help="Repeatable: a file of more deviations that are accepted.")
    ] = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Hold torch's quantized kernels against exact integers, and exit with 1 if there is a new deviation.

    Each operator runs on each engine under each cap on the instruction set, over a grid of cases, each
    several times. A case that fails is made as small as it can be and shown as a script. Deviations that are
    known do not count, and are named where they have gone away. Exit code 2: nothing could be run.
    """
    require_torch()
    engines = _chosen("engine", engine, QUANTIZED_ENGINES, QUANTIZED_ENGINES)
    isas = _chosen("isa", isa, ISAS, machine_isas())
    issues = [*ours(), *(issue for path in known or () for issue in read_known(path))]
    wanted = Wanted(op=op, engines=engines, isas=isas, quick=quick)
    try:
        with Console(stderr=True).status("starting") as status:
            found = list(conform(wanted, status.update))
    except SuiteError as error:
        raise UnavailableError(f"the conformance suite cannot run: {error}") from None
    if not found:
        raise InvalidRequestError(f"no operator matches {op!r}")
    found = marked(found, issues, torch=version("torch"), native=native_level())
    for lost in matching_nothing(issues, OPERATORS):
        typer.echo(f"known issue: op = {lost!r} matches no operator", err=True)
    if format is Format.JSON:
        typer.echo(CONFORMANCE.dump_json(found, indent=2).decode())
    else:
        print_found(found)
    if all(one.verdict is Verdict.UNSUPPORTED for one in found):
        raise typer.Exit(NOTHING_RAN_EXIT)
    raise typer.Exit(int(any(one.is_new_fault for one in found)))


def read_known(path: str) -> list[KnownIssue]:
    """The known issues of a file, or the error that names each refused field."""
    try:
        return KNOWN.validate_python(read_document(path))
    except ValidationError as error:
        problem = invalid_request(error.errors())
        raise InvalidRequestError(f"{path}: {problem.detail}", problem.errors) from None


def _chosen(
    name: str, asked: list[str] | None, accepted: tuple[Name, ...], default: tuple[Name, ...]
) -> tuple[Name, ...]:
    wrong = [one for one in asked or () if one not in accepted]
    if wrong:
        raise InvalidRequestError(f"{name} = {wrong[0]!r}: accepted: {', '.join(accepted)}")
    return tuple(one for one in accepted if one in asked) if asked else default


def print_found(found: list[Conformance]) -> None:
    """A table for each cap, each new fault with its script, what was known, and what was refused."""
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    for isa in dict.fromkeys(one.isa for one in found):
        console.print(_table(isa, [one for one in found if one.isa == isa]))
        console.print()
    for one in found:
        if one.is_new_fault:
            console.print(
                Text(f"{one.op} on {one.engine}, {one.isa}: {summary(one)}", style="bold"), soft_wrap=True
            )
            console.print(Text(one.script or ""), soft_wrap=True)
    for said in dict.fromkeys(line for one in found for line in _notes(one)):
        console.print(Text(said, style="dim"), soft_wrap=True)


def _notes(one: Conformance) -> Iterator[str]:
    where = f"{one.op} on {one.engine}, {one.isa}"
    if one.gone is not None:
        yield f"{where}: gone: {one.gone}"
    if one.known is not None:
        yield f"{where}: known: {summary(one)}: {one.known}"
    if one.verdict is Verdict.UNSUPPORTED:
        yield f"{where}: unsupported: {one.reason}"


def summary(one: Conformance) -> str:
    """The figures of a fault, in a line, and what was said."""
    return one.summary + (f" ({one.reason})" if one.reason else "")


def _table(isa: Isa, found: list[Conformance]) -> Table:
    engines: dict[Engine, None] = dict.fromkeys(one.engine for one in found)
    table = Table(box=None, header_style="bold", pad_edge=False, title=f"ISA cap {isa}", title_justify="left")
    for heading in ("operator", *engines):
        table.add_column(heading, no_wrap=True)
    rows = {(one.op, one.engine): one for one in found}
    for op in dict.fromkeys(one.op for one in found):
        table.add_row(op, *(_cell(rows[op, engine]) for engine in engines))
    return table


def _cell(one: Conformance) -> Text:
    if one.known is not None:
        return Text(f"{one.verdict.value}, known", style="yellow")
    return Text(one.verdict.value, style=STYLES[one.verdict])
