"""Writes support.md: what each flow gives for each built-in subject on each engine, found by running it.

    make support                     # all of it, about half an hour on two cores
    python docs/support.py pt2e fx   # these flows again; the others' tables stay

The tests run a sample of the same cells and hold it against what is written.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from noisefloor import plan
from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine
from noisefloor.contract.measurement import OUTPUT, CellResult
from noisefloor.settings import Settings
from noisefloor_workers.cli.run import measure

PAGE = Path(__file__).with_name("support.md")
HEADLINE_IS_FAKE = {("eager", "weight_only"), ("eager", "activation_only")}
MODES = {
    "eager": ("static", "dynamic", "qat", "weight_only", "activation_only"),
    "fx": ("static", "dynamic", "qat"),
    "minmax_fx": ("static",),
    "pt2e": ("static", "dynamic", "qat"),
    "torchao": ("weight_only", "dynamic"),
}
ENGINES: dict[str, tuple[Engine, ...]] = {
    "eager": QUANTIZED_ENGINES,
    "fx": QUANTIZED_ENGINES,
    "minmax_fx": QUANTIZED_ENGINES,
    "pt2e": ("inductor", "xnnpack"),
    "torchao": ("aten", "inductor"),
}
# What the quantizers of pt2e ask for
OPTIONS: dict[Engine, dict[str, Any]] = {
    "inductor": {"granularity": "per_channel"},
    "xnnpack": {"granularity": "per_channel", "quantizer": "xnnpack", "reduce_range": False},
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
weights, on one thread. A figure is the SQNR in dB of the whole output: `float32->true`, or `float32->fake`
where a flow has no kernels of its own (eager weight_only and activation_only). A number in brackets is the
reason why there is none, below the table. A cell on any other engine of the CPU is `unsupported`.
"""
CELL_TIMEOUT_S = 300

Found = list[tuple[plan.Cell, CellResult]]


def spec(flow: str, engines: Sequence[Engine], subjects: Iterable[str] = SUBJECTS) -> JobSpec:
    """Every mode of a flow, on these subjects and engines."""
    options = OPTIONS.get(engines[0], {}) if flow == "pt2e" else {}
    ends = {mode: "fake" if (flow, mode) in HEADLINE_IS_FAKE else "true" for mode in MODES[flow]}
    document: dict[str, Any] = {
        "version": 1,
        "subjects": [
            {"zoo": name, "data": {"calibration": SUBJECTS[name], "evaluation": SUBJECTS[name]}}
            for name in subjects
        ],
        "schemes": [
            {"flow": flow, "mode": mode, "edge": f"float32->{end}", **options} for mode, end in ends.items()
        ],
        "lanes": {"engine": list(engines)},
        "limits": {"cell_timeout_s": CELL_TIMEOUT_S},
        "analysis": {"layers": False},
    }
    return JobSpec.model_validate(document)


def run(flow: str, subjects: Iterable[str] = SUBJECTS, engines: Sequence[Engine] | None = None) -> Found:
    """The cells of a flow with their results, in order."""
    wanted = ENGINES[flow] if engines is None else engines
    groups = [(engine,) for engine in wanted] if flow == "pt2e" else [tuple(wanted)]
    found: Found = []
    for group in groups:
        job = spec(flow, group, subjects)
        results = measure(job, Settings())
        found += [(cell, results[cell.ordinal]) for cell in plan.cells(job)]
    return found


def outcome(result: CellResult) -> str:
    """A figure, or how the cell ended and why."""
    if result.status is not CellStatus.DONE:
        return f"{result.status.value}: {' '.join((result.reason or '').split())}"
    output = next(m for m in result.measurements if m.place == OUTPUT)
    zero = ", zero output" if output.sums is not None and output.sums.zero_output else ""
    figure = f"{output.figure.value:.1f}" if output.figure.kind is FigureKind.FINITE else str(output.figure)
    return figure + zero


def section(flow: str, found: Found) -> str:
    """A flow's table, and its reasons."""
    engines = [e for e in ENGINES[flow] if any(cell.lane.engine == e for cell, _ in found)]
    notes: list[str] = []
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell, result in found:
        row = rows.setdefault((cell.subject.label, cell.scheme.mode), {})
        row[cell.lane.engine] = _short(outcome(result), notes)
    lines = [f"## {flow}", "", "| subject | mode | " + " | ".join(engines) + " |"]
    lines += ["|---|---|" + "---|" * len(engines)]
    for (subject, mode), row in rows.items():
        lines.append(f"| {subject} | {mode} | " + " | ".join(row[engine] for engine in engines) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, start=1)), ""]
    return "\n".join(lines)


def sections(page: str) -> dict[str, str]:
    """The flows' parts of a page that was written before."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


def _short(said: str, notes: list[str]) -> str:
    """A reason by its number; figures stand for themselves."""
    if ": " not in said:
        return said
    if said not in notes:
        notes.append(said)
    return f"[{notes.index(said) + 1}]"


def main(flows: Sequence[str]) -> None:
    """Run these flows, or all, and write the page."""
    written = sections(PAGE.read_text()) if PAGE.exists() else {}
    for flow in flows or MODES:
        written[flow] = section(flow, run(flow))
        # a long run that is cut short keeps what it has
        PAGE.write_text("\n".join([HEAD, *(written[name] for name in MODES if name in written)]))
        sys.stdout.write(f"wrote {flow} to {PAGE}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
