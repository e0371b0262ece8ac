"""Comparisons over HTTP, on both databases."""

import httpx
import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import job, result

from noisefloor.store.session import writing

COMPARE = "/v1/projects/demo/compare"
OLD, NEW = "a1" * 20, "b2" * 20


@pytest.fixture
def commits(api: httpx.Client, engine: Engine) -> httpx.Client:
    """Two commits, the second 3 dB worse."""
    for sha, figure in ((OLD, 41.0), (NEW, 38.0)):
        api.post("/v1/projects/demo/jobs", json=job(git={"branch": "main", "sha": sha}))
        with writing(engine, "test") as session:
            finish(session, claimed(session), lambda cell, figure=figure: result(cell, figure))
    return api


def test_two_commits_are_compared(commits: httpx.Client) -> None:
    found = commits.get(f"{COMPARE}/{OLD[:8]}...{NEW}").json()
    assert (found["base"]["sha"], found["head"]["sha"]) == (OLD, NEW)
    assert [item["delta"] for item in found["items"]] == [-3.0]
    assert commits.get(f"{COMPARE}/{OLD}...{NEW}?engine=onednn").json()["items"] == []


@pytest.mark.parametrize(
    ("commits_in_path", "status", "code"),
    [
        (f"{OLD}...{'c' * 40}", 404, "not-found"),
        (f"{OLD}..{NEW}", 404, "not-found"),
        (f"{OLD}", 404, "not-found"),
        (f"...{NEW}", 404, "not-found"),
        (f"{OLD}....{NEW}", 422, "invalid-request"),
        (f"{OLD}...{NEW}...{NEW}", 422, "invalid-request"),
        (f"main...{NEW}", 422, "invalid-request"),
        (f"{OLD}...%00", 422, "invalid-request"),
    ],
)
def test_what_is_no_pair_of_commits_is_refused(
    commits: httpx.Client, commits_in_path: str, status: int, code: str
) -> None:
    refused = commits.get(f"{COMPARE}/{commits_in_path}")
    assert refused.status_code == status
    assert refused.json()["type"] == f"urn:noisefloor:problem:{code}"


def test_a_page_shows_the_comparison(commits: httpx.Client) -> None:
    page = commits.get(f"/projects/demo/compare/{OLD}...{NEW}")
    assert page.status_code == 200
    assert "\N{MINUS SIGN}3.000" in page.text
    chosen = commits.get("/projects/demo/compare", params={"base": OLD[:7], "head": NEW[:7]})
    assert (chosen.status_code, chosen.headers["location"]) == (
        303,
        f"/projects/demo/compare/{OLD[:7]}...{NEW[:7]}",
    )


def test_a_jobs_page_leads_to_the_commit_before(commits: httpx.Client) -> None:
    newest = commits.get("/v1/projects/demo/jobs").json()["items"][0]["id"]
    assert f"/projects/demo/compare/{OLD}...{NEW}" in commits.get(f"/projects/demo/jobs/{newest}").text
