"""What a CI host says is being built: the commit to report, and its branch.

A host's variables are believed only where they speak of the commit that is checked out. A job that checks
out another one, or a repository inside the build, is not what they are about.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisefloor.contract.base import Value

Environment = Mapping[str, str]
BRANCHES = "refs/heads/"


class Build(Value):
    """The commit that the host shows results at. Of a pull request, its head, whatever is checked out."""

    sha: str
    branch: str | None = None


def build(environment: Environment, head: str, parents: Sequence[str]) -> Build | None:
    """What GitHub or GitLab says of the commit `head`; None where neither speaks of it.

    >>> build({"CI_COMMIT_SHA": "ab12", "CI_COMMIT_REF_NAME": "main"}, "ab12", []).branch
    'main'
    >>> build({"CI_COMMIT_SHA": "ab12", "CI_COMMIT_REF_NAME": "main"}, "cd34", [])
    """
    return _github(environment, head, parents) or _gitlab(environment, head)


def _github(environment: Environment, head: str, parents: Sequence[str]) -> Build | None:
    """A pull request is checked out as refs/pull/N/merge, a merge whose second parent is its head.

    On pull_request_target, and when one is closed, the base is checked out: then the event's head is not
    what is measured.
    """
    ref = environment.get("GITHUB_REF", "") if environment.get("GITHUB_SHA") == head else ""
    if ref.startswith(BRANCHES):
        return Build(sha=head, branch=ref.removeprefix(BRANCHES))
    pull = _pull_request(environment)
    if pull is not None and pull.sha in {head, *parents}:
        return pull
    return Build(sha=head) if ref else None


def _pull_request(environment: Environment) -> Build | None:
    """The head that the event names; a fork's branch with its owner, so that it is not one of ours."""
    try:
        event: Any = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_bytes())
        pull = event["pull_request"]
        head, base = pull["head"], pull["base"]
        ours = head["repo"] is not None and head["repo"]["full_name"] == base["repo"]["full_name"]
        return Build(sha=head["sha"], branch=head["ref"] if ours else head["label"])
    except (KeyError, TypeError, ValueError, OSError):
        return None


def _gitlab(environment: Environment, head: str) -> Build | None:
    """Only a merged-results pipeline names the source's sha: in others, it is the one checked out."""
    if environment.get("CI_COMMIT_SHA") != head:
        return None
    source = environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
    if not source:
        tagged = environment.get("CI_COMMIT_TAG")
        return Build(sha=head, branch=None if tagged else environment.get("CI_COMMIT_REF_NAME"))
    project = environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH")
    forked = project != environment.get("CI_MERGE_REQUEST_PROJECT_PATH")
    return Build(
        sha=environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or head,
        branch=f"{project}:{source}" if forked else source,
    )
