"""What is said of a checkout, on real git repositories."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.repositories import Repository, run
from tests.samples import spec

from noisefloor.client.checkout import at_commit, checkout, commit_of
from noisefloor.contract.job import Git
from noisefloor.git import repository

NOWHERE: dict[str, str] = {}


@pytest.fixture
def origin(tmp_path: Path) -> Repository:
    """Three commits on main."""
    made = Repository(tmp_path / "origin")
    for _ in range(3):
        made.commit()
    return made


def test_a_plain_checkout(origin: Repository) -> None:
    first, second, third = origin.git("rev-list", "--reverse", "HEAD").split()
    origin.git("remote", "add", "origin", "https://ci:secret@github.com/org/repo.git")
    found = checkout(origin.folder, NOWHERE)
    assert found.git == Git(
        repository="org/repo",
        branch="main",
        sha=third,
        committed_at=datetime(2026, 1, 1, 0, 3, tzinfo=UTC),
        ancestors=(second, first),
    )
    assert found.notes == ()


def test_a_tagged_commit_is_a_release(origin: Repository) -> None:
    origin.git("tag", "v1.9")
    origin.git("tag", "v1.10")
    assert checkout(origin.folder, NOWHERE).git.tag == "v1.10"


def test_a_folder_below_the_root(origin: Repository) -> None:
    (origin.folder / "below").mkdir()
    assert checkout(origin.folder / "below", NOWHERE).git.sha == origin.head


def test_no_more_ancestors_than_the_contract_takes(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    commits = (f"committer T <t@x> {1_760_000_000 + n} +0000\ndata 3\n{n:03}\n" for n in range(120))
    made.git("fast-import", "--quiet", given="".join(f"commit refs/heads/main\n{one}" for one in commits))
    found = checkout(tmp_path, NOWHERE).git
    assert [found.sha, *found.ancestors] == made.git("rev-list", "--max-count=101", "HEAD").split()
    assert len(found.ancestors) == 100


def test_ancestors_follow_first_parents_through_a_merge(origin: Repository) -> None:
    base = origin.head
    origin.git("switch", "--quiet", "--create", "topic")
    topic = origin.commit("topic")
    origin.git("switch", "--quiet", "main")
    main = origin.commit()
    origin.git("merge", "--quiet", "--no-ff", "--message", "merge", "topic")
    found = checkout(origin.folder, NOWHERE).git
    assert found.ancestors[:2] == (main, base)
    assert topic not in found.ancestors


def test_a_rebase_leaves_no_trace_of_the_commits_it_replaced(origin: Repository) -> None:
    origin.git("switch", "--quiet", "--create", "topic")
    old = origin.commit("topic")
    origin.git("switch", "--quiet", "main")
    main = origin.commit()
    origin.git("switch", "--quiet", "topic")
    origin.git("rebase", "--quiet", "main")
    found = checkout(origin.folder, NOWHERE).git
    assert (found.branch, found.ancestors[0]) == ("topic", main)
    assert old not in {found.sha, *found.ancestors}


def test_a_detached_head_has_no_branch_where_no_host_names_one(origin: Repository) -> None:
    origin.git("checkout", "--quiet", "--detach")
    assert checkout(origin.folder, NOWHERE).git.branch is None


def test_a_commit_is_named_as_git_names_it(origin: Repository) -> None:
    origin.git("tag", "--annotate", "--message", "x", "v1")
    head, parent = origin.git("rev-list", "--max-count=2", "HEAD").split()
    names = ("main", "v1", "HEAD", "HEAD~1", head[:6], "topic", "--all", "a\0b", "")
    assert [commit_of(origin.folder, name) for name in names] == [head, head, head, parent, head, *[None] * 4]


def test_a_shallow_clone_is_said_and_knows_the_parent_that_was_not_fetched(
    origin: Repository, tmp_path: Path
) -> None:
    parent = origin.git("rev-parse", "HEAD~1")
    found = checkout(origin.clone(tmp_path / "shallow", "--depth=1"), NOWHERE)
    assert found.git.ancestors == (parent,)
    (note,) = found.notes
    assert "fetch-depth: 100" in note


def test_a_changed_file_is_said_and_recorded(origin: Repository) -> None:
    (origin.folder / "untracked").write_text("new")
    assert not checkout(origin.folder, NOWHERE).git.dirty
    (origin.folder / "file").write_text("changed")
    found = checkout(origin.folder, NOWHERE)
    assert found.git.dirty
    assert found.notes == (f"files differ from commit {origin.head[:10]}: file",)


@pytest.mark.parametrize("made", ["nothing", "repository without a commit"])
def test_where_there_is_no_commit_nothing_is_said(tmp_path: Path, made: str) -> None:
    if made != "nothing":
        Repository(tmp_path)
    found = checkout(tmp_path, NOWHERE)
    assert (found.git, found.notes) == (Git(), ())


def test_without_git_nothing_is_said(origin: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert checkout(origin.folder, NOWHERE).git == Git()


def test_a_checkout_that_git_will_not_read_is_said(
    origin: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = checkout(origin.folder, NOWHERE)
    assert found.git == Git()
    assert "dubious ownership" in found.notes[0]


class PullRequest:
    """A pull request of GitHub: main moved on, the topic is checked out merged into it."""

    def __init__(self, origin: Repository, folder: Path, *, fork: bool = False) -> None:
        origin.git("switch", "--quiet", "--create", "topic", "HEAD~1")
        self.head = origin.commit("topic")
        origin.git("switch", "--quiet", "--detach", "main")
        self.base = origin.head
        origin.git("merge", "--quiet", "--no-ff", "--message", "merge", "topic")
        self.merge = origin.head
        origin.git("update-ref", "refs/pull/7/merge", "HEAD")
        self.folder = folder
        folder.mkdir()
        run(folder, "init", "--quiet")
        run(folder, "remote", "add", "origin", f"file://{origin.folder}")
        event = folder / "event.json"
        whose = "stranger/repo" if fork else "org/repo"
        event.write_text(json.dumps({"pull_request": _pull_request(self.head, whose)}))
        self.environment = {
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_SHA": self.merge,
            "GITHUB_REF": "refs/pull/7/merge",
            "GITHUB_REF_NAME": "7/merge",
            "GITHUB_HEAD_REF": "topic",
        }

    def fetch(self, ref: str, depth: int) -> None:
        """As actions/checkout does."""
        run(self.folder, "fetch", "--quiet", f"--depth={depth}", "origin", f"+{ref}:refs/remotes/checked-out")
        run(self.folder, "checkout", "--quiet", "--force", "refs/remotes/checked-out")


def _pull_request(head: str, whose: str) -> dict[str, Any]:
    owner = whose.partition("/")[0]
    return {
        "head": {"sha": head, "ref": "topic", "label": f"{owner}:topic", "repo": {"full_name": whose}},
        "base": {"repo": {"full_name": "org/repo"}},
    }


@pytest.mark.parametrize("depth", [1, 100])
def test_a_pull_request_is_reported_at_its_head_and_compared_with_what_it_is_merged_into(
    origin: Repository, tmp_path: Path, depth: int
) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    pull.fetch("refs/pull/7/merge", depth)
    found = checkout(pull.folder, pull.environment)
    assert (found.git.sha, found.git.branch, found.git.merge) == (pull.head, "topic", pull.merge)
    assert found.git.ancestors[0] == pull.base
    assert f"measured merged into {pull.base[:10]}" in found.notes[0]


def test_the_head_of_a_pull_request_checked_out_itself_has_its_own_ancestors(
    origin: Repository, tmp_path: Path
) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    pull.fetch("refs/heads/topic", 100)
    found = checkout(pull.folder, pull.environment)
    assert (found.git.sha, found.git.branch, found.git.merge) == (pull.head, "topic", None)
    assert pull.base not in found.git.ancestors
    assert len(found.git.ancestors) == 2
    assert not [note for note in found.notes if "merged" in note]


def test_the_branch_of_a_fork_is_not_taken_for_one_of_ours(origin: Repository, tmp_path: Path) -> None:
    pull = PullRequest(origin, tmp_path / "runner", fork=True)
    pull.fetch("refs/pull/7/merge", 1)
    assert checkout(pull.folder, pull.environment).git.branch == "stranger:topic"


def test_pull_request_target_measures_the_base_and_says_so(origin: Repository, tmp_path: Path) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    pull.fetch("refs/heads/main", 100)
    target = {"GITHUB_SHA": pull.base, "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main"}
    found = checkout(pull.folder, {**pull.environment, **target}).git
    assert (found.sha, found.branch) == (pull.base, "main")


def test_a_host_is_not_believed_of_another_repository_in_its_build(
    origin: Repository, tmp_path: Path
) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    other = Repository(tmp_path / "other", branch="own")
    sha = other.commit()
    gitlab = {"CI_COMMIT_SHA": pull.base, "CI_COMMIT_REF_NAME": "main"}
    for environment in (pull.environment, gitlab):
        found = checkout(other.folder, environment).git
        assert (found.sha, found.branch) == (sha, "own")


@pytest.mark.parametrize("event", ["", "[]", '{"pull_request": {"head": null}}'])
def test_an_event_that_cannot_be_read_names_no_branch(origin: Repository, tmp_path: Path, event: str) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    pull.fetch("refs/pull/7/merge", 1)
    Path(pull.environment["GITHUB_EVENT_PATH"]).write_text(event)
    found = checkout(pull.folder, pull.environment).git
    assert (found.sha, found.branch) == (pull.merge, None)


@pytest.mark.parametrize(
    ("said", "branch"),
    [
        ({"GITHUB_SHA": "HEAD", "GITHUB_REF": "refs/heads/release/1.0"}, "release/1.0"),
        ({"GITHUB_SHA": "HEAD", "GITHUB_REF": "refs/tags/v1"}, None),
        ({"CI_COMMIT_SHA": "HEAD", "CI_COMMIT_REF_NAME": "main"}, "main"),
        ({"CI_COMMIT_SHA": "HEAD", "CI_COMMIT_REF_NAME": "v1", "CI_COMMIT_TAG": "v1"}, None),
        (
            {
                "CI_COMMIT_SHA": "HEAD",
                "CI_COMMIT_REF_NAME": "topic",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "topic",
                "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "group/repo",
                "CI_MERGE_REQUEST_PROJECT_PATH": "group/repo",
            },
            "topic",
        ),
        (
            {
                "CI_COMMIT_SHA": "HEAD",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main",
                "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "stranger/repo",
                "CI_MERGE_REQUEST_PROJECT_PATH": "group/repo",
            },
            "stranger/repo:main",
        ),
    ],
)
def test_the_branch_of_a_detached_checkout_is_the_hosts(
    origin: Repository, said: dict[str, str], branch: str | None
) -> None:
    origin.git("checkout", "--quiet", "--detach")
    environment = {name: origin.head if value == "HEAD" else value for name, value in said.items()}
    found = checkout(origin.folder, environment).git
    assert (found.branch, found.sha) == (branch, origin.head)


def test_a_merged_results_pipeline_is_reported_at_the_source(origin: Repository, tmp_path: Path) -> None:
    pull = PullRequest(origin, tmp_path / "runner")
    pull.fetch("refs/pull/7/merge", 100)
    environment = {
        "CI_COMMIT_SHA": pull.merge,
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "topic",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": pull.head,
    }
    found = checkout(pull.folder, environment).git
    assert (found.sha, found.branch, found.ancestors[0]) == (pull.head, "topic", pull.base)


def test_what_the_job_says_wins(origin: Repository) -> None:
    found = checkout(origin.folder, NOWHERE).git
    job = at_commit(spec(git={"branch": "other"}), found)
    assert job.git == found.replace(branch="other")


def test_a_job_at_another_commit_takes_nothing_but_the_repository(origin: Repository) -> None:
    origin.git("remote", "add", "origin", "git@example.org:org/repo.git")
    found = checkout(origin.folder, NOWHERE).git
    job = at_commit(spec(git={"sha": "ab" * 20}), found)
    assert job.git == Git(repository="org/repo", sha="ab" * 20)
    same = at_commit(spec(git={"sha": found.sha}), found)
    assert same.git == found


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/org/repo", "org/repo"),
        ("https://ci:secret@gitlab.example.org/group/sub/repo.git/", "group/sub/repo"),
        ("ssh://git@example.org:2222/org/repo.git", "org/repo"),
        ("git@github.com:org/repo.git", "org/repo"),
        ("/srv/git/repo.git", None),
        ("file:///srv/git/repo.git", None),
        ("C:/git/repo", None),
        ("../repo", None),
        ("", None),
    ],
)
def test_a_remote_is_named_as_its_host_names_it(url: str, name: str | None) -> None:
    assert repository(url) == name
