"""What no request passes by: token, origin, host."""

import html
import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.samples import job

from noisefloor.settings import Settings

JOBS = "/v1/projects/demo/jobs"


@pytest.fixture
def guarded(engine: Engine, database: str) -> Iterator[httpx.Client]:
    """A service with a token."""
    settings = Settings(database=database, port=0, token="s3cret")  # type: ignore[arg-type]
    with serving(settings, engine) as client:
        yield client


def test_health_is_open_and_nothing_else(guarded: httpx.Client) -> None:
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/readyz").json() == {"status": "ready"}
    for path in (
        "/",
        JOBS,
        "/openapi.json",
        "/metrics",
        "/healthz/",
        "/v1/projects/demo/series",
        "/nothing",
        "/projects/demo",
    ):
        answer = guarded.get(path)
        assert answer.status_code == 401, path
        assert answer.json()["type"] == "urn:noisefloor:problem:unauthorized"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret2", "Bearer é"]
)
def test_a_wrong_token_is_refused(guarded: httpx.Client, header: str) -> None:
    assert guarded.get(JOBS, headers={"Authorization": header.encode()}).status_code == 401


def test_the_token_opens(guarded: httpx.Client) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    assert guarded.get(JOBS, headers=headers).status_code == 200
    assert guarded.post(JOBS, headers=headers, json=job()).status_code == 202


def test_a_browser_logs_in_once(guarded: httpx.Client) -> None:
    sent = guarded.get("/projects/demo", headers={"Accept": "text/html"})
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login?next=/projects/demo")
    deep = "/projects/demo?branch=a%20b%26c&cursor=x"
    sent = guarded.get(deep, headers={"Accept": "text/html"})
    form = guarded.get(sent.headers["Location"])
    (action,) = re.findall('action="(.*?)"', form.text)
    there = guarded.post(html.unescape(action), data={"token": "s3cret"})
    assert (there.status_code, there.headers["Location"]) == (303, deep)
    guarded.cookies.clear()
    wrong = guarded.post("/login", data={"token": "wrong"})
    assert "set-cookie" not in wrong.headers
    right = guarded.post("/login", data={"token": "s3cret"})
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "s3cret" not in cookie
    assert guarded.get("/", headers={"Accept": "text/html"}, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("other", ["a/b=1", "a,b=1; x=2", "(x)=1", "a{b}=1", "=", "\u00e9=1"])
def test_cookies_of_others_open_nothing_and_close_nothing(guarded: httpx.Client, other: str) -> None:
    assert guarded.get("/v1/workers", headers={"Cookie": other.encode()}).status_code == 401
    session = guarded.post("/login", data={"token": "s3cret"}).headers["set-cookie"].partition(";")[0]
    guarded.cookies.clear()
    assert guarded.get("/v1/workers", headers={"Cookie": f"{other}; {session}".encode()}).status_code == 200


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("//evil.example/?a=1", "/"),
        ("/%5Cevil.example?a", "/%5Cevil.example?a"),
        ("/x?//evil.example", "/x?//evil.example"),
        ("/x?" + "a" * 2046, "/"),
    ],
)
def test_a_login_leads_nowhere_else(guarded: httpx.Client, address: str, target: str) -> None:
    url = httpx.URL(f"{guarded.base_url}".rstrip("/"), raw_path=address.encode())
    sent = guarded.get(url, headers={"Accept": "text/html"})
    there = guarded.post(sent.headers["Location"], data={"token": "s3cret"})
    assert (there.status_code, there.headers["Location"]) == (303, target)


def test_a_forged_host_is_refused_where_no_token_guards(api: httpx.Client) -> None:
    assert api.get(JOBS, headers={"Host": "evil.example"}).status_code == 422
    assert api.get(JOBS, headers={"Host": "localhost:1"}).status_code == 200


def test_an_address_that_cannot_be_read_is_refused(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"Host": "[::1"}).status_code == 422
    assert api.post(JOBS, json=job(), headers={"Origin": "http://[::1"}).status_code == 422


def test_another_sites_page_changes_nothing(api: httpx.Client) -> None:
    headers = {"Origin": "https://evil.example"}
    assert api.post(JOBS, json=job(), headers=headers).json()["type"] == "urn:noisefloor:problem:not-allowed"
    assert api.get(JOBS).json()["items"] == []
