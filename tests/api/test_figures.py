"""Figures at the ends of their range and beyond it, on both databases."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update
from tests.api.test_problems import problem
from tests.samples import found, job, operators, result

from noisefloor.contract.figure import MAX_FIGURE
from noisefloor.store import tables
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
FLOAT64 = 1.7e308
POLICY = {"rules": {"max_drop_db": 0.5, "creep_db": {"max": 1.0}}, "on": {"no_baseline": "warn"}}
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
NOISE = {
    "runs": 2,
    "threads": [1],
    "lowest": {"value": -FLOAT64, "kind": "finite"},
    "highest": {"value": FLOAT64, "kind": "finite"},
    "distinct_outputs": 1,
}
Document = dict[str, Any]


def finite(value: float) -> Document:
    return {"value": value, "kind": "finite"}


def layers(value: float) -> list[Document]:
    layer = {"name": "fc", "kind": "Linear", "cumulative": finite(40.0), "local": finite(value)}
    return [{"edge": "float32->true", "layers": [layer]}]


def fact(metric: str, value: float) -> Document:
    return {"edge": "float32->true", "place": "graph", "metric": metric, "figure": finite(value)}


def pushed(api: httpx.Client, number: int, change: Callable[[Document], object]) -> httpx.Response:
    """A commit's result, changed as JSON."""
    git = {"branch": "main", "sha": f"{number:040x}", "committed_at": f"2026-01-01T{number:02}:00:00Z"}
    if number == 1:
        git["tag"] = "v1"
    told = result("0").model_dump(mode="json")
    change(told)
    document = {"job": job(git=git, policy=POLICY, schemes=[SCHEME]), "results": [told]}
    return api.post(f"{PROJECT}/results", json=document)


def reads(api: httpx.Client) -> None:
    """Everything that computes with figures answers."""
    lines = api.get(f"{PROJECT}/trends")
    assert lines.status_code == 200, lines.text
    for line in lines.json()["items"]:
        key = line["series"]["key"]
        for path in (f"{PROJECT}/trends.svg?series={key}", f"/projects/demo/series/{key}"):
            answer = api.get(path)
            assert answer.status_code == 200, (path, answer.text)
    for path in (f"{PROJECT}/compare/{1:040x}...{2:040x}", f"{PROJECT}/badge.svg", f"{PROJECT}/export"):
        answer = api.get(path)
        assert answer.status_code == 200, (path, answer.text)
    api.put(f"{PROJECT}/policies/strict", json=POLICY)
    assert api.post(f"{PROJECT}/policies/strict/dry-run", json={}).status_code == 200
    gate = api.post(f"{PROJECT}/gates", json={"sha": f"{2:040x}", "policy": POLICY})
    assert gate.status_code == 201, gate.text


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("save_load_db", 1e20))),
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("prepare_s", 1e101))),
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("acme.x", -FLOAT64))),
        ("layers.0.layers.0.local.value", lambda told: told.update(layers=layers(FLOAT64))),
        (
            "measurements.0.own_floor.value",
            lambda told: told["measurements"][0].update(own_floor=finite(1e5)),
        ),
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("coverage", -5.0))),
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("lowered", 1.001))),
        ("measurements.1.figure.value", lambda told: told["measurements"].append(fact("max_lsb", -1.0))),
        (
            "measurements.0.spread.lsb",
            lambda told: told["measurements"][0].update(spread={"lsb": {"0": 4, "1": -1}}),
        ),
        (
            "measurements.0.spread.p5_sample_db.value",
            lambda told: told["measurements"][0].update(spread={"p5_sample_db": finite(-1e5)}),
        ),
    ],
)
def test_a_figure_that_no_instrument_measures_is_refused(
    api: httpx.Client, field: str, change: Callable[[Document], object]
) -> None:
    document: Any = problem(pushed(api, 1, change), 422, "invalid-request")
    (error,) = document["errors"]
    assert error["field"] == f"results.0.{field}"
    assert error["accepted"]


@pytest.mark.parametrize(
    ("sums", "figure", "field"),
    [
        ({"n": 0, "err_sq": 5.0, "ref_sq": 1.0, "nonfinite_ref": 3}, finite(41.0), "figure"),
        ({"n": 4, "err_sq": 1.0, "ref_sq": 100.0}, finite(20.001), "figure"),
        ({"n": 4, "err_sq": 1.0, "ref_sq": 100.0}, {"kind": "exact"}, "figure"),
        ({"n": 4, "err_sq": 1.0, "ref_sq": 100.0, "err_exp": 10**400}, finite(20.0), "sums.err_exp"),
        ({"n": 4, "err_sq": 1.0, "ref_sq": 100.0}, finite(20.0000001), None),
        (
            {"n": 4, "err_sq": 1e-320, "ref_sq": 1.7e308, "ref_exp": 1024, "err_exp": -1074},
            finite(18908.1),
            "figure",
        ),
    ],
)
def test_a_figure_is_that_of_its_sums(
    api: httpx.Client, sums: Document, figure: Document, field: str | None
) -> None:
    answer = pushed(api, 1, lambda told: told["measurements"][0].update(sums=sums, figure=figure))
    if field is None:
        assert answer.status_code == 201, answer.text
        return
    document: Any = problem(answer, 422, "invalid-request")
    assert [error["field"] for error in document["errors"]] == [f"results.0.measurements.0.{field}"]


