"""Suites over HTTP, on both databases."""

import re
import shlex
from typing import Any

import httpx
from sqlalchemy import Engine, select
from tests.ci.suites import SUITES, suite
from tests.measuring import claimed, finish
from tests.samples import job, small_data
from tests.service import ROOT

from noisefloor.store import tables
from noisefloor.store.session import reading, writing


def test_a_suite_is_kept_and_replaced(api: httpx.Client) -> None:
    made = api.put(f"{SUITES}/int8", json=suite())
    assert made.status_code == 200, made.text
    assert (made.json()["name"], made.json()["timeout_s"]) == ("int8", 3600)
    assert api.get(f"{SUITES}/int8").json() == made.json()
    api.put(f"{SUITES}/int8", json=suite(timeout_s=60))
    assert [s["timeout_s"] for s in api.get(SUITES).json()["items"]] == [60]


def test_a_suite_that_is_forgotten_starts_nothing_and_its_check_ends(
    api: httpx.Client, engine: Engine
) -> None:
    api.put(f"{SUITES}/int8", json=suite())
    api.post("/v1/projects/demo/jobs", json=job(suite="int8", git={"sha": "a" * 40}))
    assert api.delete(f"{SUITES}/int8").status_code == 204
    for answer in (api.get(f"{SUITES}/int8"), api.delete(f"{SUITES}/int8")):
        assert answer.json()["type"] == "urn:noisefloor:problem:not-found"
    assert api.post("/v1/projects/demo/jobs", json=job(suite="int8")).status_code == 422
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    with reading(engine) as session:
        assert not any(session.scalars(select(tables.Check.open)))


def test_suites_are_listed_by_name_to_their_end(api: httpx.Client) -> None:
    for name in ("b", "c", "a"):
        api.put(f"{SUITES}/{name}", json=suite())
    first = api.get(SUITES, params={"limit": 2}).json()
    rest = api.get(SUITES, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [s["name"] for s in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None


def test_a_suite_that_is_not_there_is_a_404(api: httpx.Client) -> None:
    assert api.get(f"{SUITES}/none").json()["type"] == "urn:noisefloor:problem:not-found"


REFUSED: list[tuple[dict[str, Any], str]] = [
    (suite(repository="no slash"), "repository"),
    (suite(provider="bitbucket"), "provider"),
    (suite(events=["push", "push"]), "(whole)"),
    (suite(job=None), "(whole)"),
    (suite(job=job(git={"branch": "main"})), "(whole)"),
    (suite(job=job(suite="int8")), "(whole)"),
    (suite(timeout_s=0), "timeout_s"),
    (suite(branches=[]), "branches"),
    (suite(context="\u00e9"), "context"),
    (suite(job=job(schemes=[])), "job.schemes"),
    (suite(job=job(project="other")), "job.project"),
    (suite(job=job(subjects=[{"import": "os:system", "data": small_data()}])), "job.subjects.0.import"),
    (suite(branchs=["main"]), "branchs"),
]


def test_a_suite_is_refused_where_its_job_would_be(api: httpx.Client) -> None:
    for document, field in REFUSED:
        refused = api.put(f"{SUITES}/int8", json=document)
        assert refused.status_code == 422, refused.text
        assert field in [error["field"] for error in refused.json()["errors"]], refused.text
    assert api.get(SUITES).json()["items"] == []


def test_a_job_that_names_an_unknown_suite_is_refused(api: httpx.Client) -> None:
    refused = api.post("/v1/projects/demo/jobs", json=job(suite="none"))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "suite")


def test_the_documents_example_is_a_suite(api: httpx.Client) -> None:
    command = re.search(r"^curl .*?\n}'$", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL | re.MULTILINE)
    assert command is not None
    _, _, method, address, _, header, _, body = shlex.split(command[0])
    kept = api.request(
        method,
        address.removeprefix("http://127.0.0.1:8642"),
        content=body,
        headers=dict([header.split(": ")]),
    )
    assert (kept.status_code, kept.json()["context"]) == (200, None), kept.text
