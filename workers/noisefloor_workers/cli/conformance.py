"""conformance: which quantized kernels of torch compute what they should, on this machine."""

from typing import Annotated, TypeVar, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisefloor.cli.options import Format, FormatOption, require_torch
from noisefloor.contract.conformance import CONFORMANCE, Conformance, Verdict
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine, Isa
from noisefloor.errors import InvalidRequestError, UnavailableError
from noisefloor_workers.conformance.process import SuiteError
from noisefloor_workers.conformance.suite import Wanted, conform
from noisefloor_workers.lanes.isa import machine_isas

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
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Hold torch's quantized kernels against exact integers, and exit with 1 if one is at fault.

    Each operator runs on each engine under each cap on the instruction set, over a grid of cases, each
    several times. A case that fails is made as small as it can be and shown as a script. Exit code 2: nothing
    could be run.
    """
    require_torch()
    engines = _chosen("engine", engine, QUANTIZED_ENGINES, QUANTIZED_ENGINES)
    isas = _chosen("isa", isa, ISAS, machine_isas())
    wanted = Wanted(op=op, engines=engines, isas=isas, quick=quick)
    try:
        with Console(stderr=True).status("starting") as status:
            found = list(conform(wanted, status.update))
    except SuiteError as error:
        raise UnavailableError(f"the conformance suite cannot run: {error}") from None
    if not found:
        raise InvalidRequestError(f"no operator matches {op!r}")
    if format is Format.JSON:
        typer.echo(CONFORMANCE.dump_json(found, indent=2).decode())
    else:
        print_found(found)
    if all(one.verdict is Verdict.UNSUPPORTED for one in found):
        raise typer.Exit(NOTHING_RAN_EXIT)
    raise typer.Exit(int(any(one.verdict.is_fault for one in found)))


def _chosen(
    name: str, asked: list[str] | None, accepted: tuple[Name, ...], default: tuple[Name, ...]
) -> tuple[Name, ...]:
    wrong = [one for one in asked or () if one not in accepted]
    if wrong:
        raise InvalidRequestError(f"{name} = {wrong[0]!r}: accepted: {', '.join(accepted)}")
    return tuple(one for one in accepted if one in asked) if asked else default


def print_found(found: list[Conformance]) -> None:
    """A table for each cap, then each fault with its script, then what was refused."""
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    for isa in dict.fromkeys(one.isa for one in found):
        console.print(_table(isa, [one for one in found if one.isa == isa]))
        console.print()
    for one in found:
        if one.verdict.is_fault:
            console.print(
                Text(f"{one.op} on {one.engine}, {one.isa}: {summary(one)}", style="bold"), soft_wrap=True
            )
            console.print(Text(one.script or ""), soft_wrap=True)
    for said in dict.fromkeys(
        f"{one.op} on {one.engine}, {one.isa}: unsupported: {one.reason}"
        for one in found
        if one.verdict is Verdict.UNSUPPORTED
    ):
        console.print(Text(said, style="dim"), soft_wrap=True)


def summary(one: Conformance) -> str:
    """The figures of a fault, in a line, and what was said."""
    return one.summary + (f" ({one.reason})" if one.reason else "")


def _table(isa: Isa, found: list[Conformance]) -> Table:
    engines: dict[Engine, None] = dict.fromkeys(one.engine for one in found)
    table = Table(box=None, header_style="bold", pad_edge=False, title=f"ISA cap {isa}", title_justify="left")
    for heading in ("operator", *engines):
        table.add_column(heading, no_wrap=True)
    verdicts = {(one.op, one.engine): one.verdict for one in found}
    for op in dict.fromkeys(one.op for one in found):
        cells = (verdicts[op, engine] for engine in engines)
        table.add_row(op, *(Text(cell.value, style=STYLES[cell]) for cell in cells))
    return table
