"""Metrics: what the database says, what the process counts, and that labels stay few."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event, select, text, update
from tests.measuring import claimed, finish
from tests.samples import job
from tests.service import LiveService

from noisefloor.api.census import HISTORY_SHARE, Census
from noisefloor.store import tables
from noisefloor.store.session import database_now, new_id, writing

PROJECT = "/v1/projects/demo"
DESCRIBED = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: httpx.Client) -> Figures:
    """All samples of a scrape, by name and labels, read by Prometheus' own parser."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(figures: Figures, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        value for (found, has), value in figures.items() if found == name and frozenset(labels.items()) <= has
    )


def test_the_queue_and_the_hands_are_those_of_the_database(api: httpx.Client, engine: Engine) -> None:
    api.post(f"{PROJECT}/jobs", json=job(lanes={"engine": ["x86", "onednn"]}, priority=90))
    api.post(f"{PROJECT}/jobs", json=job(lanes={"engine": ["x86"], "isa": ["avx2"]}))
    before = scrape(api)
    assert of(before, "noisefloor_queue_cells") == 3
    assert of(before, "noisefloor_queue_cells", engine="x86", isa="native", priority="high") == 1
    assert of(before, "noisefloor_queue_cells", engine="x86", isa="avx2", priority="normal") == 1
    assert of(before, "noisefloor_queue_oldest_seconds", isa="avx2") > 0
    with writing(engine, "test") as session:
        urgent, other = claimed(session), claimed(session)
        session.execute(update(tables.Shard).where(tables.Shard.id == other.shard_id).values(lease_until=1.0))
    during = scrape(api)
    assert of(during, "noisefloor_queue_cells") == 0
    assert of(during, "noisefloor_running_cells", isa="native") == 2
    assert of(during, "noisefloor_orphaned_cells", isa="avx2") == 1
    with writing(engine, "test") as session:
        finish(session, urgent)
    assert of(scrape(api), "noisefloor_running_cells") == 0


def test_the_log_says_that_the_database_did_not_answer_in_time(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("noisefloor.api.metrics.ANSWER_S", 0.0)
    assert of(scrape(api), "noisefloor_database_up") == 0
    assert "the database could not be counted: no answer within 0 s" in caplog.text


def test_what_has_ended_is_counted_in_the_end(api: httpx.Client, engine: Engine) -> None:
    api.post(f"{PROJECT}/jobs", json=job())
    with writing(engine, "test") as session:
        claimed(session)
        session.execute(update(tables.Shard).values(lease_until=1.0))
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    while not of(figures := scrape(api), "noisefloor_jobs", status="done", verdict="pass"):
        pass
    assert of(figures, "noisefloor_ended_cells", status="done", engine="x86", device="cpu") == 1
    assert of(figures, "noisefloor_shard_claims") == 2


def test_the_history_is_counted_for_a_bounded_share_of_the_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HISTORY_SHARE <= 0.1
    monkeypatch.setattr("noisefloor.api.census.HISTORY_SHARE", 1e-9)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    census = Census(engine)
    first = {family.name for family in census.read()}
    assert any("FROM jobs GROUP BY" in one for one in asked)
    asked.clear()
    assert {family.name for family in census.read()} == first
    assert asked
    assert not any("FROM jobs GROUP BY" in one for one in asked)


def test_the_outbox_says_how_late_it_is(engine: Engine) -> None:
    with writing(engine, "test") as session:
        now_s = session.scalars(select(database_now())).one()
        created = datetime.now(UTC)
        session.add(tables.Project(name="demo", created_at=created))
        session.flush()
        for number, (status, due_at) in enumerate(
            [
                ("pending", now_s - 100),
                ("pending", now_s + 100),
                ("dead", now_s - 900),
                ("delivered", now_s - 900),
            ]
        ):
            session.add(
                tables.Delivery(
                    id=new_id(),
                    project="demo",
                    kind="webhook",
                    target="chat",
                    topic="t",
                    sequence=number,
                    announcement={},
                    status=status,
                    tries=1,
                    attempt=1,
                    due_at=due_at,
                    created_at=created,
                )
            )
    found = {
        family.name: family.samples[0].value
        for family in Census(engine).read()
        if family.samples and family.samples[0].labels == {"kind": "webhook"}
    }
    assert (found["noisefloor_outbox_due"], found["noisefloor_dead_letters"]) == (1, 1)
    assert 100 <= found["noisefloor_outbox_lag_seconds"] < 900


def test_labels_are_templates_and_never_addresses(api: httpx.Client) -> None:
    posted = api.post(f"{PROJECT}/jobs", json=job()).json()["id"]
    for address in (
        f"{PROJECT}/jobs/{posted}",
        "/no/such/place",
        "/static/noisefloor.css",
        f"/projects/demo/jobs/{posted}",
    ):
        api.get(address)
    api.request("BREW", "/healthz")
    api.delete(f"{PROJECT}/jobs/{posted}")
    figures = scrape(api)
    name = "noisefloor_http_requests_total"
    routes = {dict(labels)["route"] for found, labels in figures if found == name}
    assert {"/v1/projects/{project}/jobs", "/v1/projects/{project}/jobs/{job_id}", "none"} <= routes
    assert not [route for route in routes if posted in route or "demo" in route]
    assert of(figures, name, route="/v1/projects/{project}/jobs", method="POST", status="202") >= 1
    assert of(figures, name, method="OTHER", status="405") >= 1
    assert of(figures, "noisefloor_http_request_duration_seconds_count", route="none") >= 1


def test_a_database_that_is_gone_is_a_figure_and_no_error(api: httpx.Client, engine: Engine) -> None:
    assert of(scrape(api), "noisefloor_database_up") == 1
    with writing(engine, "test") as session:
        session.execute(text("DROP TABLE workers"))
    assert of(scrape(api), "noisefloor_database_up") == 0


def test_names_are_those_of_prometheus(api: httpx.Client) -> None:
    families = list(text_string_to_metric_families(api.get("/metrics").text))
    assert len(families) > 10
    for family in families:
        assert family.documentation, family.name
        assert family.name.startswith(("noisefloor_", "process_")), family.name
        assert family.type in {"gauge", "counter", "histogram"}, family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
        assert f"`{family.name}" in DESCRIBED or family.name.startswith("process_"), family.name
    open_metrics = api.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_a_real_job_is_seen_from_its_lane_to_its_verdict(live: LiveService) -> None:
    before = scrape(live.http)
    live.wait(live.submit(job(lanes={"engine": ["x86", "qnnpack"]}))["id"])
    while not of(after := scrape(live.http), "noisefloor_jobs", verdict="pass"):
        pass

    def more(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    for engine in ("x86", "qnnpack"):
        lane = {"engine": engine, "device": "cpu", "isa": "native"}
        assert more("noisefloor_worker_cells_total", status="done", **lane) == 1
        assert more("noisefloor_worker_cell_duration_seconds_count", **lane) == 1
    assert more("noisefloor_worker_claims_total") >= 1
    assert of(after, "noisefloor_workers", state="active") >= 1
    assert more("noisefloor_http_requests_total", route="/v1/projects/{project}/jobs", status="202") == 1


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=abc", "text/plain;version=x;escaping=allow-utf-8"]
)
def test_a_scraper_that_accepts_what_nobody_knows_gets_text(api: httpx.Client, accept: str) -> None:
    answer = api.get("/metrics", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
