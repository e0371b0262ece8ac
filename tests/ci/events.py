"""Deliveries of the providers, from recorded ones."""

import json
from pathlib import Path
from typing import Any

from noisefloor.ci.signatures import github_signature

RECORDED = json.loads((Path(__file__).parent / "github_events.json").read_text())
REPOSITORY = "Codertocat/Hello-World"
SECRET = "It's a Secret to Everybody"
ZERO = "0" * 40


def sha(number: int) -> str:
    """A commit's name."""
    return f"{number:040x}"


def push(
    after: str = sha(1), before: str = ZERO, branch: str = "topic", at: int = 1_557_933_657, **changes: Any
) -> dict[str, Any]:
    """A push to a branch, as GitHub recorded one."""
    recorded = RECORDED["push"]
    repository = {**recorded["repository"], "pushed_at": at}
    return {
        **recorded,
        "ref": f"refs/heads/{branch}",
        "before": before,
        "after": after,
        "repository": repository,
    } | changes


def pull_request(head: str = sha(1), action: str = "opened", **changes: Any) -> dict[str, Any]:
    """A pull request's new head, as GitHub recorded one."""
    recorded = RECORDED["pull_request"]
    pull = recorded["pull_request"]
    pull = {**pull, "head": {**pull["head"], "sha": head}}
    return {**recorded, "action": action, "pull_request": pull} | changes


def again(kind: str, head: str, check: str, action: str = "measure-again") -> dict[str, Any]:
    """Somebody pressed a button, as GitHub recorded it."""
    document = dict(RECORDED[kind])
    document["repository"] = {**document["repository"], "full_name": REPOSITORY}
    part = kind.partition(".")[0]
    document[part] = {**document[part], "head_sha": head, "external_id": check}
    if "requested_action" in document:
        document["requested_action"] = {"identifier": action}
    return document


def signed(event: str, document: Any, *, delivery: str = "d", secret: str = SECRET) -> dict[str, Any]:
    """The request that delivers the event, for httpx."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {
        "content": body,
        "headers": {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": github_signature(body, secret),
        },
    }


def gitlab_push(after: str = sha(1), before: str = ZERO, branch: str = "topic") -> dict[str, Any]:
    """A push with the fields that GitLab documents."""
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": before,
        "after": after,
        "ref": f"refs/heads/{branch}",
        "checkout_sha": after,
        "project_id": 15,
        "project": {"id": 15, "path_with_namespace": "Group/Sub/Project", "default_branch": "main"},
        "commits": [{"id": after, "message": "m", "timestamp": "2026-01-03T23:36:29+02:00"}],
        "total_commits_count": 1,
    }


def merge_request(head: str = sha(2), action: str = "open", **attributes: Any) -> dict[str, Any]:
    """A merge request with the fields that GitLab documents."""
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "project": {"id": 1, "path_with_namespace": "Group/Sub/Project", "default_branch": "main"},
        "object_attributes": {
            "id": 99,
            "iid": 1,
            "target_branch": "main",
            "source_branch": "topic",
            "source_project_id": 14,
            "target_project_id": 14,
            "updated_at": "2026-01-03 23:36:29 UTC",
            "source": {"path_with_namespace": "Group/Sub/Project"},
            "last_commit": {"id": head, "timestamp": "2026-01-03T23:36:29+02:00"},
            "action": action,
            **attributes,
        },
    }
