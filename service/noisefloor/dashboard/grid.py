"""The grid of kernels: operators down, engines across, one for each ISA cap. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from noisefloor.contract.conformance import Conformance, Verdict
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Engine, Isa, Lane
from noisefloor.contract.operators import OPERATORS
from noisefloor.contract.resources import CellView, ConformanceView
from noisefloor.dashboard.words import kernel_words

ENGINES: tuple[Engine, ...] = get_args(Engine)
ISAS: tuple[Isa, ...] = get_args(Isa)
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where an operator meets an engine: a verdict, or how the cell stands; a fault has its figures."""

    word: str
    href: str
    known: bool = False
    figures: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One operator; an entry is None where nothing was tried."""

    op: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table, and how often each word stands in it, the gravest first."""

    title: str
    engines: tuple[Engine, ...]
    rows: tuple[Row, ...]
    tally: str


@dataclass(frozen=True, kw_only=True)
class _Placed:
    title: str
    op: str
    engine: Engine
    entry: Entry


def grid_of_latest(found: Iterable[ConformanceView]) -> tuple[Section, ...]:
    """Results from anywhere, by ISA cap."""
    placed = []
    for one in sorted(found, key=lambda one: ISAS.index(one.isa)):
        address = f"/projects/{one.project}/jobs/{one.job_id}/cells/{one.cell_id}"
        entry = _entry(one, address)
        placed.append(_Placed(title=f"ISA cap {one.isa}", op=one.op, engine=one.engine, entry=entry))
    return _sections(placed)


def grid_of_cells(cells: Sequence[CellView], path: str) -> tuple[Section, ...]:
    """The operators among a job's cells, in the job's order; `path` is the project's."""
    placed = []
    for cell in cells:
        if cell.subject.conformance is None:
            continue
        if cell.conformance is not None:
            entry = _entry(cell.conformance, f"{path}/jobs/{cell.job_id}/cells/{cell.id}")
        else:
            entry = Entry(word=cell.status.value, href=f"#cell-{cell.ordinal}")
        title = f"{_title(cell.lane)}, {cell.scheme.mode} grid"
        placed.append(_Placed(title=title, op=cell.subject.conformance, engine=cell.lane.engine, entry=entry))
    return _sections(placed)


def _title(lane: Lane) -> str:
    threads = f", {lane.threads} threads" if lane.threads != 1 else ""
    return f"ISA cap {lane.isa}{threads}"


def _entry(found: Conformance, href: str) -> Entry:
    figures = None
    if found.verdict.is_fault:
        db = [] if found.worst_db is None else [f"{found.worst_db:.1f} dB".replace("-", MINUS)]
        figures = " · ".join([*db, f"{100 * found.wrong_share:.1f} %", f"{found.max_lsb} LSB"])
    return Entry(
        word=found.verdict.value,
        href=href,
        known=found.verdict.is_fault and found.known is not None,
        figures=figures,
    )


def _sections(placed: Sequence[_Placed]) -> tuple[Section, ...]:
    titles = dict.fromkeys(one.title for one in placed)
    return tuple(_section(title, [one for one in placed if one.title == title]) for title in titles)


def _section(title: str, placed: Sequence[_Placed]) -> Section:
    engines = tuple(engine for engine in ENGINES if any(one.engine == engine for one in placed))
    at = {(one.op, one.engine): one.entry for one in placed}
    return Section(
        title=title,
        engines=engines,
        rows=tuple(
            Row(op=op, entries=tuple(at.get((op, engine)) for engine in engines))
            for op in _in_order(one.op for one in placed)
        ),
        tally=_tally(one.entry for one in placed),
    )


def _in_order(ops: Iterable[str]) -> list[str]:
    """By family, as the suite has them; those that have gone since stand last."""
    known = {name: place for place, name in enumerate(OPERATORS)}
    return sorted(dict.fromkeys(ops), key=lambda op: (known.get(op, len(known)), op))


def _tally(entries: Iterable[Entry]) -> str:
    counts = Counter((entry.word, entry.known) for entry in entries)
    words = dict.fromkeys(word.value for word in (*reversed(Verdict), *CellStatus))
    return ", ".join(
        f"{counts[word, known]} {kernel_words(word)}" + (" and known" if known else "")
        for word in words
        for known in (False, True)
        if counts[word, known]
    )
