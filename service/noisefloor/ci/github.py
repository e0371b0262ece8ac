"""What GitHub's webhooks say. Fields as in its published description of webhooks."""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from noisefloor.ci.event import HEADS, Again, Event, Head, Ignored, Payload, SomeMoment, is_no_commit

ACTION_AGAIN = "measure-again"
NEW_HEAD = ("opened", "synchronize", "reopened")


class _Repository(Payload):
    full_name: str
    default_branch: str = ""


class _Installation(Payload):
    id: Annotated[int, Field(ge=1, lt=2**63)]


class _Commit(Payload):
    timestamp: SomeMoment


class _Delivery(Payload):
    action: str = ""
    repository: _Repository
    installation: _Installation | None = None

    @property
    def installed(self) -> int | None:
        return self.installation.id if self.installation else None


class _PushedRepository(_Repository):
    pushed_at: SomeMoment | None = None


class _Push(_Delivery):
    ref: str
    before: str
    after: str
    repository: _PushedRepository
    head_commit: _Commit | None = None


class _Side(Payload):
    ref: str
    sha: str
    label: str
    repo: _Repository | None


class _PullRequest(Payload):
    number: int
    head: _Side
    base: _Side
    updated_at: SomeMoment


class _PullRequestDelivery(_Delivery):
    pull_request: _PullRequest
    before: str | None = None


class _MergeGroup(Payload):
    head_sha: str
    head_ref: str
    base_ref: str
    base_sha: str
    head_commit: _Commit


class _MergeGroupDelivery(_Delivery):
    merge_group: _MergeGroup


class _Run(Payload):
    head_sha: str
    external_id: str | None = None


class _Action(Payload):
    identifier: str


class _CheckRunDelivery(_Delivery):
    check_run: _Run
    requested_action: _Action | None = None


class _CheckSuiteDelivery(_Delivery):
    check_suite: _Run


def read(name: str, body: bytes) -> Event:
    """The event of a delivery; `name` is its `X-GitHub-Event`. Raises Pydantic's `ValidationError`."""
    reader = READERS.get(name)
    if reader is None:
        return Ignored(reason=f"event {name[:100]!r} starts nothing here; {', '.join(READERS)} do")
    return reader(body)


def _ping(_body: bytes) -> Event:
    return Ignored(reason="ping: the secret is right")


def _push(body: bytes) -> Event:
    push = _Push.model_validate_json(body)
    if not push.ref.startswith(HEADS):
        return Ignored(reason=f"{push.ref[:200]!r} is no branch")
    branch = push.ref.removeprefix(HEADS)
    if is_no_commit(push.after):
        return Ignored(reason=f"branch {branch[:200]!r} was deleted")
    return Head(
        provider="github",
        event="push",
        repository=push.repository.full_name,
        sha=push.after,
        before=None if is_no_commit(push.before) else push.before,
        branch=branch,
        into=branch,
        on_default_branch=branch == push.repository.default_branch,
        at=push.repository.pushed_at or (push.head_commit.timestamp if push.head_commit else None),
        committed_at=push.head_commit.timestamp if push.head_commit else None,
        installation=push.installed,
    )


def _pull_request(body: bytes) -> Event:
    delivery = _PullRequestDelivery.model_validate_json(body)
    pull = delivery.pull_request
    if delivery.action not in NEW_HEAD:
        return Ignored(reason=f"pull_request {delivery.action[:100]!r} brings no new head")
    of_a_fork = pull.head.repo is None or pull.head.repo.full_name != delivery.repository.full_name
    return Head(
        provider="github",
        event="pull_request",
        repository=delivery.repository.full_name,
        sha=pull.head.sha,
        before=delivery.before,
        # a fork's main is not ours: its results must not become our history
        branch=pull.head.label if of_a_fork else pull.head.ref,
        into=pull.base.ref,
        at=pull.updated_at,
        installation=delivery.installed,
    )


def _merge_group(body: bytes) -> Event:
    delivery = _MergeGroupDelivery.model_validate_json(body)
    group = delivery.merge_group
    if delivery.action != "checks_requested":
        return Ignored(reason=f"merge_group {delivery.action[:100]!r} asks for no checks")
    return Head(
        provider="github",
        event="merge_group",
        repository=delivery.repository.full_name,
        sha=group.head_sha,
        branch=group.head_ref.removeprefix(HEADS),
        into=group.base_ref.removeprefix(HEADS),
        committed_at=group.head_commit.timestamp,
        installation=delivery.installed,
    )


def _check_run(body: bytes) -> Event:
    delivery = _CheckRunDelivery.model_validate_json(body)
    if delivery.action == "requested_action":
        wanted = delivery.requested_action.identifier if delivery.requested_action else ""
        if wanted != ACTION_AGAIN:
            return Ignored(reason=f"action {wanted[:100]!r} is not one of ours")
    elif delivery.action != "rerequested":
        return Ignored(reason=f"check_run {delivery.action[:100]!r} asks for nothing")
    return Again(
        provider="github",
        repository=delivery.repository.full_name,
        sha=delivery.check_run.head_sha,
        check=delivery.check_run.external_id or None,
        installation=delivery.installed,
    )


def _check_suite(body: bytes) -> Event:
    delivery = _CheckSuiteDelivery.model_validate_json(body)
    if delivery.action != "rerequested":
        return Ignored(reason=f"check_suite {delivery.action[:100]!r} asks for nothing")
    return Again(
        provider="github",
        repository=delivery.repository.full_name,
        sha=delivery.check_suite.head_sha,
        installation=delivery.installed,
    )


READERS: Mapping[str, Callable[[bytes], Event]] = {
    "ping": _ping,
    "push": _push,
    "pull_request": _pull_request,
    "merge_group": _merge_group,
    "check_run": _check_run,
    "check_suite": _check_suite,
}
