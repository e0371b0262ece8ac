"""The verbs that CI calls: the verdict is the exit code, whatever the format."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from tests.acceptance.test_seed_matrix import cli
from tests.reports import failed, reported
from tests.repositories import Repository
from tests.samples import job, small_data
from tests.service import LiveService

from noisefloor.cli.main import run
from noisefloor.contract.report import Report

FORMATS = ("human", "json", "junit", "sarif", "markdown")


class Verb:
    """The command line in this process, up to its exit code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int | str | None, str, str]:
        """Exit code, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["noisefloor", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            run()
        return left.value.code, *self._capsys.readouterr()


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    return Verb(monkeypatch, capsys)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return write(tmp_path / "saved.json", reported(41.5, 41.5))


def write(path: Path, report: Report) -> Path:
    """A report as `--format json` prints it."""
    path.write_text(report.model_dump_json(by_alias=True))
    return path


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (reported(41.5, 41.5), 0),
        (reported(38.0, 41.5), 1),
        (reported(41.5), 1),
        (reported(41.5, 41.5, policy={}), 2),
    ],
)
def test_a_report_is_judged_against_a_saved_one_without_a_service(
    tmp_path: Path, saved: Path, verb: Verb, report: Report, code: int
) -> None:
    fresh = write(tmp_path / "fresh.json", report)
    found, _, _ = verb("gate", str(fresh), "--baseline-file", str(saved), "--url", "http://127.0.0.1:9")
    assert found == code


def test_every_format_has_the_same_exit_code_and_reads_standard_input(
    tmp_path: Path, saved: Path, verb: Verb
) -> None:
    text = write(tmp_path / "fresh.json", reported(38.0, 41.5)).read_text()
    told = {}
    for format_ in FORMATS:
        code, told[format_], _ = verb("gate", "--baseline-file", str(saved), "--format", format_, stdin=text)
        assert code == 1
    assert "a drop of 3.500 dB" in told["human"]
    assert Report.model_validate_json(told["json"]).verdict.value == "regressed"
    assert ET.fromstring(told["junit"]).attrib["failures"] == "2"
    assert len(json.loads(told["sarif"])["runs"][0]["results"]) == 1
    assert "| 3.500 |" in told["markdown"]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (reported(41.5, policy={}), 0),
        (reported(29.0, policy={}), 1),
        (reported(failed(0), policy={}), 2),
        (reported(41.5), 3),
    ],
)
def test_a_report_alone_has_its_own_verdict(tmp_path: Path, verb: Verb, report: Report, code: int) -> None:
    assert verb("gate", str(write(tmp_path / "fresh.json", report)))[0] == code


def test_formats_are_written_to_files_as_they_are_printed(tmp_path: Path, saved: Path, verb: Verb) -> None:
    formats = FORMATS[1:]
    writes = [part for name in formats for part in ("--write", f"{name}={tmp_path}/{name}")]
    assert verb("gate", str(saved), *writes)[0] == 3
    for name in formats:
        assert (tmp_path / name).read_text() == verb("gate", str(saved), "--format", name)[1]


def test_a_full_disk_is_no_verdict(saved: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "noisefloor.cli", "gate", str(saved), "--format", "junit"]
        assert subprocess.run(command, stdout=full, check=False).returncode == 3


def test_what_is_told_is_utf_8_whatever_the_terminals_encoding_is(saved: Path) -> None:
    command = [sys.executable, "-m", "noisefloor.cli", "gate", str(saved), "--format", "markdown"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    told = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert "·" in told.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.json"], "is no job id, and there is no such file"),
        (["{empty}"], "(whole)"),
        (["{text}"], "not YAML or JSON"),
        (["{job}"], "unknown key"),
        (["{saved}", "--baseline-file", "nothing.json"], "cannot be read"),
        (["{saved}", "--baseline-file", "{job}"], "unknown key"),
        (["0" * 26, "--url", "http://127.0.0.1:9"], "no service answers"),
        (["{saved}", "--format", "yaml"], "Invalid value"),
        (["{saved}", "--write", "yaml=x"], "json, junit, sarif, markdown"),
        (["{saved}", "--write", "junit"], "FORMAT=FILE"),
        (["{saved}", "--write", "junit=/nowhere/x"], "cannot be written"),
    ],
)
def test_what_cannot_be_evaluated_exits_with_2(
    tmp_path: Path, saved: Path, verb: Verb, arguments: list[str], said: str
) -> None:
    files = {"empty": "", "text": "[", "job": json.dumps(job())}
    paths = {name: tmp_path / name for name in files} | {"saved": saved}
    for name, text in files.items():
        paths[name].write_text(text)
    code, _, error = verb("gate", *(argument.format(**paths) for argument in arguments))
    assert code == 2
    assert said in error
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository with a job and two commits."""
    made = Repository(tmp_path_factory.mktemp("checkout"))
    made.git("remote", "add", "origin", "git@example.org:org/repo.git")
    (made.folder / "job.yaml").write_text(yaml.safe_dump(job(name="pushed")))
    made.commit("job.yaml")
    made.commit()
    return made


def test_results_are_pushed_at_the_commit_of_the_checkout_and_judged_by_the_service(
    live_service: LiveService, checkout: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout.folder)
    service = ["--url", live_service.url, "--project", "pushes"]
    ran = cli("run", "job.yaml", "--push", *service, "--format", "json")
    assert ran.returncode == 0, ran.stderr
    report = Report.model_validate_json(ran.stdout)
    assert report.url is not None
    job_id = report.url.rpartition("/")[2]
    seen = live_service.http.get(f"/v1/projects/pushes/jobs/{job_id}").json()
    assert (seen["status"], seen["verdict"]) == ("done", "pass")
    assert (seen["git"]["repository"], seen["git"]["branch"]) == ("org/repo", "main")
    assert [seen["git"]["sha"], *seen["git"]["ancestors"]] == checkout.git("rev-list", "HEAD").split()
    (cell,) = live_service.cells(job_id, "pushes")
    assert cell["measurements"][0]["figure"]["kind"] == "finite"
    assert cell["environment"]
    for format_ in ("human", "junit", "sarif", "markdown"):
        told = cli("gate", job_id, *service, "--format", format_)
        assert told.returncode == 0, told.stderr
        assert told.stdout


def test_a_job_submitted_without_git_names_no_commit(
    live_service: LiveService, checkout: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout.folder)
    service = ["--url", live_service.url, "--project", "submits", "--format", "json"]
    with_git, without = (
        json.loads(cli("submit", "job.yaml", option, *service).stdout)["git"]
        for option in ("--git", "--no-git")
    )
    assert (with_git["sha"], with_git["branch"]) == (checkout.head, "main")
    assert (without["sha"], without["branch"], without["ancestors"]) == (None, None, [])


@pytest.mark.parametrize("option", [["--url", "http://127.0.0.1:9"], []])
def test_whoever_cannot_push_is_told_before_anything_is_measured(tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "telltale.py").write_text("open('measured', 'w').close()\ndef build(): ...\n")
    subject = {"import": "telltale:build", "data": small_data()}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(subjects=[subject])))
    push = ["--push"] if option else []
    ran = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "run", "job.yaml", *push, *option],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ("no service answers" in ran.stderr) is bool(option)
    assert (tmp_path / "measured").exists() is not bool(option)
