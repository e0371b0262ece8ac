"""GitHub: commit statuses with a token, check runs with an App's credentials."""

import json
from collections.abc import Mapping
from typing import Any

from noisefloor.ci.github import ACTION_AGAIN
from noisefloor.ci.message import Status
from noisefloor.ci.summary import description, markdown, title
from noisefloor.ci.transport import Request
from noisefloor.contract.verdict import Verdict

API_VERSION = "2022-11-28"
STATES: Mapping[Verdict, str] = {
    Verdict.PASS: "success",
    Verdict.ACKNOWLEDGED: "success",
    Verdict.WARN: "success",
    Verdict.PENDING: "pending",
    Verdict.NO_BASELINE: "failure",
    Verdict.ERROR: "error",
    Verdict.REGRESSED: "failure",
}
# GitHub counts skipped and neutral as passing, so nothing that is unknown may be one of them.
CONCLUSIONS: Mapping[Verdict, str] = {
    Verdict.PASS: "success",
    Verdict.ACKNOWLEDGED: "success",
    Verdict.WARN: "neutral",
    Verdict.NO_BASELINE: "action_required",
    Verdict.ERROR: "failure",
    Verdict.REGRESSED: "failure",
}
AGAIN = {
    "label": "Measure again",
    "description": "Run this suite on the commit again",
    "identifier": ACTION_AGAIN,
}


def commit_status(api: str, status: Status, token: str) -> Request:
    """`POST /repos/{owner}/{repo}/statuses/{sha}`."""
    body: dict[str, Any] = {
        "state": STATES[status.verdict],
        "context": status.target.context,
        "description": description(status.announcement, status.reasons),
    }
    if status.url is not None:
        body["target_url"] = status.url
    url = f"{api}/repos/{status.target.repository}/statuses/{status.target.sha}"
    return Request(url=url, headers=headers(token), body=json.dumps(body).encode())


def check_run(api: str, status: Status, token: str) -> Request:
    """`POST /repos/{owner}/{repo}/check-runs`, or `PATCH …/{check_run_id}` of the one that is open."""
    pending = status.verdict is Verdict.PENDING
    body: dict[str, Any] = {
        "name": status.target.context,
        "external_id": status.target.check,
        "status": "in_progress" if pending else "completed",
        "output": {
            "title": title(status.announcement, status.reasons),
            "summary": markdown(status.announcement, status.reasons, status.url),
        },
    }
    if status.url is not None:
        body["details_url"] = status.url
    if not pending:
        body["conclusion"] = CONCLUSIONS[status.verdict]
        body["completed_at"] = f"{status.announcement.at:%Y-%m-%dT%H:%M:%SZ}"
        body["actions"] = [AGAIN]
    url = f"{api}/repos/{status.target.repository}/check-runs"
    if status.run_id is not None:
        return Request(
            method="PATCH",
            url=f"{url}/{status.run_id}",
            headers=headers(token),
            body=json.dumps(body).encode(),
        )
    body["head_sha"] = status.target.sha
    return Request(url=url, headers=headers(token), body=json.dumps(body).encode())


def headers(token: str) -> dict[str, str]:
    """What every request to the API carries."""
    return {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "X-GitHub-Api-Version": API_VERSION,
    }
