"""`noisefloor trend` and `compare` where they find something and where they do not, on both databases."""

import re

import httpx
import pytest
from tests.samples import result, spec
from typer.testing import CliRunner

from noisefloor.cli.main import app
from noisefloor.client import Client
from noisefloor.contract.figure import Figure
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.results import MeasuredJob
from noisefloor.errors import NotFoundError


@pytest.fixture
def service(api: httpx.Client) -> str:
    """The address of a service with a branch of two engines."""
    url = str(api.base_url)
    job = spec(lanes={"engine": ["x86", "onednn"]}, git={"branch": "main", "sha": "a" * 40})
    with Client(url, project="demo") as client:
        client.push(MeasuredJob(job=job, results=(result("0"), result("1"))), idempotency_key="a")
    return url


def trend(url: str, *arguments: str) -> str:
    """What it prints; raises what it refuses."""
    command = ["trend", "--url", url, "--project", "demo", *arguments]
    answer = CliRunner().invoke(app, command, catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout


def test_what_matches_is_printed(service: str) -> None:
    assert trend(service, "--engine", "x86", "--branch", "main").count("41.500") == 1


def test_each_metric_has_its_name_its_unit_and_digits_enough(service: str) -> None:
    figures = {"acme.cosine": 0.99998559, "acme.lag_s": 0.00012345, "coverage": 1.0}
    (sqnr,) = result("0").measurements
    others = [Measurement(edge=sqnr.edge, metric=m, figure=Figure.finite(v)) for m, v in figures.items()]
    job = spec(git={"branch": "more", "sha": "b" * 40})
    with Client(service, project="demo") as client:
        measured = result("0", measurements=(sqnr, *others))
        client.push(MeasuredJob(job=job, results=(measured,)), idempotency_key="b")
    said = trend(service, "--branch", "more")
    tables = re.split(r"\n(?=multiple-ops)", said)
    for metric, heading, shown in (
        ("acme.cosine", "acme.cosine", "0.99998559"),
        ("acme.lag_s", "acme.lag_s s", "0.0001234"),
        ("sqnr_db", "SQNR dB", "41.500"),
    ):
        (table,) = (one for one in tables if f" · output · {metric} " in one)
        assert f"  {heading} " in table
        assert re.search(rf"\bbbbbbbbbbb +{shown} ", table), table


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "x68"], "no series match engine=x68; there is engine: onednn, x86"),
        (["--engine", "x86", "--edge", "e"], "edge=e, engine=x86; there is edge: float32->true; there is"),
        (["--branch", "nosuch"], "no series match branch=nosuch; there is branch: main"),
        (["--since", "2100-01-01T00:00:00Z"], "since=2100-01-01T00:00:00Z; there is branch: main"),
        (["--project", "nosuch"], "project 'nosuch' has no series; http://.* lists the projects"),
        (["--engine", "x68", "--format", "json"], "no series match engine=x68"),
    ],
)
def test_where_nothing_matches_it_says_what_there_is(service: str, arguments: list[str], said: str) -> None:
    with pytest.raises(NotFoundError, match=said):
        trend(service, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--engine", "x68"], "no series match engine=x68; there is engine: onednn, x86$"),
        (["--metric", "sqnr"], "no series match metric=sqnr; there is metric: sqnr_db$"),
        (
            ["--engine", "x68", "--isa", "native"],
            "engine=x68, isa=native; there is engine: onednn, x86; there is",
        ),
        (["--engine", "x68", "--format", "json"], "no series match engine=x68"),
    ],
)
def test_a_comparison_of_nothing_says_what_there_is(service: str, arguments: list[str], said: str) -> None:
    commits = "a" * 40
    command = ["compare", f"{commits}...{commits}", "--url", service, "--project", "demo"]
    same = CliRunner().invoke(app, [*command, "--engine", "x*"], catch_exceptions=False)
    assert (same.exit_code, same.stdout) == (0, "1 series in common: 1 same\n")
    with pytest.raises(NotFoundError, match=said):
        CliRunner().invoke(app, [*command, *arguments], catch_exceptions=False)
