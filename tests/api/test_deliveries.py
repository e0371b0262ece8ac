"""Webhooks and deliveries over HTTP, on both databases."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select
from tests.ci.suites import SUITES, WHSEC, suite
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job

from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import reading, writing

PROJECT = "/v1/projects/demo"
HOOKS = f"{PROJECT}/webhooks"
URL = "https://receiver.example/in"


def test_a_webhooks_secret_is_shown_once(api: httpx.Client) -> None:
    made = api.put(f"{HOOKS}/chat", json={"url": URL}).json()
    assert made["secret"].startswith("whsec_")
    for shown in (api.get(f"{HOOKS}/chat").json(), api.get(HOOKS).json()["items"][0]):
        assert shown == {**made, "secret": None}
    assert api.put(f"{HOOKS}/chat", json={"url": URL, "enabled": False}).json()["secret"] is None
    assert api.put(f"{HOOKS}/chat", json={"url": URL, "secret": WHSEC}).json()["secret"] == WHSEC


def test_a_webhook_is_forgotten(api: httpx.Client) -> None:
    api.put(f"{HOOKS}/chat", json={"url": URL})
    assert api.delete(f"{HOOKS}/chat").status_code == 204
    assert [api.get(f"{HOOKS}/chat").status_code, api.delete(f"{HOOKS}/chat").status_code] == [404, 404]


def test_webhooks_that_cannot_be_are_refused_by_field(api: httpx.Client) -> None:
    refused: list[tuple[dict[str, object], str, str]] = [
        ({"url": "ftp://a.example"}, "invalid-request", "url"),
        ({"url": "http://a.example/"}, "not-allowed", "url"),
        ({"url": "https://localhost:1/"}, "not-allowed", "url"),
        ({"url": "https://127.0.0.1/"}, "not-allowed", "url"),
        ({"url": "https://10.1.2.3/"}, "not-allowed", "url"),
        ({"url": "https://169.254.169.254/latest"}, "not-allowed", "url"),
        ({"url": "https://[::1]/"}, "not-allowed", "url"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "not-allowed", "url"),
        ({"url": "https://[fe80::1%25eth0]/"}, "not-allowed", "url"),
        ({"url": "https://[::1/"}, "invalid-request", "url"),
        ({"url": "https://a.example:99999/"}, "invalid-request", "url"),
        ({"url": "https://user:pw@a.example/"}, "invalid-request", "url"),
        ({"url": "https:///x"}, "invalid-request", "url"),
        ({"url": URL, "secret": "whsec_c2hvcnQ="}, "invalid-request", "secret"),
        ({"url": URL, "secret": "not base64!"}, "invalid-request", "secret"),
        ({"url": URL, "verdicts": ["great"]}, "invalid-request", "verdicts.0"),
        ({"url": URL, "verdicts": ["pending"]}, "invalid-request", "verdicts.0"),
        ({"url": URL, "verdicts": ["pass", "warn", "pass"]}, "invalid-request", "(whole)"),
        ({"url": URL, "verdicts": ["pass"] * 100_000}, "invalid-request", "verdicts"),
    ]
    for document, code, field in refused:
        answer = api.put(f"{HOOKS}/chat", json=document)
        assert answer.status_code == 422, (document, answer.text)
        assert answer.json()["type"] == f"urn:noisefloor:problem:{code}", document
        assert field in [error["field"] for error in answer.json()["errors"]], answer.text
        assert "c2hvcnQ" not in answer.text
    assert api.get(HOOKS).json()["items"] == []
    assert api.get(f"{HOOKS}/chat").status_code == 404


@pytest.fixture
def hasty(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """A service that tries once."""
    with serving(settings.model_copy(update={"delivery_tries": 1}), engine) as client:
        yield client


def test_dead_letters_are_listed_and_replayed(hasty: httpx.Client, engine: Engine) -> None:
    hasty.put(f"{SUITES}/int8", json=suite())
    with writing(engine, "test") as session:
        session.execute(
            tables.Webhook.__table__.insert().values(
                project="demo",
                name="chat",
                url="https://127.0.0.1:1/",
                secret=WHSEC,
                verdicts=[],
                enabled=True,
            )
        )
    hasty.post(f"{PROJECT}/jobs", json=job(suite="int8", git={"sha": "a" * 40}))
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    dead: list[dict[str, Any]] = []
    while len(dead) < 2:
        listed = hasty.get(f"{PROJECT}/deliveries", params={"status": "dead"}).json()["items"]
        dead = [d for d in listed if d["announcement"]["verdict"] != "pending"]
    assert {(d["kind"], d["target"]) for d in dead} == {("github", "noisefloor/int8"), ("webhook", "chat")}
    assert {d["announcement"]["verdict"] for d in dead} == {"pass"}
    replayed = hasty.post(f"{PROJECT}/deliveries/{dead[0]['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"], replayed.json()["tries"]) == (202, "pending", 0)
    page = hasty.get(f"{PROJECT}/deliveries", params={"limit": 1}).json()
    rest = hasty.get(f"{PROJECT}/deliveries", params={"cursor": page["next_cursor"]}).json()
    assert page["items"][0]["id"] > rest["items"][0]["id"]
    missing = hasty.post(f"{PROJECT}/deliveries/{'0' * 26}/replay")
    assert missing.json()["type"] == "urn:noisefloor:problem:not-found"
    with reading(engine) as session:
        delivered = session.scalars(select(tables.Delivery.status)).all()
    assert "delivered" not in delivered
