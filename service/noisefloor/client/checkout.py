"""What git says of the checkout that a job is measured in, so that the service needs no repository.

The ancestors are those of what is checked out. Of a pull request's merge commit they start at the tip of the
base: that is what the change was merged into, and so what its figures are compared with.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from noisefloor.client.pipeline import build
from noisefloor.contract.base import Value
from noisefloor.contract.job import MAX_ANCESTORS, Git, JobSpec
from noisefloor.git import CHANGED, git, repository

SHOWN = 10
DEEPEN = f"GitHub: fetch-depth: {MAX_ANCESTORS}; GitLab: GIT_DEPTH: {MAX_ANCESTORS}; git fetch --unshallow"


class Checkout(Value):
    """The facts, and what the user should know of them."""

    git: Git = Git()
    notes: tuple[str, ...] = ()


def checkout(folder: Path, environment: Mapping[str, str]) -> Checkout:
    """The facts of the checkout around `folder`; nothing without git, a repository or a commit."""
    try:
        found = git(folder, "rev-parse", "--is-shallow-repository")
    except OSError:
        return Checkout()
    if found.returncode:
        error = found.stderr.strip()
        unused = "not a git repository" in error
        return Checkout() if unused else Checkout(notes=(f"git cannot read this checkout: {error}",))
    shallow = found.stdout.strip() == "true"
    first_parents = _lines(folder, "rev-list", "--first-parent", f"--max-count={MAX_ANCESTORS + 1}", "HEAD")
    if not first_parents:
        return Checkout()

    head, *ancestors = first_parents
    parents = _parents(folder, head)
    if shallow:  # the last commit that was fetched names its parents all the same
        ancestors = [*ancestors, *_parents(folder, first_parents[-1])[:1]][:MAX_ANCESTORS]
    built = build(environment, head, parents)
    attached = _lines(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    sha = built.sha if built else head
    facts = {
        "repository": repository("".join(_lines(folder, "remote", "get-url", "origin"))),
        "branch": built.branch if built else "".join(attached) or None,
        "sha": sha,
        "merge": head if sha != head else None,
        "committed_at": _lines(folder, "show", "--no-patch", "--format=%cI", head)[0],
        "ancestors": ancestors,
        "tag": next(iter(_lines(folder, "tag", "--points-at", sha, "--sort=-version:refname")), None),
        "dirty": bool(changed := _lines(folder, *CHANGED)),
    }
    try:
        said = Git.model_validate(facts)
    except ValidationError as error:  # a clock far off, a name beyond all bounds
        return Checkout(notes=(f"git's facts cannot be sent: {error.errors()[0]['loc'][0]}",))
    notes = []
    if said.merge is not None:
        notes.append(_merged(said, parents))
    if changed:
        notes.append(f"files differ from commit {head[:SHOWN]}: {_few(changed)}")
    if shallow and len(ancestors) < MAX_ANCESTORS:
        notes.append(
            f"a shallow clone: {len(ancestors)} ancestors are known, "
            f"and a baseline further back will not be found ({DEEPEN})"
        )
    return Checkout(git=said, notes=tuple(notes))


def at_commit(spec: JobSpec, found: Git) -> JobSpec:
    """The job with the facts of its checkout. What the job says itself wins.

    A job that names another commit is not of this checkout: of that, the repository alone is taken.
    """
    said = {name: getattr(spec.git, name) for name in spec.git.model_fields_set}
    elsewhere = spec.git.sha is not None and not (found.sha or "").startswith(spec.git.sha)
    base = Git(repository=found.repository) if elsewhere else found
    return spec.replace(git=base.replace(**said))


def commit_of(folder: Path, name: str) -> str | None:
    """The sha of the commit that a branch, a tag or `HEAD~1` names in this checkout; None where none does."""
    if name.startswith("-"):
        return None
    try:
        return next(iter(_lines(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")), None)
    except (OSError, ValueError):  # no git here, or a name that no process can be given
        return None


def _merged(said: Git, parents: Sequence[str]) -> str:
    base = next((parent for parent in parents if parent != said.sha), "?")
    reported = (said.sha or "")[:SHOWN]
    return f"measured merged into {base[:SHOWN]}, and reported as {reported}, the pull request's head"


def _few(changed: Sequence[str]) -> str:
    names = [line[3:] for line in changed[:3]]
    more = len(changed) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _parents(folder: Path, sha: str) -> list[str]:
    """As the commit itself names them, whether they were fetched or not."""
    header = "\n".join(_lines(folder, "cat-file", "commit", sha)).partition("\n\n")[0]
    return re.findall(r"^parent ([0-9a-f]+)$", header, re.MULTILINE)


def _lines(folder: Path, *arguments: str) -> list[str]:
    """What git answers; nothing where it refuses."""
    answer = git(folder, *arguments)
    return answer.stdout.splitlines() if answer.returncode == 0 else []
