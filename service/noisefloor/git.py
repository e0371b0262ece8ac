"""Git asked for facts: it writes and fetches nothing, asks nobody, and starts no hook and no file monitor.

The filters of a repository's own configuration are run: without them files that are kept by one (LFS) would
seem changed. Git itself refuses the configuration of a repository that belongs to another user.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

QUIET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",  # git before 2.44 knows nothing of the line above
}
SETTINGS = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
# Renames are looked for in the files' contents, which a partial clone would have to fetch.
CHANGED = ("status", "--porcelain", "--untracked-files=no", "--no-renames")


def git(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] = os.environ,
    limit_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """What git answers in a folder, also where it refuses.

    Raises `OSError` where it cannot be run, `subprocess.TimeoutExpired` after `limit_s` seconds.
    """
    return subprocess.run(  # noqa: S603 - no argument is an option that comes from outside
        ["git", *SETTINGS, *arguments],  # noqa: S607 - the user's git
        cwd=folder,
        env={**environment, **QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=limit_s,
    )


def repository(url: str) -> str | None:
    """The repository of a remote as a host writes it; None for a folder. No user and no password is kept.

    >>> repository("https://ci:secret@gitlab.com/group/sub/repo.git")
    'group/sub/repo'
    >>> repository("git@github.com:org/repo.git")
    'org/repo'
    """
    remote = re.fullmatch(
        r"(?:(?:https?|ssh|git)://[^/]+/|(?:[^@/]+@)?[^:/]{2,}:(?!//))/*(.+?)(?:\.git)?/*", url
    )
    return remote[1] if remote else None
