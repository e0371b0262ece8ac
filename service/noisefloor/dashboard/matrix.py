"""The matrix of a job: subjects, schemes and edges down, lanes across. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.scheme import Edge, Quantization
from noisefloor.contract.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a row meets a lane: the cell, and its measurement of the whole output if there is one."""

    cell: CellView
    measurement: MeasurementView | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One edge of one scheme; an entry is None where the job has no such cell among those shown."""

    quantization: Quantization
    edge: Edge
    floor_db: float | None
    entries: tuple[Entry | None, ...]

    @property
    def range_db(self) -> float | None:
        """Between the best and the worst lane, in dB; None with fewer than two finite figures."""
        measured = (entry.measurement for entry in self.entries if entry is not None)
        values = [m.figure.value for m in measured if m is not None and m.figure.value is not None]
        return max(values) - min(values) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one subject."""

    subject: Subject
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Lanes across, groups of rows down, in the order of the job's cells."""

    lanes: tuple[Lane, ...]
    groups: tuple[Group, ...]


def matrix(cells: Sequence[CellView]) -> Matrix:
    """Arrange cells in rows and columns."""
    lanes = tuple(dict.fromkeys(cell.lane for cell in cells))
    subjects: dict[str, dict[Quantization, dict[Lane, CellView]]] = {}
    for cell in cells:
        schemes = subjects.setdefault(cell.subject.model_dump_json(), {})
        schemes.setdefault(cell.scheme.quantization, {})[cell.lane] = cell
    return Matrix(lanes=lanes, groups=tuple(_group(schemes, lanes) for schemes in subjects.values()))


def _group(schemes: dict[Quantization, dict[Lane, CellView]], lanes: Sequence[Lane]) -> Group:
    rows = []
    for quantization, by_lane in schemes.items():
        scheme = next(iter(by_lane.values())).scheme
        for edge in scheme.edges:
            entries = tuple(_entry(by_lane.get(lane), edge) for lane in lanes)
            floor_db = scheme.floor_db.get(edge)
            rows.append(Row(quantization=quantization, edge=edge, floor_db=floor_db, entries=entries))
    any_cell = next(iter(next(iter(schemes.values())).values()))
    return Group(subject=any_cell.subject, rows=tuple(rows))


def _entry(cell: CellView | None, edge: Edge) -> Entry | None:
    if cell is None:
        return None
    found = (m for m in cell.measurements if m.edge == edge and m.place == OUTPUT and m.metric == SQNR)
    return Entry(cell=cell, measurement=next(found, None))
