"""Results that were measured elsewhere, on both databases."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from tests.api.test_problems import json_values, problem
from tests.ci.suites import suite
from tests.conftest import serving
from tests.measuring import TAKES_ALL, claimed, finish
from tests.samples import ENVIRONMENT, found, job, kernel, operators, result, small_data

from noisefloor.contract.files import Files
from noisefloor.contract.job import CellStatus
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.execute import claim

PROJECT = "/v1/projects/demo"
RESULTS = f"{PROJECT}/results"
JOBS = f"{PROJECT}/jobs"
TWO = {"engine": ["x86", "onednn"]}


def measured(*results: CellResult, **changes: Any) -> dict[str, Any]:
    """A job with the results of its cells."""
    return {"job": job(**changes), "results": [one.model_dump(mode="json") for one in results]}


def same_as_if_it_ran_here(document: dict[str, Any]) -> dict[str, Any]:
    """What a document says, without what is different of every job."""
    apart = {"id", "job_id", "created_at", "finished_at", "cell"}
    return {name: value for name, value in document.items() if name not in apart}


def test_results_are_recorded_and_judged_as_if_they_were_measured_here(
    api: httpx.Client, engine: Engine
) -> None:
    figure = {"value": 40.0, "kind": "finite"}
    layer = Layer.model_validate({"name": "fc", "kind": "Linear", "cumulative": figure, "local": figure})
    layers = (LayerReport(edge="float32->true", layers=(layer,)),)
    ran = api.post(JOBS, json=job()).json()["id"]
    with writing(engine, "test") as session:
        finish(session, claimed(session), lambda cell: result(cell, layers=layers))
    answer = api.post(RESULTS, json=measured(result("0", layers=layers)))
    assert answer.status_code == 201, answer.text
    pushed = answer.json()
    assert answer.headers["Location"] == f"{JOBS}/{pushed['id']}"
    assert (pushed["status"], pushed["verdict"], pushed["progress"]["ended"]) == ("done", "pass", 1)
    seen = [api.get(f"{JOBS}/{job_id}").json() for job_id in (ran, pushed["id"])]
    assert seen[1] == pushed
    of_jobs = [api.get(f"{JOBS}/{one['id']}/cells").json()["items"] for one in seen]
    for (one,), view in zip(of_jobs, seen, strict=True):
        one["measurements"] = [same_as_if_it_ran_here(m) for m in one["measurements"]]
        found = api.get(f"{JOBS}/{view['id']}/cells/{one['id']}/layers").json()
        one["layers"] = same_as_if_it_ran_here(found)
    assert same_as_if_it_ran_here(of_jobs[0][0]) == same_as_if_it_ran_here(of_jobs[1][0])
    (line,) = api.get(f"{PROJECT}/trends").json()["items"]
    assert [point["job_id"] for point in line["points"]] == [ran, pushed["id"]]


def test_results_are_held_against_the_history_of_the_service(api: httpx.Client) -> None:
    policy = {"rules": {"max_drop_db": 0.5}}
    verdicts = []
    for hour, sqnr_db in ((1, 41.5), (2, 40.0)):
        git = {"branch": "main", "sha": f"{hour:040x}", "committed_at": f"2026-01-01T0{hour}:00:00Z"}
        pushed = api.post(RESULTS, json=measured(result("0", sqnr_db), git=git, policy=policy))
        verdicts.append(pushed.json()["verdict"])
    assert verdicts == ["no_baseline", "regressed"]


def test_a_missing_series_of_a_long_place_is_named_whole(api: httpx.Client) -> None:
    policy = {"rules": {"max_drop_db": 0.5}}
    one = result("0")
    leaf = one.measurements[0].replace(place="a" * 512)
    both = one.replace(measurements=(*one.measurements, leaf))
    ids = []
    for hour, told in ((1, both), (2, one)):
        git = {"branch": "main", "sha": f"{hour:040x}", "committed_at": f"2026-01-01T0{hour}:00:00Z"}
        pushed = api.post(RESULTS, json=measured(told, git=git, policy=policy))
        assert pushed.status_code == 201, pushed.text
        ids.append(pushed.json()["id"])
    (absent,) = api.get(f"{JOBS}/{ids[1]}").json()["missing"]
    assert absent["label"].endswith("a" * 512)
    api.put(f"{PROJECT}/policies/drop", json=policy)
    dry = api.post(f"{PROJECT}/policies/drop/dry-run", json={})
    assert len(dry.json()["jobs"]) == 2, dry.text


def test_what_a_cell_ended_with_is_kept(api: httpx.Client) -> None:
    failed = result("1", status=CellStatus.CRASHED, reason="why", measurements=())
    pushed = api.post(RESULTS, json=measured(result("0"), failed, lanes=TWO)).json()
    assert pushed["verdict"] == "error"
    cells = api.get(f"{JOBS}/{pushed['id']}/cells").json()["items"]
    assert [(cell["status"], cell["reason"]) for cell in cells] == [("done", None), ("crashed", "why")]


def test_no_worker_is_given_what_was_measured(api: httpx.Client, engine: Engine) -> None:
    api.post(RESULTS, json=measured(result("0")))
    with writing(engine, "test") as session:
        assert claim(session, "w", TAKES_ALL) is None


def test_a_repeated_key_is_one_job(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "abc"}
    first, second = (api.post(RESULTS, json=measured(result("0")), headers=headers) for _ in range(2))
    assert (second.status_code, second.json()) == (201, first.json())
    assert len(api.get(JOBS).json()["items"]) == 1
    other = api.post(RESULTS, json=measured(result("0", 40.0)), headers=headers)
    problem(other, 422, "idempotency-conflict")
    problem(api.post(JOBS, json=job(), headers=headers), 422, "idempotency-conflict")


@pytest.mark.parametrize(
    ("results", "field", "message"),
    [
        ([result("0")], "results", "cell 1 is missing"),
        ([], "results", "cell 0 is missing"),
        ([result("0"), result("1"), result("2")], "results.2.cell", "the job has no such cell"),
        ([result("0"), result("01")], "results.1.cell", "the job has no such cell"),
        ([result("0"), result("0"), result("1")], "results.0.cell", "several results"),
        ([result("0"), result("1", measurements=())], "results.1.measurements", "float32->true"),
        (
            [result("0"), result("1", measurements=result("1").measurements * 2)],
            "results.1.measurements",
            "twice",
        ),
        ([result("0"), result("1", status=CellStatus.FAILED)], "results.1.status", "cell that is done"),
    ],
)
def test_results_that_are_not_those_of_the_job_are_named(
    api: httpx.Client, results: list[CellResult], field: str, message: str
) -> None:
    document: Any = problem(api.post(RESULTS, json=measured(*results, lanes=TWO)), 422, "invalid-request")
    assert field in [error["field"] for error in document["errors"]]
    assert message in document["detail"]
    assert api.get(JOBS).json()["items"] == []


def test_kernels_that_were_measured_elsewhere_are_recorded_and_judged(api: httpx.Client) -> None:
    told = found("0", op="aten::relu", verdict="wrong", wrong_cases=2)
    document = {"job": operators("aten::relu"), "results": [told.model_dump(mode="json")]}
    pushed = api.post(RESULTS, json=document)
    assert pushed.status_code == 201, pushed.text
    assert pushed.json()["verdict"] == "regressed"
    (one,) = api.get("/v1/conformance").json()["items"]
    assert (one["job_id"], one["op"], one["verdict"]) == (pushed.json()["id"], "aten::relu", "wrong")


def test_a_kernel_that_is_unsupported_now_is_missing_where_the_policy_compares(api: httpx.Client) -> None:
    verdicts = []
    for hour, verdict in ((1, "exact"), (2, "unsupported")):
        git = {"branch": "main", "sha": f"{hour:040x}", "committed_at": f"2026-01-01T0{hour}:00:00Z"}
        asked = operators("aten::relu", git=git, policy={"rules": {"max_drop_db": 0.5}})
        told = found("0", op="aten::relu", verdict=verdict, reason="why")
        pushed = api.post(RESULTS, json={"job": asked, "results": [told.model_dump(mode="json")]})
        verdicts.append(pushed.json()["verdict"])
    assert verdicts == ["pass", "regressed"]


@pytest.mark.parametrize(
    ("job", "told", "field"),
    [
        (operators("aten::relu"), found("0"), "results.0.conformance.op"),
        (
            operators("aten::relu"),
            found("0", op="aten::relu", engine="onednn"),
            "results.0.conformance.engine",
        ),
        (operators("aten::relu"), found("0", op="aten::relu", isa="avx2"), "results.0.conformance.isa"),
        (operators("aten::relu"), found("0").replace(conformance=None), "results.0.conformance"),
        (operators("aten::relu"), found("0").replace(environment=None), "results.0.environment"),
        (operators("aten::relu"), found("0").replace(measurements=()), "results.0.measurements"),
        (job(), result("0", conformance=kernel()), "results.0.conformance"),
        (operators("relus"), found("0"), "subjects.0.conformance"),
    ],
)
def test_kernels_that_are_not_those_of_the_job_are_named(
    api: httpx.Client, job: dict[str, Any], told: CellResult, field: str
) -> None:
    posted = api.post(RESULTS, json={"job": job, "results": [told.model_dump(mode="json")]})
    document: Any = problem(posted, 422, "invalid-request")
    assert any(error["field"].endswith(field) for error in document["errors"])


def test_an_engine_that_no_column_holds_is_refused(api: httpx.Client) -> None:
    document = measured(result("0"))
    document["results"][0]["executed_engine"] = "x" * 33
    problem(api.post(RESULTS, json=document), 422, "invalid-request")


def test_a_result_that_has_not_ended_is_refused(api: httpx.Client) -> None:
    document = measured(result("0"))
    document["results"][0]["status"] = "queued"
    problem(api.post(RESULTS, json=document), 422, "invalid-request")


def test_a_job_of_another_project_is_refused(api: httpx.Client) -> None:
    problem(api.post(RESULTS, json=measured(result("0"), project="other")), 422, "invalid-request")


def test_results_that_name_a_suite_decide_its_status(api: httpx.Client, engine: Engine) -> None:
    api.put(f"{PROJECT}/suites/int8", json=suite(run="external", job=None))
    document = measured(result("0"), suite="int8", git={"sha": "ab" * 20, "branch": "main"})
    pushed = api.post(RESULTS, json=document)
    assert pushed.status_code == 201, pushed.text
    with reading(engine) as session:
        (sent,) = session.scalars(select(tables.Delivery))
    told = sent.announcement
    assert (told["job"], told["suite"], told["verdict"]) == (pushed.json()["id"], "int8", "pass")
    problem(api.post(RESULTS, json=measured(result("0"), suite="none")), 422, "invalid-request")
    explaining = document | {"explains": pushed.json()["id"]}
    assert api.post(RESULTS, json=explaining).status_code == 201
    with reading(engine) as session:
        assert {one.announcement["job"] for one in session.scalars(select(tables.Delivery))} == {
            pushed.json()["id"]
        }


def test_a_model_that_this_service_may_not_load_is_recorded_but_not_run_again(api: httpx.Client) -> None:
    subject = {"import": "elsewhere.models:build", "data": small_data()}
    failed = result("0", status=CellStatus.FAILED, reason="why", measurements=())
    pushed = api.post(RESULTS, json=measured(failed, subjects=[subject]))
    assert pushed.status_code == 201
    problem(api.post(f"{JOBS}/{pushed.json()['id']}/retry"), 422, "not-allowed")


@pytest.fixture
def narrow(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """A service that takes a kilobyte, and four of results."""
    small = settings.model_copy(update={"max_body_bytes": 1024, "max_results_bytes": 4096})
    with serving(small, engine) as client:
        client.headers["Content-Type"] = "application/json"
        yield client


def test_results_may_be_larger_than_other_bodies(narrow: httpx.Client) -> None:
    padded = json.dumps(measured(result("0"))).ljust(4096)
    assert narrow.post(RESULTS, content=padded).status_code == 201
    problem(narrow.post(RESULTS, content=f"{padded} "), 413, "body-too-large")
    for path in (JOBS, f"{RESULTS}/"):
        problem(narrow.post(path, content=padded), 413, "body-too-large")


PLACES = [*result("0").model_dump(), "sums", "figure", "place", "edge", "metric"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.sampled_from(PLACES),
    value=json_values,
)
def test_no_value_anywhere_makes_a_500(api: httpx.Client, at: str, value: object) -> None:
    document = measured(result("0"))
    (one,) = document["results"]
    (one if at in one else one["measurements"][0])[at] = value
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    answer = api.post(RESULTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {201, 400, 422}, answer.text


OLD, NEW = ENVIRONMENT, ENVIRONMENT.replace(torch="2.14.0")


def at(commit: int, figure: float, environment: Environment, **changes: Any) -> dict[str, Any]:
    """What was measured of a commit on main; each loss since the commit before is one."""
    git = {
        "branch": "main",
        "sha": f"{commit:040x}",
        "ancestors": [f"{before:040x}" for before in range(commit - 1, 0, -1)],
        "committed_at": f"2026-01-01T0{commit}:00:00Z",
    }
    subject = {"import": "net:build", "data": small_data()}
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true"}
    policy = {"rules": {"max_drop_db": 0.5}, "baseline": {"source": "nearest_ancestor"}}
    given = {"subjects": [subject], "schemes": [scheme], "policy": policy, "git": git, "name": "nightly"}
    found = result("0", figure, environment=environment, files=Files(commit=git["sha"]))
    return measured(found, **given) | changes


@pytest.fixture
def lost(api: httpx.Client) -> str:
    """A job that lost 4 dB since a baseline of another environment."""
    api.post(RESULTS, json=at(1, 40.0, OLD))
    return str(api.post(RESULTS, json=at(2, 36.0, NEW)).json()["id"])


def baseline(api: httpx.Client, job_id: str) -> str | None:
    """The commit that the job's only cell was held against."""
    (cell,) = api.get(f"{JOBS}/{job_id}/cells").json()["items"]
    found = cell["measurements"][0]["finding"]["baseline"]
    return found and str(found["sha"])


