"""Bisections over HTTP, on both databases."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import imported, job, operators, result, small_data

from noisefloor.contract.bisection import MAX_COMMITS
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import PRIORITIES
from noisefloor.contract.layers import LayerReport
from noisefloor.contract.measurement import CellResult, Measurement
from noisefloor.store.session import writing

BISECTIONS = "/v1/projects/demo/bisections"
JOBS = "/v1/projects/demo/jobs"
SHAS = [f"{number:040x}" for number in range(MAX_COMMITS + 1)]
ON_OPERATOR = {
    "subjects": [{"operator": {"name": "quantize_per_tensor", "shape": [8]}}],
    "schemes": [{"flow": "ops", "mode": "forward", "edge": "float64->true", "floor_db": 120}],
}
LAYERS = {"over": "layers", "below_db": 30, "job": job()}
DROP = {"rules": {"max_drop_db": 0.5}, "baseline": {"source": "nearest_ancestor"}}
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
OPERATOR = {"operator": {"name": "quantize_per_tensor", "shape": [8]}}


def settled(api: httpx.Client, engine: Engine) -> str:
    """A job that lost nothing."""
    job_id: str = api.post(JOBS, json=job()).json()["id"]
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    return job_id


def test_a_bisection_is_accepted_with_its_address_and_its_first_step(api: httpx.Client) -> None:
    answer = api.post(BISECTIONS, json=LAYERS)
    assert answer.status_code == 202, answer.text
    posted = answer.json()
    assert answer.headers["Location"] == f"{BISECTIONS}/{posted['id']}"
    assert (posted["status"], posted["message"]) == ("running", "measuring all layers")
    assert "noisefloor up" in posted["waiting_for"]
    assert api.get(answer.headers["Location"], params={"wait": 0.1}).json() == posted
    assert api.get(BISECTIONS).json()["items"] == [posted]
    (step,) = posted["steps"]
    entered = api.get(f"{JOBS}/{step['job']}").json()
    assert entered["name"] == f"bisection of {posted['id']}: all layers"
    assert entered["spec"]["priority"] == PRIORITIES["bisect"]
    assert entered["spec"]["schemes"][0]["floor_db"] == {}


def test_a_repeated_key_is_one_bisection(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "abc"}
    first, second = (api.post(BISECTIONS, json=LAYERS, headers=headers).json() for _ in range(2))
    assert first == second
    assert len(api.get(BISECTIONS).json()["items"]) == 1
    conflict = api.post(BISECTIONS, json={**LAYERS, "below_db": 31}, headers=headers)
    assert conflict.status_code == 422
    assert conflict.json()["type"] == "urn:noisefloor:problem:idempotency-conflict"


def test_a_cancelled_bisection_ends_its_steps_and_may_be_cancelled_again(api: httpx.Client) -> None:
    posted = api.post(BISECTIONS, json=LAYERS).json()
    for _ in range(2):
        ended = api.post(f"{BISECTIONS}/{posted['id']}/cancel")
        assert (ended.status_code, ended.json()["status"]) == (202, "cancelled")
    (step,) = ended.json()["steps"]
    assert api.get(f"{JOBS}/{step['job']}").json()["status"] == "cancelled"


def test_what_cannot_be_bisected_names_the_field(api: httpx.Client, engine: Engine) -> None:
    model = imported("odd:build")
    of = settled(api, engine)
    several = job(subjects=[{"zoo": "multiple-ops", "data": small_data(), "args": {}}, OPERATOR])
    refused: list[tuple[dict[str, Any], str]] = [
        ({"over": "isa"}, "job"),
        ({"over": "isa", "job": job(), "of": of}, "of"),
        ({"over": "weeks", "job": job()}, "over"),
        ({"over": "layers", "job": job()}, "below_db"),
        ({"over": "isa", "job": job(), "commits": SHAS[:3]}, "commits"),
        ({"over": "commits", "job": model, "commits": SHAS[:1]}, "commits"),
        ({"over": "commits", "job": model, "commits": SHAS}, "commits"),
        ({"over": "commits", "job": model, "commits": [SHAS[0], SHAS[0]]}, "(whole)"),
        ({"over": "commits", "job": model}, "commits"),
        ({"over": "commits", "job": job(), "commits": SHAS[:3]}, "job"),
        ({"over": "commits", "job": model, "commits": SHAS[:3], "good": "a" * 40}, "good"),
        ({"over": "commits", "job": model, "commits": SHAS[:3], "bad": SHAS[0]}, "bad"),
        ({"over": "isa", "of": of}, "of"),
        ({"over": "isa", "job": job(), "series": "0" * 32}, "series"),
        ({**LAYERS, "job": several}, "job.schemes.0.flow"),
        ({**LAYERS, "job": {**job(), "subjects": [*job()["subjects"], *model["subjects"]]}}, "job"),
        ({**LAYERS, "job": operators("quantized::linear")}, "job"),
        (
            {**LAYERS, "job": job(subjects=[{**model["subjects"][0], "import": "os:system"}])},
            "job.subjects.0.import",
        ),
        ({"over": "environments", "job": job(lanes={"engine": ["x86"], "isa": ["native", "avx2"]})}, "job"),
    ]
    for document, field in refused:
        answer = api.post(BISECTIONS, json=document)
        assert answer.status_code == 422, (document, answer.text)
        problem = answer.json()
        assert field in [error["field"] for error in problem["errors"]], (document, problem)
        assert problem["detail"]
    assert api.get(BISECTIONS).json()["items"] == []


def test_what_is_not_there_or_not_ready_says_so(api: httpx.Client, engine: Engine) -> None:
    of = settled(api, engine)
    queued = api.post(JOBS, json=job()).json()["id"]
    answers = [
        (api.post(BISECTIONS, json={"over": "isa", "of": "0" * 26}), 404, "has no job"),
        (api.post(BISECTIONS, json={"over": "isa", "of": queued}), 409, "is queued"),
        (api.post(BISECTIONS, json={"over": "isa", "of": of}), 422, "lost nothing"),
        (api.post(BISECTIONS, json={"over": "isa", "job": job()}), 409, "no lane of the job"),
        (api.post(BISECTIONS, json={"over": "environments", "job": job()}), 409, "no environment"),
        (api.get(f"{BISECTIONS}/{'0' * 26}"), 404, "has no bisection"),
        (api.post(f"{BISECTIONS}/{'0' * 26}/cancel"), 404, "has no bisection"),
    ]
    for answer, status, said in answers:
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert said in answer.json()["detail"]


def nonfinite(cell: str) -> CellResult:
    measured = Measurement(edge="float32->true", figure=Figure.of(FigureKind.NONFINITE))
    return result(cell, measurements=(measured,))


def of_operator(cell: str) -> CellResult:
    return result(cell, measurements=(Measurement(edge="float64->true", figure=Figure.finite(20.0)),))


def without_layers(cell: str) -> CellResult:
    return result(cell, 20.0, layers=(LayerReport(edge="float32->true", unavailable="it is one operator"),))


def test_steps_are_listed_apart_from_the_jobs_that_count(api: httpx.Client, engine: Engine) -> None:
    of = settled(api, engine)
    (step,) = api.post(BISECTIONS, json=LAYERS).json()["steps"]
    assert [one["id"] for one in api.get(JOBS).json()["items"]] == [step["job"], of]
    for query, listed, left_out in (
        ({}, of, step["job"]),
        ({"counts": "true"}, of, step["job"]),
        ({"counts": "false"}, step["job"], of),
    ):
        page = api.get("/projects/demo", params=query).text
        assert f"/jobs/{listed}" in page
        assert f"/jobs/{left_out}" not in page
        if query:
            assert [one["id"] for one in api.get(JOBS, params=query).json()["items"]] == [listed]
    assert 'href="?branch=&amp;counts=false"' in api.get("/projects/demo").text
    api.post("/v1/projects/other/jobs", json=job())
    home = api.get("/").text
    assert f"/jobs/{of}" in home
    assert f"/jobs/{step['job']}" not in home


@pytest.mark.parametrize(
    ("answer", "changes", "status"),
    [
        (lambda cell: result(cell, 20.0), {}, 202),  # below its floor
        (lambda cell: result(cell, 36.0), {"policy": DROP}, 202),
        (lambda cell: result(cell, 36.0), {"policy": DROP, "git": {}}, 422),  # without a baseline
        (nonfinite, {"schemes": [SCHEME]}, 422),  # without a number to take the middle of
        (of_operator, ON_OPERATOR, 422),
        (without_layers, {}, None),  # which the service finds out by measuring
    ],
)
def test_the_jobs_page_offers_a_bisection_where_the_service_takes_it(
    api: httpx.Client,
    engine: Engine,
    answer: Callable[[str], CellResult],
    changes: dict[str, Any],
    status: int | None,
) -> None:
    measured(api, engine, lambda cell: result(cell, 40.0), 1, **changes)
    job_id = measured(api, engine, answer, 2, **changes)
    assert api.get(f"{JOBS}/{job_id}").json()["verdict"] in {"regressed", "no_baseline"}
    page = api.get(f"/projects/demo/jobs/{job_id}").text
    assert ("Find what lost it" in page) is (status == 202)
    if status is not None:
        assert api.post(BISECTIONS, json={"over": "layers", "of": job_id}).status_code == status


def measured(
    api: httpx.Client, engine: Engine, answer: Callable[[str], CellResult], commit: int, **changes: Any
) -> str:
    git = {"branch": "main", "sha": SHAS[commit], "ancestors": SHAS[1:commit]}
    job_id: str = api.post(JOBS, json=job(**{"git": git, **changes})).json()["id"]
    with writing(engine, "test") as session:
        finish(session, claimed(session), answer)
    return job_id
