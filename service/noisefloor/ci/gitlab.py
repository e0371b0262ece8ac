"""What GitLab's webhooks say. Fields as in its documentation of webhook events."""

from collections.abc import Callable, Mapping

from noisefloor.ci.event import HEADS, Event, Head, Ignored, Payload, SomeMoment, is_no_commit


class _Project(Payload):
    path_with_namespace: str
    default_branch: str | None = None


class _Commit(Payload):
    id: str
    timestamp: SomeMoment


class _Push(Payload):
    ref: str
    before: str
    after: str
    project: _Project
    commits: tuple[_Commit, ...] = ()


class _MergeRequest(Payload):
    iid: int
    action: str = ""
    source_branch: str
    target_branch: str
    source_project_id: int | None
    target_project_id: int
    source: _Project | None = None
    last_commit: _Commit
    oldrev: str | None = None


class _MergeRequestHook(Payload):
    project: _Project
    object_attributes: _MergeRequest


def read(name: str, body: bytes) -> Event:
    """The event of a delivery; `name` is its `X-Gitlab-Event`. Raises Pydantic's `ValidationError`."""
    reader = READERS.get(name)
    if reader is None:
        return Ignored(reason=f"event {name[:100]!r} starts nothing here; {', '.join(READERS)} do")
    return reader(body)


def _push(body: bytes) -> Event:
    push = _Push.model_validate_json(body)
    if not push.ref.startswith(HEADS):
        return Ignored(reason=f"{push.ref[:200]!r} is no branch")
    branch = push.ref.removeprefix(HEADS)
    if is_no_commit(push.after):
        return Ignored(reason=f"branch {branch[:200]!r} was deleted")
    committed_at = next((c.timestamp for c in push.commits if c.id == push.after), None)
    return Head(
        provider="gitlab",
        event="push",
        repository=push.project.path_with_namespace,
        sha=push.after,
        before=None if is_no_commit(push.before) else push.before,
        branch=branch,
        into=branch,
        on_default_branch=branch == push.project.default_branch,
        at=committed_at,
        committed_at=committed_at,
    )


def _merge_request(body: bytes) -> Event:
    hook = _MergeRequestHook.model_validate_json(body)
    request = hook.object_attributes
    new_code = request.action == "update" and request.oldrev is not None
    if request.action not in {"open", "reopen"} and not new_code:
        return Ignored(reason=f"merge request {request.action[:100]!r} brings no new head")
    branch = request.source_branch
    if request.source_project_id != request.target_project_id:
        # a fork's main is not ours: its results must not become our history
        fork = request.source.path_with_namespace if request.source else "a fork"
        branch = f"{fork}:{branch}"
    return Head(
        provider="gitlab",
        event="pull_request",
        repository=hook.project.path_with_namespace,
        sha=request.last_commit.id,
        before=request.oldrev,
        branch=branch,
        into=request.target_branch,
        at=request.last_commit.timestamp,  # as for pushes, which have no time of their own
        committed_at=request.last_commit.timestamp,
    )


READERS: Mapping[str, Callable[[bytes], Event]] = {
    "Push Hook": _push,
    "Merge Request Hook": _merge_request,
}
