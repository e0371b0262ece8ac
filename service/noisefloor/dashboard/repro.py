"""What the command that reproduces a cell needs, and what it prints then, in words. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noisefloor.contract.job import Git
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.dashboard.words import decibels, edge_words, short_sha

NO_CAP = "native"


@dataclass(frozen=True, kw_only=True)
class Repro:
    """A cell's command under the sentences that it takes to trust it."""

    command: str
    told: str


def repro(
    cell: CellView,
    git: Git,
    environment: Mapping[str, Any] | None,
    measured: MeasurementView | None = None,
) -> Repro:
    """The command of a cell of a job at `git`. `measured`: the figure that is looked for, if it is one."""
    document = environment or {}
    given = ", ".join((*_needs(cell, git), *_surroundings(document)))
    prints = ", ".join(_prints(cell, measured))
    said = f"{given}, it prints {prints}" if prints else given
    sentences = [said[:1].upper() + said[1:], *_verdict(cell, measured), *_cap(document)]
    return Repro(command=cell.repro, told=" ".join(f"{one}." for one in sentences if one))


def _needs(cell: CellView, git: Git) -> Iterator[str]:
    if cell.subject.is_of_a_commit or cell.files is not None:
        of = f" of {git.repository}" if git.repository else ""
        changed = ", with the changes that were not committed" if git.dirty else ""
        sha = short_sha(git.sha) if git.sha else None
        at = f" at {sha} (git checkout {sha}){changed}" if sha else ", at a commit that the job does not name"
        yield f"in a checkout{of}{at}"
    data = cell.subject.data
    sources = (cell.subject.weights, *((data.calibration, data.evaluation) if data is not None else ()))
    names = (one.safetensors for one in sources if one is not None and one.safetensors is not None)
    if files := dict.fromkeys(names):
        yield f"with {' and '.join(files)} below NOISEFLOOR_FILES or below the folder"


def _surroundings(document: Mapping[str, Any]) -> Iterator[str]:
    """What a figure depends on that the command does not set."""
    if document:
        versions = {"torch": document.get("torch", "unknown"), **(document.get("plugins") or {})}
        machine = document.get("gpu") or f"{document.get('isa', '')} ({document.get('cpu', 'unknown')})"
        yield f"with {', '.join(f'{name} {version}' for name, version in versions.items())} on {machine}"


def _prints(cell: CellView, measured: MeasurementView | None) -> Iterator[str]:
    headline = [m for m in cell.measurements if m.place == OUTPUT and m.metric == SQNR]
    wanted = [m for m in headline if measured is None or m.id == measured.id] or headline
    for one in wanted:
        unit = " dB" if one.figure.value is not None else ""
        edge = f" for {edge_words(one.edge)}" if len(wanted) > 1 else ""
        yield f"{decibels(one.figure)}{unit}{edge}"


def _verdict(cell: CellView, measured: MeasurementView | None) -> Iterator[str]:
    """`noisefloor run` has no history: a loss alone does not fail it."""
    floors = cell.scheme.floor_db
    below = any(
        m.figure.value is not None and m.edge in floors and m.figure.value < floors[m.edge]
        for m in cell.measurements
        if m.place == OUTPUT and m.metric == SQNR
    )
    if below:
        yield "It exits with 1, for a floor of its own is above that"
    elif measured is not None and measured.finding is not None and measured.finding.drop_db:
        yield "It judges its own floors alone, not what was lost since the baseline: look at the figure"


def _cap(document: Mapping[str, Any]) -> Iterator[str]:
    """AVX2 is the one level that an environment tells: AVX512 may be with VNNI or without."""
    uncapped = document.get("isa_cap", NO_CAP) == NO_CAP
    if uncapped and document.get("isa") == "AVX2" and not document.get("gpu"):
        yield 'A processor with more is held at AVX2 where "isa":["avx2"] stands in its "lanes"'
