"""GitLab: commit statuses."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from noisefloor.ci.message import Status
from noisefloor.ci.summary import description
from noisefloor.ci.transport import Answer, Outcome, Request, outcome_of
from noisefloor.contract.verdict import Verdict

BAD_REQUEST = 400
ALREADY_SO = b"Cannot transition status"
# GitLab knows no error: what could not be evaluated has failed, and says so.
STATES: Mapping[Verdict, str] = {
    Verdict.PASS: "success",
    Verdict.ACKNOWLEDGED: "success",
    Verdict.WARN: "success",
    Verdict.PENDING: "pending",
    Verdict.NO_BASELINE: "failed",
    Verdict.ERROR: "failed",
    Verdict.REGRESSED: "failed",
}


def commit_status(api: str, status: Status, token: str) -> Request:
    """`POST /projects/{id}/statuses/{sha}`, by the project's path."""
    body: dict[str, Any] = {
        "state": STATES[status.verdict],
        "name": status.target.context,
        "description": description(status.announcement, status.reasons),
    }
    if status.url is not None:
        body["target_url"] = status.url
    if status.announcement.branch is not None and ":" not in status.announcement.branch:
        body["ref"] = status.announcement.branch
    project = quote(status.target.repository, safe="")
    return Request(
        url=f"{api}/projects/{project}/statuses/{status.target.sha}",
        headers={"PRIVATE-TOKEN": token, "Content-Type": "application/json"},
        body=json.dumps(body).encode(),
    )


def status_outcome(answer: Answer) -> Outcome:
    """As everywhere, but that GitLab refuses to set a status to what it is."""
    if answer.status == BAD_REQUEST and ALREADY_SO in answer.body:
        return Outcome(result="delivered", status=answer.status)
    return outcome_of(answer)
