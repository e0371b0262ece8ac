"""Whether a cell was measured from the files of the commit that its job names. Pure."""

from noisefloor.contract.base import Value
from noisefloor.contract.files import Files
from noisefloor.contract.job import Git
from noisefloor.contract.subject import Subject

SHORT = 12
UNSAID = "whoever measured them does not say"


class Doubt(Value):
    """Why a result may not be the commit's; `certain` where it is another one's."""

    message: str
    certain: bool = False


def doubt(git: Git, subject: Subject, files: Files | None) -> Doubt | None:
    """What speaks against the files that a cell was measured from; None where nothing does.

    A job without a commit leaves nothing to doubt, nor does a subject that no commit can change where nobody
    says anything of files. That files were changed is not said again where the job says it.

    >>> from noisefloor.contract.subject import Subject
    >>> net = Subject.model_validate({"import": "net:build", "data": {
    ...     "calibration": {"shape": [1]}, "evaluation": {"shape": [1]}}})
    >>> doubt(Git(sha="a" * 40), net, Files(commit="b" * 40)).certain
    True
    >>> doubt(Git(sha="a" * 40), net, Files(commit="a" * 40))
    """
    if git.sha is None or (files is None and not subject.is_of_a_commit):
        return None
    if files is None or files.commit is None or files.reason is not None:
        reason = files.reason if files is not None and files.reason is not None else UNSAID
        return Doubt(
            message=f"it is not known whether the files were those of commit {git.sha[:SHORT]}: {reason}"
        )
    if not any(same(files.commit, sha) for sha in (git.sha, git.merge) if sha is not None):
        message = (
            f"measured from files of {files.commit[:SHORT]}, not of the job's {git.sha[:SHORT]}: check "
            "that commit out, or start the worker with --checkout"
        )
        return Doubt(message=message, certain=True)
    if files.dirty and not git.dirty:
        return Doubt(message=f"the files differed from commit {files.commit[:SHORT]}")
    return None


def same(one: str, other: str) -> bool:
    """Whether two shas are of one commit, where either may be cut short.

    >>> same("a04143084ab1", "a041430"), same("a04143084ab1", "3f2a1b2")
    (True, False)
    """
    return one.startswith(other) or other.startswith(one)
