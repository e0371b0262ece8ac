"""lanes: what this machine can measure on, found by trying."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Annotated, get_args

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisefloor.cli.options import Format, FormatOption, require_torch
from noisefloor.cli.report import print_json
from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus, Limits
from noisefloor.contract.lane import QUANTIZED_ENGINES, Device, Engine, Isa, Lane, Lanes
from noisefloor.contract.measurement import OUTPUT, CellResult, CellTask, Environment, Measurement
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Data, Inputs, Subject
from noisefloor.contract.support import LaneSupport, Support
from noisefloor.problems import invalid_request
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner, RunnerUnavailable

ENGINES: tuple[Engine, ...] = get_args(Engine)
ISAS: tuple[Isa, ...] = get_args(Isa)
NONE_WORKS_EXIT = 2

# Convolutions, linear layers and additions, on a handful of images: milliseconds where it works
TRIAL_SUBJECT = Subject(
    zoo="multiple-ops",
    data=Data(calibration=Inputs(shape=(16, 3, 15, 15)), evaluation=Inputs(shape=(2, 3, 15, 15))),
)
EAGER = Scheme(flow="eager", mode="static", edges=("float32->true",))
INDUCTOR = Scheme(flow="pt2e", mode="static", granularity="per_channel", edges=("float32->true",))
TRIAL_SCHEMES: dict[Engine, Scheme] = {
    **dict.fromkeys(QUANTIZED_ENGINES, EAGER),
    "inductor": INDUCTOR,
    "xnnpack": INDUCTOR.replace(quantizer="xnnpack", reduce_range=False),
    "aten": Scheme(flow="torchao", mode="weight_only", edges=("float32->true",)),
}
# The memory is what a job has by default: stacks of many threads count, and a tighter limit gave false noes
TRIAL_LIMITS = Limits(cell_timeout_s=120)


def lanes(
    engine: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable: {', '.join(ENGINES)}; default all.")
    ] = None,
    isa: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable: {', '.join(ISAS)}; default all.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each lane.")] = 1,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Try every lane on this machine, and exit with 0 if any works, with 2 if none does.

    A small model is quantized, run and compared on each engine, in a process started under each cap on the
    instruction set. What does not work is listed with its reason.
    """
    require_torch()
    try:
        wanted = Lanes.model_validate(
            {
                "engine": tuple(dict.fromkeys(engine or ENGINES)),
                "device": get_args(Device),
                "isa": tuple(dict.fromkeys(isa or ISAS)),
                "threads": (threads,),
            }
        )
    except ValidationError as error:
        raise invalid_request(error.errors()) from None
    with Console(stderr=True).status("starting") as status:
        support = try_each(filter(_is_offered, wanted.each()), status.update)
    if format is Format.JSON:
        print_json(support)
    else:
        print_support(support)
    raise typer.Exit(0 if support.any_works else NONE_WORKS_EXIT)


def _is_offered(lane: Lane) -> bool:
    """Whether any machine can run it: on cuda there are no caps, and no engine of the CPU."""
    return lane.device == "cpu" or (lane.engine, lane.isa) == ("aten", "native")


def try_each(wanted: Iterable[Lane], say: Callable[[str], None]) -> Support:
    """The trial cell run on each lane; neighbours of one cap, thread count and device share a process."""
    environments: dict[Isa, Environment] = {}
    found: list[LaneSupport] = []
    for (isa, threads, _), group in groupby(wanted, key=lambda lane: (lane.isa, lane.threads, lane.device)):
        together = list(group)
        ended, gave_up = _ended(isa, threads, together, say)
        for result in ended.values():
            # a cap above the machine is not in force: what runs then is another environment
            if result.environment is not None and result.environment.isa_cap == isa:
                environments[isa] = result.environment
        found += [
            _support(lane, ended[lane])
            if lane in ended
            else LaneSupport(lane=lane, works=False, reason=gave_up)
            for lane in together
        ]
    return Support(environments=environments, lanes=tuple(found))


