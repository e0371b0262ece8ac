"""The GitHub Action and the GitLab template: their own shell, run as their hosts would, on a real service."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.repositories import Repository
from tests.samples import job
from tests.service import ROOT, LiveService

GITHUB = ROOT / "integrations" / "github"
ACTION = yaml.safe_load((GITHUB / "action.yml").read_text())
TEMPLATE = yaml.safe_load((ROOT / "integrations" / "gitlab" / "noisefloor.gitlab-ci.yml").read_text())
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
DROP = {"rules": {"max_drop_db": 0.5}}


@pytest.fixture
def checkout(tmp_path: Path) -> Repository:
    """A pull request's merge commit, with the job that it measures."""
    made = Repository(tmp_path / "checkout")
    made.git("remote", "add", "origin", "https://github.com/org/repo.git")
    (made.folder / "job.yaml").write_text(yaml.safe_dump(job(name="nightly")))
    made.commit("job.yaml")
    made.git("switch", "--quiet", "--create", "topic")
    made.commit("topic")
    made.git("switch", "--quiet", "--detach", "main")
    made.git("merge", "--quiet", "--no-ff", "--message", "merge", "topic")
    return made


@dataclass
class Runner:
    """What GitHub does with a composite action, up to the actions of others."""

    checkout: Repository
    inputs: dict[str, str]
    event: Path
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""

    def run(self, step: dict[str, Any]) -> int:
        """Run a step's shell: its inputs are variables, and its files are read afterwards."""
        files = {name: self.event.with_name(name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        for path in files.values():
            path.write_text("")
        given = {name: self._value(value) for name, value in step["env"].items()}
        ran = subprocess.run(
            [*BASH, step["run"]],
            cwd=self.checkout.folder,
            env={"PATH": PATH, "HOME": str(self.event.parent), **self._environment(), **given}
            | {name: str(path) for name, path in files.items()},
            capture_output=True,
            text=True,
            check=False,
        )
        self.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        self.outputs = dict(line.split("=", 1) for line in lines)
        self.log = ran.stdout + ran.stderr
        return ran.returncode

    def _environment(self) -> dict[str, str]:
        head = self.checkout.git("rev-parse", "topic")
        repo = {"full_name": "org/repo"}
        pull = {
            "head": {"sha": head, "ref": "topic", "label": "org:topic", "repo": repo},
            "base": {"repo": repo},
        }
        self.event.write_text(json.dumps({"pull_request": pull}))
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_PATH": str(self.event),
            "GITHUB_SHA": self.checkout.head,
            "GITHUB_REF": "refs/pull/1/merge",
        }

    def _value(self, template: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            if found[1] == "github.action_path":
                return str(GITHUB)
            name = found[1].removeprefix("inputs.")
            default: str = ACTION["inputs"][name].get("default", "")
            return self.inputs.get(name, default)

        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", replaced, template)


def runner(checkout: Repository, **inputs: str) -> Runner:
    """A runner whose workflow gives the action some inputs."""
    given = {"job": "job.yaml", **{name.replace("_", "-"): value for name, value in inputs.items()}}
    return Runner(checkout, given, checkout.folder.parent / "event.json")


def step(name: str) -> dict[str, Any]:
    """A step of the action by its name."""
    found: dict[str, Any] = next(one for one in ACTION["runs"]["steps"] if one["name"] == name)
    return found


def write_job(checkout: Repository, **changes: Any) -> None:
    """The job of the checkout, changed."""
    (checkout.folder / "job.yaml").write_text(yaml.safe_dump(job(name="nightly", **changes)))


def test_no_expression_stands_in_a_script() -> None:
    scripts = [one["run"] for one in ACTION["runs"]["steps"] if "run" in one]
    assert scripts
    assert not [script for script in scripts if "${{" in script]
    assert "${{" not in (GITHUB / "measure.sh").read_text()


def test_the_action_pushes_to_the_service_and_shows_what_it_says(
    live_service: LiveService, checkout: Repository
) -> None:
    ran = runner(checkout, url=live_service.url, project="action")
    assert ran.run(step("Measure")) == 0, ran.log
    assert ran.outputs["verdict"] == "pass"
    assert "## nightly: Every rule holds" in ran.summary
    (seen,) = live_service.http.get("/v1/projects/action/jobs").json()["items"]
    assert seen["git"]["sha"] == checkout.git("rev-parse", "topic")
    assert (seen["git"]["branch"], seen["git"]["ancestors"][0]) == (
        "topic",
        checkout.git("rev-parse", "main"),
    )
    for name in ("report", "junit", "sarif"):
        assert (checkout.folder / ran.outputs[name]).stat().st_size
    assert seen["id"] in ran.summary


def test_the_action_fails_where_decibels_are_lost_and_says_where(
    live_service: LiveService, checkout: Repository
) -> None:
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 99}
    write_job(checkout, schemes=[scheme])
    ran = runner(checkout, url=live_service.url, project="action")
    assert ran.run(step("Measure")) == 1, ran.log
    assert ran.outputs["verdict"] == "regressed"
    assert "dB below the floor of 99.000 dB" in ran.summary
    assert "| noisefloor run -" in ran.summary


def test_the_action_judges_by_a_baseline_file_without_a_service(checkout: Repository) -> None:
    write_job(checkout, policy=DROP)
    ran = runner(checkout)
    assert ran.run(step("Measure")) == 3, ran.log
    assert ran.outputs["verdict"] == "no_baseline"
    saved = checkout.folder / "baseline.json"
    saved.write_bytes((checkout.folder / ran.outputs["report"]).read_bytes())
    ran = runner(checkout, baseline_file="baseline.json")
    assert ran.run(step("Measure")) == 0, ran.log
    before = json.loads(saved.read_text())
    before["cells"][0]["measurements"][0]["figure"]["value"] += 3
    saved.write_text(json.dumps(before))
    assert ran.run(step("Measure")) == 1, ran.log
    assert "| 3.000 |" in ran.summary
    assert "a drop of 3.000 dB" in (checkout.folder / ran.outputs["junit"]).read_text()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"url": "http://127.0.0.1:9"}, "Nothing was measured"),
        ({"job": "nothing.yaml"}, "Nothing was measured"),
        ({"job": "--help"}, "Nothing was measured"),
        ({"job": "$(touch injected)`touch injected`"}, "Nothing was measured"),
        ({"url": "http://127.0.0.1:9", "baseline_file": "b"}, "either url"),
    ],
)
def test_the_action_ends_as_error_where_nothing_can_be_evaluated(
    checkout: Repository, inputs: dict[str, str], said: str
) -> None:
    ran = runner(checkout, **inputs)
    assert ran.run(step("Measure")) == 2, ran.log
    assert ran.outputs == {"verdict": "error"}
    assert said in ran.summary
    assert not (checkout.folder / "injected").exists()


