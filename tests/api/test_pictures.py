"""Pictures for elsewhere, on both databases."""

from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job, result

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, Measurement
from noisefloor.settings import Settings
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
SVG = "{http://www.w3.org/2000/svg}"
Add = Callable[..., None]


@pytest.fixture
def add(api: httpx.Client, engine: Engine) -> Add:
    """Measures a commit."""

    def measured(answer: Callable[[str], CellResult] = result, hour: int = 1, **changes: Any) -> None:
        git = {"branch": "main", "committed_at": f"2026-01-01T{hour:02}:00:00Z", **changes.pop("git", {})}
        api.post(f"{PROJECT}/jobs", json=job(git=git, **changes))
        with writing(engine, "test") as session:
            finish(session, claimed(session), answer)

    return measured


def title(answer: httpx.Response) -> str:
    """Parsed as what it is: an SVG with anything wrong raises here."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml"), answer.text
    root = ET.fromstring(answer.text)
    assert root.tag == f"{SVG}svg"
    return root.findtext(f"{SVG}title") or ""


def test_a_badge_says_the_verdict_and_the_worst_figure_of_the_newest_commit(
    api: httpx.Client, add: Add
) -> None:
    assert title(api.get(f"{PROJECT}/badge.svg")) == "noisefloor: not measured"
    add(hour=2)
    add(lambda cell: result(cell, 20.0), hour=1)
    assert title(api.get(f"{PROJECT}/badge.svg")) == "noisefloor: pass · 41.500 dB"
    add(lambda cell: result(cell, 20.0), hour=3)
    assert title(api.get(f"{PROJECT}/badge.svg", params={"label": "int8"})) == "int8: regressed · 20.000 dB"
    assert api.get(f"{PROJECT}/badge.svg").headers["cache-control"] == "private, max-age=60"


def test_a_badge_is_of_a_branch_and_of_a_name(api: httpx.Client, add: Add) -> None:
    add(name="nightly")
    add(lambda cell: result(cell, None), hour=2, git={"branch": "topic"})
    for query, expected in (
        ({"branch": "topic"}, "pass · exact"),
        ({"name": "nightly"}, "pass · 41.500 dB"),
        ({"name": "weekly"}, "not measured"),
    ):
        assert title(api.get(f"{PROJECT}/badge.svg", params=query)) == f"noisefloor: {expected}"
    api.put(f"{PROJECT}/settings", json={"default_branch": "topic"})
    assert title(api.get(f"{PROJECT}/badge.svg")) == "noisefloor: pass · exact"


def test_a_figure_that_is_no_number_is_the_worst(api: httpx.Client, add: Add) -> None:
    measured = Measurement(edge="float32->true", figure=Figure.of(FigureKind.NONFINITE))
    add(lambda cell: result(cell, measurements=(measured,)))
    assert title(api.get(f"{PROJECT}/badge.svg")).endswith("nonfinite")


def test_what_a_badge_is_called_is_text(api: httpx.Client) -> None:
    assert title(api.get(f"{PROJECT}/badge.svg", params={"label": '<&">'})) == '<&">: not measured'
    assert api.get(f"{PROJECT}/badge.svg", params={"label": "\x00"}).status_code == 422


def test_a_picture_is_xml_whatever_is_stored(api: httpx.Client, add: Add) -> None:
    place = "layer\x01\uffff\U0001f600"
    add(git={"branch": place}, name=place)
    key = api.get(f"{PROJECT}/series").json()["items"][0]["key"]
    drawn = api.get(f"{PROJECT}/trends.svg", params={"series": key})
    title(drawn)
    assert "layer\ufffd\ufffd\U0001f600" in drawn.text
    for label in ("\uffff", "\ufffe\x7f"):
        assert title(api.get(f"{PROJECT}/badge.svg", params={"label": label})).startswith("\ufffd")


@pytest.fixture
def guarded(engine: Engine, database: str) -> Iterator[httpx.Client]:
    """A service with a token."""
    settings = Settings(database=database, port=0, token="s3cret")  # type: ignore[arg-type]
    with serving(settings, engine) as client:
        yield client


def test_a_badge_needs_the_token_unless_its_project_shows_it(guarded: httpx.Client) -> None:
    known = {"Authorization": "Bearer s3cret"}
    assert guarded.get(f"{PROJECT}/badge.svg").status_code == 401
    assert guarded.get(f"{PROJECT}/badge.svg", headers=known).status_code == 200
    guarded.put(f"{PROJECT}/settings", json={"public_badge": True}, headers=known)
    shown = guarded.get(f"{PROJECT}/badge.svg")
    assert (title(shown), shown.headers["cache-control"]) == (
        "noisefloor: not measured",
        "public, max-age=60",
    )
    for closed in (
        "/v1/projects/other/badge.svg",
        f"{PROJECT}/badge.svg/",
        f"{PROJECT}/settings",
        f"{PROJECT}/export",
    ):
        assert guarded.get(closed).status_code == 401, closed


def test_a_chart_stands_alone_with_words_for_who_cannot_see_it(api: httpx.Client, add: Add) -> None:
    add(hour=1)
    add(lambda cell: CellResult(cell=cell, status=CellStatus.CRASHED, reason="<signal> & 11"), hour=2)
    key = api.get(f"{PROJECT}/series").json()["items"][0]["key"]
    answer = api.get(f"{PROJECT}/trends.svg", params={"series": key})
    assert "1 result and 1 gap, oldest at the left" in title(answer)
    root = ET.fromstring(answer.text)
    assert root.attrib["aria-labelledby"] == "chart-title chart-description"
    assert "The latest result is 41.500 dB" in (root.findtext(f"{SVG}desc") or "")
    assert "crashed: <signal> & 11" in [one.text for one in root.iter(f"{SVG}title") if one.text][-1]
    assert not list(root.iter(f"{SVG}script"))
    assert "--regressed" in (root.findtext(f"{SVG}style") or "")
    assert api.get(f"{PROJECT}/trends.svg").status_code == 422
    assert api.get(f"{PROJECT}/trends.svg", params={"series": "0" * 32}).status_code == 404