def _ended(
    isa: Isa, threads: int, together: list[Lane], say: Callable[[str], None]
) -> tuple[dict[Lane, CellResult], str]:
    """How the cell ended on each lane, and why there is no more where the runner gave up."""
    task = ShardTask(
        subject=TRIAL_SUBJECT,
        cells=tuple(
            CellTask(cell=str(n), scheme=TRIAL_SCHEMES[lane.engine], lane=lane)
            for n, lane in enumerate(together)
        ),
        limits=TRIAL_LIMITS,
        isa=isa,
        threads=threads,
    )

    def on_tick(progress: str) -> bool:
        say(f"isa {isa}: {progress}")
        return True

    ended: dict[Lane, CellResult] = {}
    try:
        with Runner(isa, threads) as runner:
            for result in runner.run(task, on_tick):
                ended[together[int(result.cell)]] = result
    except RunnerUnavailable as error:
        return ended, str(error)
    return ended, "the runner gave no result"


def _support(lane: Lane, result: CellResult) -> LaneSupport:
    if result.status is CellStatus.DONE:
        (output,) = (m for m in result.measurements if m.place == OUTPUT)
        figure, reason = output.figure, _worthless(output)
    else:
        figure, reason = None, result.reason or "no reason was given"
    return LaneSupport(
        lane=lane,
        works=reason is None,
        status=result.status,
        reason=reason,
        executed_engine=result.executed_engine,
        figure=figure,
    )


def _worthless(output: Measurement) -> str | None:
    """Why the output of a cell that ran is no output; None where it is one."""
    if output.figure.kind not in {FigureKind.FINITE, FigureKind.EXACT}:
        return f"it ran, and its output has no figure: {output.figure}"
    if output.sums is not None and output.sums.zero_output:
        return "it ran, and its output is zero throughout"
    return None


def print_support(support: Support) -> None:
    """The environment, the matrix of engines and caps, and then the reasons."""
    console = Console(highlight=False)
    for line in _environment_lines(support):
        console.print(Text(line), soft_wrap=True)
    console.print(_matrix(support))
    lanes_by_reason: dict[str, list[str]] = {}
    for found in support.lanes:
        if found.reason is not None:
            ended = found.status.value if found.status else "no runner"
            lane = " ".join([found.lane.engine, *_elsewhere(found.lane), found.lane.isa])
            lanes_by_reason.setdefault(f"{ended}: {found.reason}", []).append(lane)
    for reason, where in lanes_by_reason.items():
        console.print(Text(f"{', '.join(where)}:", style="bold"), Text(reason), soft_wrap=True)


def _elsewhere(lane: Lane) -> list[str]:
    return [] if lane.device == "cpu" else [lane.device]


def _environment_lines(support: Support) -> list[str]:
    """What holds under every cap; the instruction set stands in the matrix."""
    found = next(iter(support.environments.values()), None)
    if found is None:
        return ["torch told nothing of this machine: no trial ran under a cap that was asked for"]
    libraries = {"torch": found.torch, "oneDNN": found.onednn, "torchao": found.torchao}
    versions = [f"{name} {version}" for name, version in libraries.items() if version]
    lines = [
        f"{found.cpu}, {found.machine}, {found.os}",
        ", ".join([*versions, f"Python {found.python}", f"threads {found.threads}"]),
    ]
    if found.gpu is not None:
        lines.append(f"{found.gpu}, CUDA {found.cuda}, driver {found.driver or 'unknown'}")
    return lines


def _matrix(support: Support) -> Table:
    caps = list(dict.fromkeys(found.lane.isa for found in support.lanes))
    words: dict[tuple[Engine, Device, Isa], Text | str] = {
        (found.lane.engine, found.lane.device, found.lane.isa): Text("yes", style="green")
        if found.works
        else Text("no", style="yellow")
        for found in support.lanes
    }
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("engine", "device", *caps):
        table.add_column(heading, no_wrap=True)
    for engine, device in dict.fromkeys((found.lane.engine, found.lane.device) for found in support.lanes):
        table.add_row(engine, device, *(words.get((engine, device, cap), "–") for cap in caps))
    reported = (support.environments[cap].isa if cap in support.environments else "–" for cap in caps)
    table.add_row("torch uses", "", *reported, style="dim")
    return table
