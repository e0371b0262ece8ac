"""What the command line says to a mistake: one sentence about it, once, and exit code 2."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.reports import reported
from tests.repositories import Repository

from noisefloor.cli.main import run

JOB = "0" * 26
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOISEFLOOR_URL", "NOISEFLOOR_PROJECT", "NOISEFLOOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What stands on standard error of a verb that is refused."""
    monkeypatch.setattr(sys, "argv", ["noisefloor", *arguments])
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "aaaaaaa...topic"], "'topic' is no commit sha, and no name in this checkout"),
        (
            ["accept", "topic", "--reason", "x"],
            "'topic' is no job id, no commit sha, and no name in this checkout",
        ),
        *(
            ([verb, "nonsense"], f"'nonsense' is no job id; {NOBODY}/projects/default lists the jobs")
            for verb in ("show", "wait", "cancel", "retry")
        ),
        (["gate", "nonsense"], "'nonsense' is no job id, and there is no such file; "),
        (["attribute", "nonsense", "--", "true"], "'nonsense' is no job id; "),
        (["show", JOB, "--url", "127.0.0.1:8642"], "'127.0.0.1:8642' is no address of a service"),
        (["submit", "{job}", "--timeout", "9"], "--timeout belongs to --wait"),
        (["run", "nothing.yaml"], "What was given cannot be used: nothing.yaml cannot be read"),
        (["bisect", "{job}", "--good", "v1", "--", "true"], "cannot be used: git rev-list"),
        (["attribute", JOB, "git", "checkout", "-q", "{{sha}}"], "-q; a command of yours stands after --"),
        (["bisect", "{job}", "--good", "v1", "git", "checkout", "-q"], "a command of yours stands after --"),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOISEFLOOR_URL", NOBODY)
    (tmp_path / "job.json").write_text(reported(41.5).cells[0].repro.split("'")[1])
    error = told(monkeypatch, capsys, *(one.format(job=tmp_path / "job.json") for one in arguments))
    assert said in error
    assert "contract" not in error


def test_a_typing_error_before_the_command_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = told(monkeypatch, capsys, "bisect", "job.yaml", "--goood", "v1", "--", "git", "checkout", "{sha}")
    assert "--good" in error
    assert "a command of yours" not in error


@pytest.mark.parametrize("fields", [1, 4])
def test_each_refused_field_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fields: int
) -> None:
    job = tmp_path / "job.json"
    wrong = {"version": 1, "lanes": {}, "subjects": [{"zoo": f"nope{n}", "data": {}} for n in range(fields)]}
    job.write_text(json.dumps(wrong))
    error = told(monkeypatch, capsys, "run", "--no-git", str(job))
    for n in range(fields):
        assert error.count(f"unknown name 'nope{n}'") == 1


def test_a_key_that_stands_twice_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("policy: {rules: {floor_db: 60}}\npolicy: {rules: {floor_db: 5}}\n")
    error = told(monkeypatch, capsys, "run", "--no-git", str(job))
    assert f"{job}: the key 'policy' stands twice, in line 1 and in line 2" in error


@pytest.mark.parametrize(
    ("text", "said"),
    [("null", "(whole) = None: Input should be a valid dictionary"), ("{}", "Field required")],
)
def test_a_file_that_is_no_report_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    report, other = tmp_path / "report.json", tmp_path / "other.json"
    report.write_text(reported(41.5).model_dump_json(by_alias=True))
    other.write_text(text)
    for arguments in ([report, "--baseline-file", other], [other]):
        error = told(monkeypatch, capsys, "gate", *map(str, arguments))
        assert f"{other} is no report of `noisefloor run --format json`" in error
        assert said in error


def test_a_name_in_the_checkout_stands_for_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Repository(tmp_path)
    made.commit()
    made.git("branch", "topic")
    monkeypatch.chdir(tmp_path)
    for arguments in (["compare", "main...topic"], ["accept", "HEAD", "--reason", "x"]):
        assert "no service answers" in told(monkeypatch, capsys, *arguments, "--url", NOBODY)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["gate", "{report}", "--format", form] for form in ("human", "json", "junit", "sarif", "markdown")),
        ["schema", "job"],
        ["--help"],
        ["gate", "--help"],
    ],
)
def test_a_closed_reader_is_no_verdict(tmp_path: Path, arguments: list[str]) -> None:
    report = tmp_path / "report.json"
    report.write_text(reported(41.5, policy={}).model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "noisefloor.cli", *(one.format(report=report) for one in arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        assert verb.stdout is not None
        verb.stdout.close()
        _, error = verb.communicate()
    assert (verb.returncode, error) == (-signal.SIGPIPE, b"")