@pytest.mark.parametrize(
    ("package", "installs"),
    [
        ("", [f"--constraint {GITHUB}/../../constraints.txt {GITHUB}/../..[worker]"]),
        ("noisefloor[worker]==1; touch injected", ["noisefloor[worker]==1; touch injected"]),
        ("installed", []),
    ],
)
def test_the_action_installs_its_own_revision_or_what_it_is_told(
    checkout: Repository, package: str, installs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = checkout.folder / "bin" / "python"
    recorder.parent.mkdir()
    recorder.write_text('#!/bin/sh\necho "$*" >>"$HOME/installed"\n')
    recorder.chmod(0o755)
    monkeypatch.setattr(sys.modules[__name__], "PATH", f"{recorder.parent}:{PATH}")
    ran = runner(checkout, package=package)
    assert ran.run(step("Install")) == 0, ran.log
    seen = checkout.folder.parent / "installed"
    assert (seen.read_text().splitlines() if seen.exists() else []) == [
        f"-m pip install {i}" for i in installs
    ]
    assert (GITHUB / "../../pyproject.toml").exists()
    assert not (checkout.folder / "injected").exists()


def gitlab(checkout: Repository, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a GitLab runner does with the template's job."""
    template = TEMPLATE[".noisefloor"]
    pipeline = {
        "GITLAB_CI": "true",
        "CI_COMMIT_SHA": checkout.head,
        "CI_COMMIT_REF_NAME": "main",
        "NOISEFLOOR_PACKAGE": "installed",
    }
    return subprocess.run(
        [*BASH, "\n".join([*template["before_script"], *template["script"]])],
        cwd=checkout.folder,
        env={"PATH": PATH, **template["variables"], "NOISEFLOOR_JOB": "job.yaml", **pipeline, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_template_pushes_to_the_service(live_service: LiveService, checkout: Repository) -> None:
    ran = gitlab(checkout, NOISEFLOOR_URL=live_service.url, NOISEFLOOR_PROJECT="template")
    assert ran.returncode == 0, ran.stderr
    (seen,) = live_service.http.get("/v1/projects/template/jobs").json()["items"]
    assert (seen["git"]["sha"], seen["git"]["branch"]) == (checkout.head, "main")
    report = checkout.folder / TEMPLATE[".noisefloor"]["artifacts"]["reports"]["junit"]
    assert "<testsuites" in report.read_text()


def test_the_template_exits_with_the_verdicts_code(checkout: Repository) -> None:
    write_job(checkout, policy=DROP)
    ran = gitlab(checkout)
    assert ran.returncode == 3, ran.stderr
    assert "verdict:" in ran.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {"NOISEFLOOR_URL": "http://127.0.0.1:9"},
        {"NOISEFLOOR_JOB": "nothing.yaml"},
        {"NOISEFLOOR_URL": "http://127.0.0.1:9", "NOISEFLOOR_BASELINE_FILE": "b"},
    ],
)
def test_the_template_ends_as_error_where_nothing_can_be_evaluated(
    checkout: Repository, variables: dict[str, str]
) -> None:
    assert gitlab(checkout, **variables).returncode == 2
