"""Operators as jobs over HTTP, on both databases: from submit to the verdict, the list and the trend."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import ENVIRONMENT, found, operators

from noisefloor.contract.measurement import CellResult
from noisefloor.store.session import writing

JOBS = "/v1/projects/demo/jobs"
ENGINES = ["qnnpack", "x86"]
NEWER = ENVIRONMENT.replace(torch="2.14.0")
FAULT = {"verdict": "wrong", "wrong_cases": 2, "wrong_share": 0.25, "max_lsb": 9, "worst_db": -3.0}
Tell = Callable[[str, str], dict[str, Any]]


def measured(api: httpx.Client, engine: Engine, document: dict[str, Any], tell: Tell, **same: Any) -> str:
    """A job whose results are told by operator and engine; its id."""
    job_id: str = api.post(JOBS, json=document).json()["id"]
    cells = {cell["id"]: cell for cell in api.get(f"{JOBS}/{job_id}/cells").json()["items"]}

    def answer(cell_id: str) -> CellResult:
        cell = cells[cell_id]
        op, lane = cell["subject"]["conformance"], cell["lane"]
        told = {"environment": ENVIRONMENT, **same, **tell(op, lane["engine"])}
        environment = told.pop("environment")
        result = found(cell_id, op=op, engine=lane["engine"], isa=lane["isa"], **told)
        return result.replace(environment=environment)

    with writing(engine, "test") as session:
        for _ in {(cell["subject"]["conformance"], cell["lane"]["isa"]) for cell in cells.values()}:
            finish(session, claimed(session), answer)
    return job_id


def all_right(op: str, engine: str) -> dict[str, Any]:
    del op, engine
    return {}


def listed(api: httpx.Client, **filters: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/conformance", params=filters).json()["items"]
    return items


@pytest.fixture
def history(api: httpx.Client, engine: Engine) -> httpx.Client:
    """Two operators on two engines: all right, then one at fault under a newer torch, then quickly again."""
    document = operators("quantized::cat", "aten::relu", mode="full", lanes={"engine": ENGINES})

    def one_fault(op: str, on: str) -> dict[str, Any]:
        return FAULT if (op, on) == ("aten::relu", "qnnpack") else {}

    measured(api, engine, document, all_right)
    measured(api, engine, document, one_fault, environment=NEWER)
    quick = operators("aten::relu", lanes={"engine": ["qnnpack"]})
    measured(api, engine, quick, all_right, environment=NEWER)
    return api


def test_a_job_with_a_fault_is_regressed_and_has_the_whole_row(api: httpx.Client, engine: Engine) -> None:
    document = operators("aten::relu", lanes={"engine": [*ENGINES, "fbgemm"]})
    script = {**FAULT, "script": "import torch", "reason": "with values: full"}
    told = {"qnnpack": script, "fbgemm": {"verdict": "unsupported", "reason": "not here", "cases": 0}}
    job_id = measured(api, engine, document, lambda _op, on: told.get(on, {}))
    settled = api.get(f"{JOBS}/{job_id}").json()
    assert settled["verdict"] == "regressed"
    assert (
        "wrong in 2 of 9 cases, 25.0% of the elements, up to 9 LSB, down to -3.0 dB"
        in (settled["verdict_message"])
    )
    assert [(row["status"], row["verdict"], row["conformance"]) for row in settled["results"]] == [
        ("done", "regressed", "wrong"),
        ("done", "pass", "exact"),
        ("unsupported", "warn", "unsupported"),
    ]
    cells = api.get(f"{JOBS}/{job_id}/cells").json()["items"]
    assert cells[0]["conformance"]["script"] == "import torch"
    assert cells[0]["measurements"][0]["finding"]["rule"] == "on.conformance"
    assert cells[2]["reason"] == "not here"


def test_known_faults_let_a_merge_through(api: httpx.Client, engine: Engine) -> None:
    job_id = measured(api, engine, operators("aten::relu"), lambda *_: {**FAULT, "known": "saturates"})
    assert api.get(f"{JOBS}/{job_id}").json()["verdict"] == "acknowledged"


def test_the_latest_of_each_kernel_and_grid_is_listed_newest_first(history: httpx.Client) -> None:
    rows = listed(history)
    assert [(row["op"], row["engine"], row["mode"], row["verdict"], row["torch"]) for row in rows] == [
        ("aten::relu", "qnnpack", "quick", "exact", "2.14.0"),
        ("aten::relu", "x86", "full", "exact", "2.14.0"),
        ("aten::relu", "qnnpack", "full", "wrong", "2.14.0"),
        ("quantized::cat", "x86", "full", "exact", "2.14.0"),
        ("quantized::cat", "qnnpack", "full", "exact", "2.14.0"),
    ]
    cell = history.get(f"{JOBS}/{rows[2]['job_id']}/cells/{rows[2]['cell_id']}").json()
    assert cell["conformance"]["verdict"] == "wrong"
    assert cell["environment"] == rows[2]["environment"]


def test_the_list_is_filtered(history: httpx.Client) -> None:
    found = {
        (name, value): len(listed(history, **{name: value}))
        for name, value in (
            *(("op", "cat*"), ("op", "quantized::*"), ("op", "linear"), ("op", "[!q]*::*"), ("op", "")),
            *(("engine", "qnnpack"), ("isa", "native"), ("isa", "avx2")),
            *(("mode", "full"), ("torch", "2.12.0")),
        )
    }
    assert list(found.values()) == [2, 2, 0, 3, 0, 3, 5, 0, 4, 0]


def test_the_latest_under_a_version_of_torch(history: httpx.Client) -> None:
    rows = listed(history, torch="2.13.0")
    assert {(row["verdict"], row["mode"]) for row in rows} == {("exact", "full")}
    assert len(rows) == 4


def test_the_list_is_paged(history: httpx.Client) -> None:
    seen, cursor = [], None
    while True:
        page = history.get("/v1/conformance", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
    assert seen == listed(history)


def test_a_filter_that_is_no_value_is_refused_with_those_that_are(api: httpx.Client) -> None:
    for field, value in (("engine", "fbgem"), ("isa", "avx"), ("mode", "fast")):
        answer = api.get("/v1/conformance", params={field: value})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert (error["field"].rpartition(".")[2], error["value"]) == (field, value)
        assert len(error["accepted"]) > 1


def test_an_operator_that_is_not_there_is_refused_with_the_nearest(api: httpx.Client) -> None:
    answer = api.post(JOBS, json=operators("quantized::linaer"))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["value"]) == ("subjects.0.conformance", "quantized::linaer")
    assert "did you mean 'quantized::linear'?" in error["message"]
    assert "aten::relu" in error["accepted"]


def test_a_kernel_has_a_trend_that_says_what_the_gate_found(history: httpx.Client) -> None:
    filters = {"subject": "aten::relu", "engine": "qnnpack", "metric": "wrong_cases"}
    lines = history.get("/v1/projects/demo/trends", params=filters).json()["items"]
    full = next(line for line in lines if line["series"]["scheme"] == "conformance full")
    assert [(point["figure"]["value"], point["verdict"]) for point in full["points"]] == [
        (0, "pass"),
        (2, "regressed"),
    ]
    assert [change["index"] for change in full["environment_changes"]] == [1]


def test_an_operator_that_has_gone_can_still_be_read(
    history: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = listed(history)[0]["job_id"]
    monkeypatch.setattr("noisefloor.contract.operators.OPERATORS", ())
    assert history.get(f"{JOBS}/{job_id}").json()["results"][0]["conformance"] == "exact"
    assert len(listed(history)) == 5
    assert history.post(JOBS, json=operators("aten::relu")).status_code == 422
