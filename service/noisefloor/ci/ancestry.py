"""The commits before a head, by first parents: webhooks bring none, so the provider is asked."""

from urllib.parse import quote

from pydantic import TypeAdapter

from noisefloor.ci import github_status
from noisefloor.ci.event import Payload
from noisefloor.ci.transport import Request
from noisefloor.contract.delivery import CheckTarget
from noisefloor.contract.suite import FullSha

MOST = 100  # one page, which is as many as a job may carry
LIMIT_BYTES = 8 * 2**20


class _Parent(Payload):
    sha: FullSha


class _GitHubCommit(Payload):
    sha: FullSha
    parents: tuple[_Parent, ...]


class _GitLabCommit(Payload):
    id: FullSha


_github_page = TypeAdapter(tuple[_GitHubCommit, ...])
_gitlab_page = TypeAdapter(tuple[_GitLabCommit, ...])


def github_commits(api: str, target: CheckTarget, token: str) -> Request:
    """`GET /repos/{owner}/{repo}/commits`."""
    url = f"{api}/repos/{target.repository}/commits?sha={target.sha}&per_page={MOST}"
    return Request(method="GET", url=url, headers=github_status.headers(token))


def github_ancestors(target: CheckTarget, body: bytes) -> tuple[str, ...]:
    """GitHub lists all parents by time: follow the first of each, as far as the page has them.

    Raises Pydantic's `ValidationError`.
    """
    parents = {commit.sha: commit.parents for commit in _github_page.validate_json(body)}
    found: list[str] = []
    before = parents.get(target.sha)
    while before and len(found) < MOST:
        found.append(before[0].sha)
        before = parents.get(before[0].sha)
    return tuple(found)


def gitlab_commits(api: str, target: CheckTarget, token: str) -> Request:
    """`GET /projects/{id}/repository/commits`, which knows first parents itself."""
    project = quote(target.repository, safe="")
    query = f"ref_name={target.sha}&first_parent=true&per_page={MOST}"
    url = f"{api}/projects/{project}/repository/commits?{query}"
    return Request(method="GET", url=url, headers={"PRIVATE-TOKEN": token})


def gitlab_ancestors(target: CheckTarget, body: bytes) -> tuple[str, ...]:
    """All of the page but the head itself. Raises Pydantic's `ValidationError`."""
    return tuple(commit.id for commit in _gitlab_page.validate_json(body) if commit.id != target.sha)
