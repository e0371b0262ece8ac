"""Who posts jobs to a service that is killed all the time: a connection that fails is no answer."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
from tests.samples import job
from tests.soak.plain import ENGINES

PROJECT = "soak"
JOBS = f"/v1/projects/{PROJECT}/jobs"
RETRY_S = 0.05
TIMEOUT_S = 60.0
SERVER_ERROR, UNAVAILABLE, ACCEPTED, CONFLICT = 500, 503, 202, 409


def document(number: int, **subject: Any) -> dict[str, Any]:
    """A job of one to eight cells in one or two shards; no two are alike."""
    source = random.Random(number)
    engines = source.sample(ENGINES, source.randint(1, len(ENGINES)))
    made = job(name=key(number), lanes={"engine": engines, "threads": source.choice([[1], [1, 2]])})
    made["subjects"] = [{**made["subjects"][0], "seeds": {"evaluation": number}, **subject}]
    return made


def key(number: int) -> str:
    """The Idempotency-Key of a job, which is its name too: two jobs of one key are found by it."""
    return f"job-{number}"


def cells_of(posted: dict[str, Any]) -> int:
    """How many cells a job has."""
    lanes = posted["lanes"]
    return len(lanes["engine"]) * len(lanes["threads"])


class User:
    """Asks whichever service answers, until one does. An answer that no service may give is a fault."""

    def __init__(self, urls: Sequence[str], *, sends_key: bool = True) -> None:
        self._clients = [httpx.Client(base_url=url, timeout=TIMEOUT_S) for url in urls]
        self._sends_key = sends_key
        self._lock = threading.Lock()
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stopping = threading.Event()

    def close(self) -> None:
        """Let go of all connections."""
        for client in self._clients:
            client.close()

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """An answer, after as many attempts as it takes; 503 is none."""
        for attempt in itertools.count():
            client = self._clients[(attempt + threading.get_ident()) % len(self._clients)]
            try:
                answer = client.request(method, path, **given)
            except httpx.TransportError:
                self._count("connections lost")
            else:
                if answer.status_code < SERVER_ERROR:
                    self._count("requests answered")
                    return answer
                self._count(f"answered {answer.status_code}")
                if answer.status_code != UNAVAILABLE:
                    self._blame(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
            if self.stopping.wait(RETRY_S):
                break
        raise StoppedError

    def post(self, number: int, **subject: Any) -> None:
        """Post a job until it is acknowledged."""
        posted = document(number, **subject)
        headers = {"Idempotency-Key": key(number)} if self._sends_key else {}
        answer = self.ask("POST", JOBS, json=posted, headers=headers)
        if answer.status_code != ACCEPTED:
            self._blame(f"a job was answered {answer.status_code}: {answer.text[:500]}")
            return
        with self._lock:
            self.acknowledged[answer.json()["id"]] = posted

    def retry(self, job_id: str) -> None:
        """Have the cells of a job measured again that were lost with three workers."""
        answer = self.ask("POST", f"{JOBS}/{job_id}/retry")
        if answer.status_code not in {ACCEPTED, CONFLICT}:  # a conflict: an earlier attempt was heard
            self._blame(f"a retry was answered {answer.status_code}: {answer.text[:500]}")

    def look_around(self) -> None:
        """Read what is there, until the end: pages, lists and cells."""
        while not self.stopping.wait(RETRY_S):
            with self._lock:
                job_id = random.choice([*self.acknowledged, None])
            paths = [f"{JOBS}?limit=20", "/v1/workers", f"/projects/{PROJECT}", "/readyz"]
            paths += [f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/cells"] if job_id else []
            path = random.choice(paths)
            try:
                answer = self.ask("GET", path)
            except StoppedError:
                return
            if answer.status_code != httpx.codes.OK and not (path == f"/projects/{PROJECT}" and not job_id):
                self._blame(f"GET {path}: {answer.status_code} {answer.text[:500]}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _blame(self, what: str) -> None:
        with self._lock:
            self.faults.append(what)


class StoppedError(Exception):
    """The user went away before there was an answer."""


class Posting:
    """Threads that post jobs until their cells are as many as asked for, never far ahead of the workers."""

    def __init__(self, user: User, *, cells: int, window: int, threads: int = 3, **subject: Any) -> None:
        self._user, self._cells, self._window, self._subject = user, cells, window, subject
        self._lock = threading.Lock()
        self.jobs = self.posted = 0
        self.waiting = 0  # cells that have not ended, as last seen
        self._threads = [threading.Thread(target=self._post, name=f"user-{n}") for n in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Whether all was posted."""
        return not any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Post no more, and wait for the last."""
        self._cells = 0
        for thread in self._threads:
            thread.join()

    def _post(self) -> None:
        while not self._user.stopping.is_set():
            with self._lock:
                if self.posted >= self._cells:
                    return
                room = self.waiting < self._window
                if room:
                    number, self.jobs = self.jobs, self.jobs + 1
                    count = cells_of(document(number))
                    self.posted, self.waiting = self.posted + count, self.waiting + count
            if room:
                try:
                    self._user.post(number, **self._subject)
                except StoppedError:
                    return
            else:
                time.sleep(RETRY_S)
