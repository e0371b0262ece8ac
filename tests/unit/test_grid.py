"""The grid of kernels: what stands where, in which words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.samples import kernel

from noisefloor.contract.operators import OPERATORS
from noisefloor.contract.resources import CellView, ConformanceView
from noisefloor.dashboard.grid import Section, grid_of_cells, grid_of_latest

LINEAR, RELU = "quantized::linear", "aten::relu"


def view(op: str, engine: str = "x86", isa: str = "native", **changes: Any) -> ConformanceView:
    document = {
        "id": "0" * 26,
        "project": "demo",
        "job_id": "j",
        "cell_id": f"{engine}-{isa}",
        "mode": "full",
        "torch": "2.13.0",
        "environment": None,
        "recorded_at": datetime(2026, 11, 24, tzinfo=UTC),
    }
    found = kernel(op=op, engine=engine, isa=isa, **changes)
    return ConformanceView.model_validate({**dict(found), **document})


def cell(ordinal: int, engine: str, **changes: Any) -> CellView:
    document = {
        "id": f"c{ordinal}",
        "job_id": "j",
        "ordinal": ordinal,
        "subject": {"conformance": LINEAR},
        "scheme": {"flow": "conformance", "mode": "quick"},
        "lane": {"engine": engine},
        "status": "done",
        "repro": "",
    }
    return CellView.model_validate({**document, **changes})


def words(section: Section) -> dict[str, list[str | None]]:
    return {row.op: [entry and entry.word for entry in row.entries] for row in section.rows}


def test_operators_stand_by_family_and_engines_as_the_contract_has_them() -> None:
    (section,) = grid_of_latest(
        [view("gone::since"), view(RELU, "fbgemm"), view(RELU, "qnnpack", verdict="wrong"), view(LINEAR)]
    )
    assert section.engines == ("qnnpack", "x86", "fbgemm")
    assert words(section) == {
        LINEAR: [None, "exact", None],
        RELU: ["wrong", None, "exact"],
        "gone::since": [None, "exact", None],
    }
    assert OPERATORS.index(LINEAR) < OPERATORS.index(RELU)


def test_each_cap_has_a_table() -> None:
    found = grid_of_latest([view(LINEAR, isa="sse41"), view(LINEAR, isa="native"), view(RELU, isa="avx2")])
    assert [section.title for section in found] == ["ISA cap native", "ISA cap avx2", "ISA cap sse41"]


def test_an_entry_leads_to_the_cell_that_found_it() -> None:
    (section,) = grid_of_latest([view(LINEAR)])
    (entry,) = section.rows[0].entries
    assert entry is not None
    assert (entry.href, entry.figures) == ("/projects/demo/jobs/j/cells/x86-native", None)


@pytest.mark.parametrize(
    ("worst_db", "figures"), [(-3.25, "\N{MINUS SIGN}3.2 dB · 12.5 % · 9 LSB"), (None, "12.5 % · 9 LSB")]
)
def test_a_fault_has_its_figures(worst_db: float | None, figures: str) -> None:
    fault = view(LINEAR, verdict="wrong", wrong_cases=2, wrong_share=0.125, max_lsb=9, worst_db=worst_db)
    (section,) = grid_of_latest([fault])
    (entry,) = section.rows[0].entries
    assert entry is not None
    assert entry.figures == figures


def test_the_tally_counts_each_word_once_and_known_faults_apart() -> None:
    (section,) = grid_of_latest(
        [
            view(LINEAR, "x86", verdict="wrong"),
            view(LINEAR, "onednn", verdict="wrong", known="saturates"),
            view(RELU, "x86", verdict="within_1_lsb"),
            view(RELU, "onednn", verdict="unsupported"),
        ]
    )
    assert section.tally == "1 wrong, 1 wrong and known, 1 within 1 LSB, 1 unsupported"


def test_a_cell_that_found_nothing_says_how_it_stands() -> None:
    found = kernel(op=LINEAR, engine="x86")
    (section,) = grid_of_cells(
        [cell(0, "qnnpack", status="timed_out"), cell(1, "x86", conformance=found)], "/projects/demo"
    )
    late, done = section.rows[0].entries
    assert late is not None
    assert done is not None
    assert (section.title, section.tally) == ("ISA cap native, quick grid", "1 exact, 1 timed out")
    assert (late.word, late.href) == ("timed_out", "#cell-0")
    assert (done.word, done.href) == ("exact", "/projects/demo/jobs/j/cells/c1")


def test_models_have_no_place_in_the_grid() -> None:
    data = {"calibration": {"shape": [1]}, "evaluation": {"shape": [1]}}
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true"}
    model = cell(0, "x86", subject={"zoo": "multiple-ops", "data": data}, scheme=scheme)
    assert grid_of_cells([model], "/projects/demo") == ()
