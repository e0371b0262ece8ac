"""Writes support.md: what each flow gives for each built-in subject on each engine, found by running it.

    make support          # all of it, about a quarter of an hour on two cores

The tests run a sample of the same cells and hold it against what is written.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from noisefloor import plan
from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.lane import Engine
from noisefloor.contract.measurement import OUTPUT, CellResult
from noisefloor.settings import Settings
from noisefloor_workers.cli.run import measure

PAGE = Path(__file__).with_name("support.md")
ENGINES: tuple[Engine, ...] = get_args(Engine)
ENDPOINT = {"weight_only": "fake", "activation_only": "fake"}
MODES = {
    "eager": ("static", "dynamic", "qat", "weight_only", "activation_only"),
    "fx": ("static", "dynamic", "qat"),
    "minmax_fx": ("static",),
    "pt2e": ("static", "dynamic", "qat"),
    "torchao": ("weight_only", "dynamic"),
}
IMAGES = {"shape": [8, 3, 32, 32], "distribution": "normal"}
SMALL = {"shape": [8, 3, 15, 15]}
TOKENS = {"kwargs": {"input_ids": {"shape": [8, 16], "distribution": "integers", "high": 128}}}
SUBJECTS = {
    "multiple-ops": SMALL,
    "multiple-ops-no-avgpool": SMALL,
    "bert": TOKENS,
    "gpt2": TOKENS,
    "vit": IMAGES,
    "resnet": IMAGES,
    "mobilenet-v2": IMAGES,
}
HEAD = """# What works

Written by `make support`, which runs every cell: flows × modes × engines × built-in subjects, with random
weights. A figure is the SQNR in dB of the whole output: `float32->true`, or `float32->fake` where a flow has
no kernels of its own (eager weight_only and activation_only). A number in brackets is the reason why there
is none. Engines that a flow does not run on are left out of its table; a cell that asks for one is
`unsupported` too.

"""


def spec(flow: str, subjects: Iterable[str] = SUBJECTS, engines: Sequence[str] = ENGINES) -> JobSpec:
    """Every mode of a flow, on these subjects and engines."""
    ends = {mode: ENDPOINT.get(mode, "true") if flow == "eager" else "true" for mode in MODES[flow]}
    document: dict[str, Any] = {
        "version": 1,
        "subjects": [
            {"zoo": name, "data": {"calibration": SUBJECTS[name], "evaluation": SUBJECTS[name]}}
            for name in subjects
        ],
        "schemes": [{"flow": flow, "mode": mode, "edge": f"float32->{end}"} for mode, end in ends.items()],
        "lanes": {"engine": list(engines)},
        "limits": {"cell_timeout_s": 900},
        "analysis": {"layers": False},
    }
    return JobSpec.model_validate(document)


def run(job: JobSpec) -> list[tuple[plan.Cell, CellResult]]:
    """The cells of a job with their results, in order."""
    results = measure(job, Settings())
    return [(cell, results[cell.ordinal]) for cell in plan.cells(job)]


def outcome(result: CellResult) -> str:
    """A figure, or how the cell ended and why."""
    if result.status is not CellStatus.DONE:
        return f"{result.status.value}: {' '.join((result.reason or '').split())}"
    output = next(m for m in result.measurements if m.place == OUTPUT)
    zero = ", zero output" if output.sums is not None and output.sums.zero_output else ""
    figure = f"{output.figure.value:.1f}" if output.figure.kind is FigureKind.FINITE else str(output.figure)
    return figure + zero


def page(found: Iterable[tuple[plan.Cell, CellResult]]) -> str:
    """The whole page."""
    by_flow: dict[str, list[tuple[plan.Cell, CellResult]]] = {}
    for cell, result in found:
        by_flow.setdefault(cell.scheme.flow, []).append((cell, result))
    notes: list[str] = []
    tables = ["\n".join(_table(flow, cells, notes)) for flow, cells in by_flow.items()]
    reasons = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, start=1))
    return f"{HEAD}{chr(10).join(tables)}\n## Reasons\n\n{reasons}\n"


def _table(flow: str, cells: Sequence[tuple[plan.Cell, CellResult]], notes: list[str]) -> Iterator[str]:
    elsewhere = "does not run on engine"
    shown = {c.lane.engine: None for c, r in cells if elsewhere not in (r.reason or "")}
    engines = [engine for engine in ENGINES if engine in shown]
    yield f"## {flow}\n"
    yield "| subject | mode | " + " | ".join(engines) + " |"
    yield "|---|---|" + "---|" * len(engines)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell, result in cells:
        row = rows.setdefault((cell.subject.label, cell.scheme.mode), {})
        row[cell.lane.engine] = _short(outcome(result), notes)
    for (subject, mode), row in rows.items():
        yield f"| {subject} | {mode} | " + " | ".join(row[engine] for engine in engines) + " |"
    yield ""


def _short(said: str, notes: list[str]) -> str:
    """A reason by its number; figures stand for themselves."""
    if ": " not in said:
        return said
    if said not in notes:
        notes.append(said)
    return f"[{notes.index(said) + 1}]"


if __name__ == "__main__":
    PAGE.write_text(page(cell for flow in MODES for cell in run(spec(flow))))
    sys.stdout.write(f"wrote {PAGE}\n")