@pytest.mark.parametrize(
    ("changes", "counted", "field"),
    [
        ({"verdict": "unsupported", "cases": -1}, 0.0, "conformance.cases"),
        ({"verdict": "unsupported", "cases": 0}, 0.0, "conformance.verdict"),
        ({"verdict": "wrong", "cases": 0, "wrong_cases": 10**30}, 1e30, "conformance.wrong_cases"),
        ({"verdict": "exact", "wrong_cases": 1}, 1.0, "conformance.wrong_cases"),
        ({"max_lsb": -1}, 0.0, "conformance.max_lsb"),
        ({"unsupported_cases": 10}, 0.0, "conformance.unsupported_cases"),
        ({"worst_db": 1e6}, 0.0, "conformance.worst_db"),
        ({"verdict": "wrong", "wrong_cases": 2}, 0.0, "measurements.0.figure"),
    ],
)
def test_what_is_said_of_a_kernel_does_not_contradict_itself(
    api: httpx.Client, changes: Document, counted: float, field: str
) -> None:
    told = found("0", op="aten::relu").model_dump(mode="json")
    told["conformance"].update(changes)
    told["measurements"][0]["figure"] = finite(counted)
    answer = api.post(f"{PROJECT}/results", json={"job": operators("aten::relu"), "results": [told]})
    document: Any = problem(answer, 422, "invalid-request")
    assert [error["field"] for error in document["errors"]] == [f"results.0.{field}"]


def test_a_runner_is_refused_such_a_figure_too() -> None:
    with pytest.raises(ValueError, match="that many dB"):
        result("0", measurements=(result("0").measurements[0].replace(figure=finite(20_001.0), sums=None),))


def test_what_has_the_largest_figures_can_be_read(api: httpx.Client) -> None:
    for number in range(1, 9):
        sign = (-1) ** number

        def told(one: Document, sign: int = sign) -> None:
            one["measurements"] += [fact("acme.x", sign * MAX_FIGURE), fact("time_median_s", MAX_FIGURE)]
            one["measurements"][0].update(figure=finite(sign * 20_000.0), sums=None)
            one["layers"] = layers(sign * 20_000.0)

        assert pushed(api, number, told).status_code == 201
    reads(api)


def kept(engine: Engine, values: Callable[[int], float]) -> None:
    """Figures as older versions took them."""
    with writing(engine, "test") as session:
        rows = session.query(tables.Measurement).order_by(tables.Measurement.id).all()
        for number, row in enumerate(rows):
            change = {"value": values(number)}
            session.execute(update(tables.Measurement).where(tables.Measurement.id == row.id).values(change))
        for number, analysis in enumerate(session.query(tables.Analysis).order_by(tables.Analysis.cell_id)):
            analysis.document = {**analysis.document, "reports": layers(values(number))}


@pytest.mark.parametrize(
    "values",
    [
        lambda number: (-1) ** number * FLOAT64,
        lambda number: 1e200 if number % 2 else 1e180,
        lambda number: 1e20 + number,
    ],
)
def test_what_an_older_version_kept_can_be_read(
    api: httpx.Client, engine: Engine, values: Callable[[int], float]
) -> None:
    for number in range(1, 9):
        assert pushed(api, number, lambda one: one.update(layers=layers(40.0))).status_code == 201
    kept(engine, values)
    reads(api)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("measurement.figure.value", lambda row: row["measurement"].update(figure=finite(1e200))),
        ("measurement.noise.lowest.value", lambda row: row["measurement"].update(noise=NOISE)),
        ("cell.executed_engine", lambda row: row["cell"].update(executed_engine="x" * 33)),
        (
            "finding.baseline.measurement_id",
            lambda row: row["finding"]["baseline"].update(measurement_id="0" * 33),
        ),
        (
            "finding.baseline.figure.value",
            lambda row: row["finding"]["baseline"].update(figure=finite(FLOAT64)),
        ),
        ("job.verdict", lambda row: row["job"].update(verdict="pending")),
        ("job.finished_at", lambda row: row["job"].update(finished_at="2026-01-01T00:00:00Z")),
        ("cell.duration_s", lambda row: row["cell"].update(duration_s=-0.5)),
        ("measurement.figure", lambda row: row["measurement"].update(figure=finite(99.0))),
        ("finding.floor_db", lambda row: row["finding"].update(floor_db=FLOAT64)),
    ],
)
def test_rows_that_no_export_of_true_results_has_are_refused(
    api: httpx.Client, field: str, change: Callable[[Document], object]
) -> None:
    for number in (1, 2):
        assert pushed(api, number, dict.copy).status_code == 201
    text = api.get(f"{PROJECT}/export", params={"format": "jsonl"}).text
    row = json.loads(text.splitlines()[-1])
    change(row)
    headers = {"Content-Type": "application/jsonl"}
    answer = api.post("/v1/projects/other/import", content=json.dumps(row), headers=headers)
    document: Any = problem(answer, 422, "invalid-request")
    assert [error["field"] for error in document["errors"]] == [f"rows.1.{field}"]
