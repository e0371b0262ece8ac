"""`noisefloor up` as its users start it."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
WAIT_S = 300


class LiveService:
    """A service with a local worker, in a process of its own."""

    def __init__(self, database: str, *arguments: str, verb: str = "up", **environment: str) -> None:
        self.database = database
        self._command = [
            sys.executable,
            "-m",
            "noisefloor.cli",
            verb,
            "--port",
            "0",
            "--database",
            database,
            *arguments,
        ]
        self._environment = environment
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "NOISEFLOOR_DRAIN_S": "0",  # no balancer has to see that it stops
                "PYTHONPATH": str(ROOT / "tests"),
                "NOISEFLOOR_IMPORT_ALLOW": "subjects_under_test",
                **self._environment,
            },
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"(http://\S+)", line):
                self.url = found[1]
                break
        else:
            raise RuntimeError("".join(self.log))
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        self.http = httpx.Client(base_url=self.url, timeout=WAIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def submit(self, job: str | dict[str, Any], project: str = "default") -> dict[str, Any]:
        """Post a job: a file's path or the document itself."""
        document = yaml.safe_load(Path(job).read_text()) if isinstance(job, str) else job
        answer = self.http.post(f"/v1/projects/{project}/jobs", json=document)
        assert answer.status_code == 202, answer.text
        posted: dict[str, Any] = answer.json()
        return posted

    def wait(self, job_id: str, project: str = "default") -> dict[str, Any]:
        """The job, once it is settled."""
        while True:
            job: dict[str, Any] = self.http.get(
                f"/v1/projects/{project}/jobs/{job_id}", params={"wait": 30}
            ).json()
            if job["status"] in {"done", "cancelled"}:
                return job

    def cells(self, job_id: str, project: str = "default") -> list[dict[str, Any]]:
        """All cells of a job."""
        answer = self.http.get(f"/v1/projects/{project}/jobs/{job_id}/cells", params={"limit": 500})
        found: list[dict[str, Any]] = answer.json()["items"]
        return found
