"""Real git repositories that tests make."""

import os
import subprocess
from pathlib import Path

WHO = {"NAME": "Test", "EMAIL": "test@example.org"}


class Repository:
    """A repository in a folder of its own, with commits a minute apart."""

    def __init__(self, folder: Path, *, branch: str = "main") -> None:
        self.folder = folder
        self._minute = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", f"--initial-branch={branch}")

    def git(self, *arguments: str, given: str = "") -> str:
        """What git answers."""
        when = f"2026-01-01T00:{self._minute:02}:00+00:00"
        return run(self.folder, *arguments, given=given, when=when)

    def commit(self, name: str = "file") -> str:
        """A new commit on what is checked out: its sha."""
        self._minute += 1
        with (self.folder / name).open("a") as file:
            file.write(f"# {self._minute}\n")
        self.git("add", name)
        self.git("commit", "--quiet", "--message", f"{name} {self._minute}")
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def clone(self, folder: Path, *options: str) -> Path:
        """A clone over a protocol that keeps to `--depth`."""
        run(self.folder, "clone", "--quiet", *options, f"file://{self.folder}", str(folder))
        return folder


def run(folder: Path, *arguments: str, given: str = "", when: str = "2026-01-01T00:00:00+00:00") -> str:
    """Git in a folder, with nobody's configuration."""
    people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in WHO.items()}
    dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    answer = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, **people, **dates},
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.strip()