def test_results_that_explain_a_job_are_its_corner(api: httpx.Client, lost: str) -> None:
    corner = api.post(RESULTS, json=at(1, 36.1, NEW, explains=lost)).json()
    assert corner["explains"] == lost
    (view,) = api.get(f"{JOBS}/{lost}/attribution").json()
    square = view["attribution"]["square"]
    assert (square["old_in_new"]["job_id"], square["old_in_new"]["figure"]["value"]) == (corner["id"], 36.1)
    assert view["attribution"]["cause"] == "both"


def test_results_that_explain_a_job_decide_nothing(api: httpx.Client, lost: str) -> None:
    def seen() -> list[Any]:
        at_first = {"sha": f"{1:040x}", "policy": {"rules": {"floor_db": 30}}}
        gate = api.post(f"{PROJECT}/gates", json=at_first).json()
        commits = api.get(f"{PROJECT}/compare/{1:040x}...{2:040x}").json()
        lines = api.get(f"{PROJECT}/trends").json()["items"]
        badge = api.get(f"{PROJECT}/badge.svg", params={"branch": "main"}).text
        export = api.get(f"{PROJECT}/export", params={"format": "csv"}).text
        judged = [gate["verdict"], [job["job"] for job in gate["jobs"]]]
        return [*judged, commits["items"], lines, badge, export]

    before = seen()
    for commit, figure in ((1, 20.0), (3, 20.0)):
        assert api.post(RESULTS, json=at(commit, figure, NEW, explains=lost)).status_code == 201
    assert seen() == before
    assert api.get(f"{PROJECT}/compare/{1:040x}...{3:040x}").status_code == 404
    after = api.post(RESULTS, json=at(4, 40.0, OLD)).json()
    assert (after["verdict"], baseline(api, after["id"])) == ("pass", f"{1:040x}")
    page = api.get(f"/projects/demo/jobs/{after['id']}").text
    assert f"/compare/{1:040x}...{4:040x}" in page


