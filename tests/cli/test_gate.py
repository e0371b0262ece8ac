"""What `noisefloor gate`, `show` and those that wait tell of a service's job, on both databases."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.reports import DROP, ENGINES, layers
from tests.samples import job, result, spec
from typer.testing import CliRunner

from noisefloor.cli.jobs import follow
from noisefloor.cli.main import app, run
from noisefloor.client import Client
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.resources import JobView, Progress
from noisefloor.contract.results import MeasuredJob
from noisefloor.gate.attribution import NOTHING_MOVED

TEXTS = ("human", "junit", "sarif", "markdown")
Told = Callable[..., str]
Push = Callable[..., str]


@pytest.fixture
def push(api: httpx.Client) -> Iterator[Push]:
    """Hands a commit's results over, one an engine: the job's id."""
    with Client(str(api.base_url), project="demo") as service:
        commits: list[str] = []

        def pushed(*results: CellResult) -> str:
            sha = f"{len(commits) + 1:040x}"
            git = {"branch": "main", "sha": sha, "ancestors": commits[::-1]}
            git["committed_at"] = f"2026-01-01T{len(commits):02}:00:00Z"  # type: ignore[assignment]
            commits.append(sha)
            engines = {"engine": ENGINES[: len(results)]}
            job = spec(policy=DROP, lanes=engines, name="nightly", git=git)
            return service.push(MeasuredJob(job=job, results=results), idempotency_key=sha).id

        yield pushed


@pytest.fixture
def told(api: httpx.Client) -> Told:
    """What a verb prints."""

    def invoke(*arguments: str) -> str:
        where = ["--url", str(api.base_url), "--project", "demo"]
        return CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False).stdout

    return invoke


def test_every_format_lists_what_is_missing(push: Push, told: Told) -> None:
    push(result("0"), result("1"))
    job = push(result("0"))
    missing = "missing: the baseline had 41.500 dB, the job does not measure it"
    verdict = (
        f"1 regressed, 1 pass; multiple-ops · eager static per_tensor · onednn · float32->true: {missing}"
    )
    for form in TEXTS:
        said = told("gate", job, "--format", form).replace("\\", "")
        assert missing in said.replace(verdict, ""), form


def test_every_format_names_the_layer_that_lost_most_and_the_cause(push: Push, told: Told) -> None:
    push(result("0", 41.5, layers=layers(noisy=30.0, fc=45.0)))
    job = push(result("0", 38.5, layers=layers(noisy=30.0, fc=39.0)))
    for form in TEXTS:
        said = told("gate", job, "--format", form).replace("\\", "")
        assert "fc (Linear) lost 6.000 dB: its own error was at 45.000 dB and is at 39.000 dB" in said, form
        assert f"cause: {NOTHING_MOVED}" in said or f"| {NOTHING_MOVED} |" in said, form
        assert "noisy" not in said, form


def test_the_noisiest_layer_is_named_where_no_loss_of_one_is_known(push: Push, told: Told) -> None:
    push(result("0", 41.5))
    job = push(result("0", 38.5, layers=layers(noisy=30.0, fc=45.0)))
    for form in TEXTS:
        said = told("gate", job, "--format", form).replace("\\", "")
        assert "noisy (Linear) has 97% of the layers" in said, form


def test_the_layer_at_which_nan_begins_is_named_and_shown(push: Push, told: Told, api: httpx.Client) -> None:
    push(result("0", 41.5, layers=layers(fc1=45.0, fc2=45.0)))
    (report,) = layers(fc1=35.0, fc2=39.0)
    broken = report.layers[1].replace(local=Figure.of(FigureKind.NONFINITE))
    nan = {"figure": Figure.of(FigureKind.NONFINITE)}
    lost = result("0", 38.5, layers=(report.replace(layers=(report.layers[0], broken)),))
    job = push(lost.replace(measurements=(lost.measurements[0].replace(**nan, sums=None),)))
    for form in TEXTS:
        said = told("gate", job, "--format", form).replace("\\", "")
        assert "fc2 (Linear) is the first layer whose output has NaN or infinite elements" in said, form
    page = api.get(f"/projects/demo/jobs/{job}").text
    assert 'NaN or infinite elements begin at layer <b class="worse">fc2</b>' in page
    (cell,) = api.get(f"/v1/projects/demo/jobs/{job}/cells").json()["items"]
    page = api.get(f"/projects/demo/jobs/{job}/cells/{cell['id']}").text
    assert 'NaN or infinite elements begin at layer <b class="worse">fc2</b>' in page


def test_who_accepted_what_why_and_until_when(push: Push, told: Told) -> None:
    push(result("0"), result("1"))
    job = push(result("0", 38.5))
    told("accept", job, "--reason", "a smaller model", "--by", "ann", "--until", "2199-01-31")
    for verb in (("show",), *(("gate", "--format", form) for form in ("human", "junit", "markdown"))):
        said = told(*verb, job).replace("\\", "")
        # of the loss, and of the series that is missing
        assert said.count("let through: acceptance by ann until 2199-01-31: a smaller model") == 2, verb


@pytest.mark.parametrize("verb", ["submit", "wait", "gate"])
def test_who_waits_without_a_terminal_is_told_which_job_it_is_and_what_it_waits_for(
    api: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    """And that it was not settled in time, with exit code 2. The job is left to run."""
    url = str(api.base_url).rstrip("/")
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job()))
    with Client(url, project="demo") as service:
        what = ["--no-git", "--wait", str(file)] if verb == "submit" else [service.submit(spec()).id]
        where = ["--url", url, "--project", "demo", "--timeout", "0"]
        monkeypatch.setattr(sys, "argv", ["noisefloor", verb, *what, *where])
        with pytest.raises(SystemExit) as left:
            run()
        (posted,) = service.jobs()
    out, err = capsys.readouterr()
    assert (left.value.code, out, posted.status.value) == (2, "", "queued")
    page, waits = f"{url}/projects/demo/jobs/{posted.id}", f"waiting for {posted.progress.waiting_for}"
    why = f"job {posted.id} is still queued after 0 s, {waits}"
    then = f"`noisefloor wait {posted.id}` waits on, and {page} shows it"
    assert err.splitlines() == [
        f"{posted.id}  1 cells  {page}",
        waits,
        f"The job was not evaluated in time: {why}; {then}",
    ]


def test_without_a_terminal_every_tenth_of_the_cells_is_told(
    push: Push, api: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed = push(result("0"))
    with Client(str(api.base_url), project="demo") as service:
        settled = service.job(pushed)
        waits = [None, "an x86", None, "an x86", *[None] * 197]
        progress = [Progress(cells=200, ended=n, waiting_for=waits[n]) for n in range(201)]
        seen: list[JobView] = [settled.replace(progress=one) for one in progress]
        monkeypatch.setattr(Client, "follow", lambda *_args, **_options: iter(seen))
        assert follow(service, pushed) == seen[-1]
    first, waiting, *tenths = capsys.readouterr().err.splitlines()
    assert first == f"{pushed}  200 cells  {str(api.base_url).rstrip('/')}/projects/demo/jobs/{pushed}"
    assert waiting == "waiting for an x86"
    assert tenths == [f"{n} of 200 cells have ended" for n in range(20, 201, 20)]
