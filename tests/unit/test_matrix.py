from typing import Any

from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.dashboard.matrix import Matrix, Row, matrix

DATA = {"calibration": {"shape": [8, 3]}, "evaluation": {"shape": [2, 3]}}
STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 30}
QAT = {
    "flow": "eager",
    "mode": "qat",
    "edges": ["float32->fake", "fake->true"],
    "floor_db": {"fake->true": 60},
}


def measured(edge: str, sqnr_db: float | None, place: str = OUTPUT) -> dict[str, Any]:
    figure = {"kind": "exact"} if sqnr_db is None else {"kind": "finite", "value": sqnr_db}
    return {"series": "0" * 32, "edge": edge, "place": place, "figure": figure}


def cell(engine: str, scheme: dict[str, Any], *measurements: dict[str, Any], **changes: Any) -> CellView:
    document = {
        "id": "c",
        "ordinal": 0,
        "subject": {"zoo": "multiple-ops", "data": DATA},
        "scheme": scheme,
        "lane": {"engine": engine},
        "status": "done",
        "measurements": [MeasurementView.model_validate(m) for m in measurements],
        "repro": "",
    }
    return CellView.model_validate({**document, **changes})


def rows(found: Matrix) -> list[Row]:
    return [row for group in found.groups for row in group.rows]


def test_lanes_stand_across_in_the_order_of_the_cells() -> None:
    cells = [cell("x86", STATIC), cell("fbgemm", STATIC), cell("x86", QAT)]
    assert matrix(cells).lanes == (Lane(engine="x86"), Lane(engine="fbgemm"))


def test_each_edge_has_a_row_with_its_own_floor() -> None:
    found = rows(matrix([cell("x86", QAT, measured("float32->fake", 36.4), measured("fake->true", None))]))
    assert [(row.edge, row.floor_db) for row in found] == [("float32->fake", None), ("fake->true", 60)]


def test_an_entry_is_the_figure_of_the_whole_output() -> None:
    leaf, whole = measured("float32->true", 20.0, "output.boxes"), measured("float32->true", 41.5)
    (row,) = rows(matrix([cell("x86", STATIC, leaf, whole)]))
    (entry,) = row.entries
    assert entry is not None
    assert entry.measurement is not None
    assert entry.measurement.figure.value == 41.5


def test_an_entry_is_the_sqnr_and_no_other_metric_of_the_output() -> None:
    other = {**measured("float32->true", 1.0), "metric": "max_lsb"}
    (row,) = rows(matrix([cell("x86", STATIC, other, measured("float32->true", 41.5))]))
    (entry,) = row.entries
    assert entry is not None
    assert entry.measurement is not None
    assert entry.measurement.metric == "sqnr_db"


def test_a_cell_without_figures_keeps_its_place() -> None:
    (row,) = rows(matrix([cell("x86", STATIC, status="crashed", reason="SIGSEGV")]))
    (entry,) = row.entries
    assert entry is not None
    assert (entry.measurement, entry.cell.reason) == (None, "SIGSEGV")


def test_a_lane_that_a_scheme_has_not_is_empty() -> None:
    first, second = rows(matrix([cell("x86", STATIC), cell("fbgemm", QAT)]))[:2]
    assert [entry is None for entry in first.entries] == [False, True]
    assert [entry is None for entry in second.entries] == [True, False]


def test_subjects_of_one_name_and_different_seeds_are_two_groups() -> None:
    other = {"zoo": "multiple-ops", "seeds": {"stream": 7}, "data": DATA}
    found = matrix([cell("x86", STATIC), cell("x86", STATIC, subject=other)])
    assert [group.subject.seeds.stream for group in found.groups] == [None, 7]


def test_the_range_spans_finite_figures_only() -> None:
    lanes = [("x86", 41.5), ("fbgemm", 38.0), ("onednn", None)]
    cells = [cell(engine, STATIC, measured("float32->true", value)) for engine, value in lanes]
    assert rows(matrix(cells))[0].range_db == 3.5
    assert rows(matrix(cells[1:]))[0].range_db is None
