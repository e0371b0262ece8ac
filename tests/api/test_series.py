"""Series and trends over HTTP, on both databases."""

import httpx
import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import ENVIRONMENT, job, result

from noisefloor.contract.measurement import CellResult
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
NEWER = ENVIRONMENT.replace(torch="2.14.0")


@pytest.fixture
def history(api: httpx.Client, engine: Engine) -> httpx.Client:
    """Four commits on main, the last two in another environment, and one elsewhere."""
    points = [("main", 1, 40.0), ("main", 2, 41.0), ("main", 3, 20.0), ("main", 4, None), ("topic", 5, 39.0)]
    for branch, hour, figure in points:
        git = {"branch": branch, "sha": f"{hour:040x}", "committed_at": f"2026-01-01T0{hour}:00:00Z"}
        api.post(f"{PROJECT}/jobs", json=job(git=git, lanes={"engine": ["x86", "onednn"]}))

        def answer(cell: str, figure: float | None = figure, hour: int = hour) -> CellResult:
            return result(cell, figure, environment=NEWER if hour > 2 else ENVIRONMENT)

        with writing(engine, "test") as session:
            finish(session, claimed(session), answer)
    return api


def test_series_are_found_by_any_part_of_their_identity(history: httpx.Client) -> None:
    assert len(history.get(f"{PROJECT}/series").json()["items"]) == 2
    (found,) = history.get(f"{PROJECT}/series", params={"engine": "onednn"}).json()["items"]
    assert (found["subject"], found["scheme"], found["batch"]) == (
        "multiple-ops",
        "eager static per_tensor",
        2,
    )
    assert history.get(f"{PROJECT}/series", params={"place": "elsewhere"}).json()["items"] == []
    assert history.get("/v1/projects/other/series").json()["items"] == []


def test_series_are_listed_by_cursor(history: httpx.Client) -> None:
    first = history.get(f"{PROJECT}/series", params={"limit": 1}).json()
    second = history.get(f"{PROJECT}/series", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert second["next_cursor"] is None
    assert first["items"][0]["key"] < second["items"][0]["key"]


def test_a_trend_is_the_line_of_a_branch(history: httpx.Client) -> None:
    query = {"engine": "x86", "branch": "main"}
    (line,) = history.get(f"{PROJECT}/trends", params=query).json()["items"]
    assert [point["figure"]["value"] for point in line["points"]] == [40.0, 41.0, 20.0, None]
    assert [point["verdict"] for point in line["points"]] == ["pass", "pass", "regressed", "pass"]
    assert {point["floor_db"] for point in line["points"]} == {30.0}
    (change,) = line["environment_changes"]
    assert change["index"] == 2
    assert change["fields"] == [{"field": "torch", "before": "2.13.0", "after": "2.14.0"}]


def test_a_trend_is_bounded_by_time_and_number(history: httpx.Client) -> None:
    query = {"engine": "x86", "since": "2026-01-01T02:00:00Z", "until": "2026-01-01T04:00:00Z", "latest": 2}
    (line,) = history.get(f"{PROJECT}/trends", params=query).json()["items"]
    assert [point["figure"]["value"] for point in line["points"]] == [20.0, None]
    assert line["cut"] is True


def test_a_filter_with_a_star_matches_parts_and_minds_case(history: httpx.Client) -> None:
    def found(**query: str) -> int:
        return len(history.get(f"{PROJECT}/series", params=query).json()["items"])

    assert found(subject="multiple*", scheme="*per_tensor") == 2
    assert (found(subject="*-ops"), found(subject="MULTIPLE*"), found(subject="*.ops")) == (2, 0, 0)
    assert (found(scheme="eager?static*"), found(scheme="eager_static*"), found(scheme="%*")) == (0, 0, 0)
    assert (found(engine="*nn*"), found(subject="[m]*"), found(subject="*\\*")) == (1, 0, 0)


def test_a_window_that_ends_before_it_begins_is_refused(history: httpx.Client) -> None:
    query = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    refused = history.get(f"{PROJECT}/trends", params=query)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {
            "field": "query.until",
            "message": "is before since",
            "value": "2026-01-01T00:00:00+00:00",
            "accepted": ["≥ 2026-01-02T00:00:00+00:00"],
        }
    ]


def test_one_series_is_asked_for_by_its_key(history: httpx.Client) -> None:
    key = history.get(f"{PROJECT}/series", params={"engine": "x86"}).json()["items"][0]["key"]
    (line,) = history.get(f"{PROJECT}/trends", params={"series": key}).json()["items"]
    assert (line["series"]["key"], len(line["points"])) == (key, 5)
    assert history.get(f"{PROJECT}/trends", params={"series": "0" * 32}).status_code == 404