def test_results_that_explain_a_job_are_no_history_of_its_branch(api: httpx.Client, lost: str) -> None:
    api.post(RESULTS, json=at(3, 40.0, OLD, explains=lost))
    topic = at(4, 39.9, OLD)
    topic["job"]["git"] |= {"branch": "topic", "ancestors": [f"{commit:040x}" for commit in (3, 1)]}
    topic["job"]["policy"]["baseline"] = {"source": "merge_base", "branch": "main"}
    assert baseline(api, api.post(RESULTS, json=topic).json()["id"]) == f"{1:040x}"


def test_results_that_explain_a_job_hide_no_missing_series(api: httpx.Client) -> None:
    two = at(1, 40.0, OLD)
    two["job"]["lanes"] = TWO
    two["results"] = [result(cell, 40.0).model_dump(mode="json") for cell in "01"]
    explained = api.post(RESULTS, json=two).json()["id"]
    api.post(RESULTS, json=at(1, 40.0, OLD, explains=explained))
    (missing,) = api.post(RESULTS, json=at(2, 40.0, OLD)).json()["missing"]
    assert "onednn" in missing["label"]


def test_results_that_explain_a_job_leave_a_first_result_the_first(api: httpx.Client, lost: str) -> None:
    def on_onednn(commit: int, environment: Environment, **changes: Any) -> str:
        document = at(commit, 40.0, environment, **changes)
        document["job"]["lanes"] = {"engine": ["onednn"]}
        return str(api.post(RESULTS, json=document).json()["id"])

    on_onednn(3, OLD, explains=lost)
    for listed in ("series", "trends"):
        assert api.get(f"{PROJECT}/{listed}", params={"engine": "onednn"}).json()["items"] == []
    on_onednn(3, NEW)
    assert baseline(api, on_onednn(4, NEW)) == f"{3:040x}"


def test_results_explain_only_a_job_that_is_there_and_decides(
    api: httpx.Client, engine: Engine, lost: str
) -> None:
    corner = api.post(RESULTS, json=at(1, 36.1, NEW, explains=lost)).json()["id"]
    elsewhere = api.post("/v1/projects/other/results", json=at(1, 40.0, OLD)).json()["id"]
    for job_id, said in (
        ("0" * 26, "project 'demo' has no such job"),
        (elsewhere, "project 'demo' has no such job"),
        (corner, "decides nothing itself"),
    ):
        refused = problem(api.post(RESULTS, json=at(1, 36.1, NEW, explains=job_id)), 422, "invalid-request")
        (error,) = refused["errors"]
        assert (error["field"], error["value"]) == ("explains", job_id)
        assert said in error["message"]
    with reading(engine) as session:
        assert len(session.scalars(select(tables.Job)).all()) == 4
