"""The service, over HTTP, in the contract's words.

Long, since each address of the API that a client needs is one short method of the one class that users know.
"""

import math
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from noisefloor.contract.attribution import AttributionView
from noisefloor.contract.base import Value
from noisefloor.contract.bisection import BisectionSpec, BisectionView
from noisefloor.contract.comparison import Comparison, Delta
from noisefloor.contract.gate import (
    BaselineRequest,
    BaselineView,
    DryRunRequest,
    DryRunView,
    GateRequest,
    GateView,
    PolicyView,
)
from noisefloor.contract.job import JobSpec, JobStatus
from noisefloor.contract.layers import LayerView
from noisefloor.contract.policy import Policy
from noisefloor.contract.record import Imported
from noisefloor.contract.resources import (
    CellView,
    EnvironmentView,
    FieldError,
    JobView,
    Page,
    Problem,
    SeriesView,
)
from noisefloor.contract.results import MeasuredJob
from noisefloor.contract.suite import Suite, SuiteView
from noisefloor.contract.trend import Trend
from noisefloor.errors import InvalidRequestError, NoisefloorError, NotSettledError, UnavailableError

TIMEOUT_S = 90.0
PAGE = 200
PAUSES_S = (1.0, 4.0)

KEEP_ALIVE_S = 10.0  # a stream in which nothing changes has a line after so long
SILENCE_S = 30.0
PATIENCE_S = 60.0
PAUSE_S = 0.5
POLL_S = 2.0
LONGEST_PAUSE_S = 8.0

View = TypeVar("View", bound=Value)


class RefusedError(NoisefloorError):
    """The service refused the request."""

    code = "refused"

    def __init__(self, problem: Problem, *, after_s: float | None = None) -> None:
        super().__init__(problem.detail, problem.errors)
        self.status = problem.status
        self.code = problem.type.rpartition(":")[2]
        self.after_s = after_s


class Client:
    """One project of one service.

    Raises `RefusedError` with the service's problem, and `UnavailableError` where no service answers.
    """

    def __init__(self, url: str, *, project: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InvalidRequestError(
                f"{url!r} is no address of a service: it begins with http:// or https://"
            )
        self.project = project
        self._reached = False
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidRequestError(f"the address or the token cannot be sent: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, spec: JobSpec, *, idempotency_key: str | None = None) -> JobView:
        """Post a job."""
        return JobView.model_validate(self._post("/jobs", spec, idempotency_key))

    def push(self, measured: MeasuredJob, *, idempotency_key: str) -> JobView:
        """Hand over a job with its results, measured elsewhere: the settled job, judged by the service.

        Where the service does not answer it is asked again, for the key makes it one job.
        """
        body = measured.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        headers = {"Idempotency-Key": idempotency_key}
        for pause_s in PAUSES_S:
            try:
                return JobView.model_validate(self._ask("POST", "/results", json=body, headers=headers))
            except NoisefloorError as error:
                if error.status != UnavailableError.status:
                    raise
                time.sleep(pause_s)
        return JobView.model_validate(self._ask("POST", "/results", json=body, headers=headers))

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        branch: str | None = None,
        counts: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[JobView]:
        """Jobs without their specs, newest first, at most `limit` of them.

        `counts`: without those that explain another or are a bisection's step, or only those.
        """
        given = {"status": status, "branch": branch, "counts": counts, "limit": min(limit or PAGE, PAGE)}
        params = {name: value for name, value in given.items() if value is not None}
        return islice(self._pages("/jobs", params, JobView), limit)

    def job(self, job_id: str, *, wait_s: float = 0) -> JobView:
        """One job; waits until it is settled, at most `wait_s`."""
        return JobView.model_validate(self._ask("GET", f"/jobs/{job_id}", params={"wait": wait_s}))

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> JobView:
        """The job once it is settled. Raises `NotSettledError` as `follow` does."""
        return deque(self.follow(job_id, timeout_s=timeout_s), maxlen=1).pop()

    def follow(self, job_id: str, *, timeout_s: float | None = None) -> Iterator[JobView]:
        """The job as it changes, without its spec, until it is settled: that one is whole.

        Past a service that restarts, and, where no more may stream, by asking now and then. Raises
        `NotSettledError` where the job is not settled after `timeout_s`, and where the service, once reached,
        says nothing of it for a minute.
        """
        wait = _Wait(job_id, timeout_s)
        while True:
            try:
                for view in self._news(wait):
                    wait.heard(view)
                    yield view
                    if view.status.settled:
                        return
            except NoisefloorError as error:
                if error.status != UnavailableError.status or not self._reached:
                    raise
                wait.lost(error)
            wait.pause()

    def cells(self, job_id: str) -> tuple[CellView, ...]:
        """All cells of a job."""
        return tuple(self._pages(f"/jobs/{job_id}/cells", {"limit": PAGE}, CellView))

    def layers(self, job_id: str, cell_id: str) -> LayerView:
        """Where in the model a cell's error comes from."""
        return LayerView.model_validate(self._ask("GET", f"/jobs/{job_id}/cells/{cell_id}/layers"))

    def attribution(self, job_id: str) -> tuple[AttributionView, ...]:
        """What a job's losses are put down to: the code, or the environment."""
        found = self._ask("GET", f"/jobs/{job_id}/attribution")
        return tuple(AttributionView.model_validate(one) for one in found)

    def environment(self, key: str) -> EnvironmentView:
        """What a cell was measured under, by the key that the cell gives."""
        return EnvironmentView.model_validate(self._request("GET", f"/v1/environments/{key}"))

    def series(self, filters: Mapping[str, Any]) -> tuple[SeriesView, ...]:
        """The series that the filters find, by what identifies them."""
        return tuple(self._pages("/series", filters, SeriesView))

    def trends(self, filters: Mapping[str, Any]) -> tuple[Trend, ...]:
        """The lines that the filters find."""
        return tuple(self._pages("/trends", filters, Trend))

    def compare(self, base: str, head: str, filters: Mapping[str, Any]) -> Comparison:
        """Two commits, with all the series that both have."""
        found: list[Delta] = []
        params = {"limit": PAGE, **filters}
        while True:
            answer = self._ask("GET", f"/compare/{base}...{head}", params=params)
            page = Comparison.model_validate(answer)
            found += page.items
            if page.next_cursor is None:
                return page.replace(items=tuple(found))
            params["cursor"] = page.next_cursor

    def export(self, params: Mapping[str, Any]) -> Iterator[bytes]:
        """The project's measurements in pieces, as `format` says."""
        try:
            with self._http.stream("GET", f"/v1/projects/{self.project}/export", params=params) as response:
                if response.is_error:
                    response.read()
                    raise self._refused(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unavailable(error) from None

    def import_rows(self, text: str, media_type: str) -> Imported:
        """Keep rows of an export."""
        headers = {"Content-Type": media_type}
        return Imported.model_validate(self._ask("POST", "/import", content=text.encode(), headers=headers))

    def cancel(self, job_id: str) -> JobView:
        """Cancel a job."""
        return JobView.model_validate(self._ask("POST", f"/jobs/{job_id}/cancel"))

    def retry(self, job_id: str) -> JobView:
        """Measure again what failed."""
        return JobView.model_validate(self._ask("POST", f"/jobs/{job_id}/retry"))

    def bisect(self, asked: BisectionSpec, *, idempotency_key: str | None = None) -> BisectionView:
        """Ask for what loses a figure: the service measures step after step."""
        return BisectionView.model_validate(self._post("/bisections", asked, idempotency_key))

    def bisection(self, bisection_id: str, *, wait_s: float = 0) -> BisectionView:
        """One bisection; waits until it has ended, at most `wait_s`."""
        found = self._ask("GET", f"/bisections/{bisection_id}", params={"wait": wait_s})
        return BisectionView.model_validate(found)

    def bisections(self) -> Iterator[BisectionView]:
        """All bisections, newest first."""
        return self._pages("/bisections", {"limit": PAGE}, BisectionView)

    def cancel_bisection(self, bisection_id: str) -> BisectionView:
        """End a bisection, and the steps that are being measured."""
        return BisectionView.model_validate(self._ask("POST", f"/bisections/{bisection_id}/cancel"))

    def put_policy(self, name: str, policy: Policy) -> PolicyView:
        """Keep a policy under a name."""
        body = policy.model_dump(mode="json", exclude_defaults=True)
        return PolicyView.model_validate(self._ask("PUT", f"/policies/{name}", json=body))

    def policy(self, name: str, *, version: int | None = None) -> PolicyView:
        """One policy: the latest version, or another."""
        params = {"version": version} if version is not None else {}
        return PolicyView.model_validate(self._ask("GET", f"/policies/{name}", params=params))

    def policies(self) -> tuple[PolicyView, ...]:
        """The latest version of each policy."""
        return tuple(self._pages("/policies", {"limit": PAGE}, PolicyView))

    def dry_run(self, name: str, asked: DryRunRequest) -> DryRunView:
        """What a policy would have said of past jobs."""
        return DryRunView.model_validate(self._post(f"/policies/{name}/dry-run", asked))

    def put_suite(self, name: str, suite: Suite) -> SuiteView:
        """Keep a suite under a name."""
        body = suite.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return SuiteView.model_validate(self._ask("PUT", f"/suites/{name}", json=body))

    def mark(self, asked: BaselineRequest) -> BaselineView:
        """Accept a regression, or pin a result."""
        return BaselineView.model_validate(self._post("/baselines", asked))

    def baselines(self) -> tuple[BaselineView, ...]:
        """What was accepted or pinned, newest first."""
        return tuple(self._pages("/baselines", {"limit": PAGE}, BaselineView))

    def open_gate(self, asked: GateRequest) -> GateView:
        """Ask whether a commit may pass."""
        return GateView.model_validate(self._post("/gates", asked))

    def gate(self, gate_id: str, *, wait_s: float = 0) -> GateView:
        """The answer of a gate; waits while it is pending, at most `wait_s`."""
        return GateView.model_validate(self._ask("GET", f"/gates/{gate_id}", params={"wait": wait_s}))

    def _news(self, wait: "_Wait") -> Iterator[JobView]:
        """What is told of a job: by its stream, or by an answer where there is no time or no room for one."""
        if wait.left_s > KEEP_ALIVE_S:
            try:
                for view in self._events(wait):
                    if view.status.settled:
                        break
                    yield view
                else:
                    return
            except RefusedError as error:
                if error.status != UnavailableError.status:
                    raise
                wait.after_s = error.after_s
        if wait.after_s is None:
            wait.after_s = POLL_S
        yield JobView.model_validate(self._ask("GET", f"/jobs/{wait.job_id}", timeout=wait.silence_s))

    def _events(self, wait: "_Wait") -> Iterator[JobView]:
        """The job's stream, until it ends or its next line might come too late."""
        path = f"/v1/projects/{self.project}/jobs/{wait.job_id}/events"
        told = False
        try:
            with self._http.stream("GET", path, timeout=wait.silence_s) as response:
                if response.is_error:
                    response.read()
                    raise self._refused(response)
                for line in _lines(response.iter_bytes()):
                    if line.startswith(b"data: "):
                        view = JobView.model_validate_json(line.removeprefix(b"data: "))
                        self._reached = told = True
                        yield view
                    if wait.left_s <= KEEP_ALIVE_S:
                        return
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(error) from None
        if not told:
            raise UnavailableError(f"{response.url} answered something else than events: is it Noisefloor?")

    def _pages(self, path: str, params: Mapping[str, Any], view: type[View]) -> Iterator[View]:
        cursor: str | None = None
        while True:
            found = self._ask("GET", path, params={**params, **({"cursor": cursor} if cursor else {})})
            page = Page[view].model_validate(found)  # type: ignore[valid-type]  # the item's class is a value here
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _post(self, path: str, value: Value, idempotency_key: str | None = None) -> Any:
        body = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._ask("POST", path, json=body, headers=headers)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        return self._request(method, f"/v1/projects/{self.project}{path}", **options)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unavailable(error) from None
        if response.is_error:
            raise self._refused(response)
        try:
            answer = response.json()
        except ValueError:
            raise UnavailableError(
                f"{response.url} answered something else than JSON: is it Noisefloor?"
            ) from None
        self._reached = True
        return answer

    def _refused(self, response: httpx.Response) -> NoisefloorError:
        error = _refusal(response)
        self._reached |= isinstance(error, RefusedError)
        return error

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"no service answers at {self.url} ({error}); `noisefloor up` starts one")


class _Wait:
    """How long a job is waited for, and what is heard of it; and the pauses between two questions."""

    def __init__(self, job_id: str, timeout_s: float | None) -> None:
        self.job_id = job_id
        self.after_s: float | None = None  # what the next pause is to be
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._ends_s = time.monotonic() + self._timeout_s
        self._stands, self._waits = "not settled", ""
        self._lost: NoisefloorError | None = None
        self._lost_s = 0.0
        self._tries = 0

    @property
    def left_s(self) -> float:
        return self._ends_s - time.monotonic()

    @property
    def silence_s(self) -> float:
        """How long nothing need be heard before the connection is given up."""
        return max(KEEP_ALIVE_S, min(SILENCE_S, self.left_s))

    def heard(self, view: JobView) -> None:
        self._stands = f"still {view.status}"
        self._waits = f", waiting for {view.progress.waiting_for}" if view.progress.waiting_for else ""
        self._lost, self._tries = None, 0

    def lost(self, error: NoisefloorError) -> None:
        if self._lost is None:
            self._lost_s = time.monotonic()
        self._lost = error
        if isinstance(error, RefusedError):
            self.after_s = error.after_s

    def pause(self) -> None:
        """Sleep before the next question, or raise where there is none."""
        cause = f": {self._lost.detail}" if self._lost is not None else ""
        if self.left_s <= 0:
            raise NotSettledError(
                f"job {self.job_id} is {self._stands} after {self._timeout_s:g} s{self._waits}{cause}"
            )
        if self._lost is not None and time.monotonic() - self._lost_s >= PATIENCE_S:
            raise NotSettledError(f"nothing was heard of job {self.job_id} for {PATIENCE_S:g} s{cause}")
        if self.after_s is None:
            after_s = min(PAUSE_S * 2**self._tries, LONGEST_PAUSE_S)
        else:
            after_s = max(PAUSE_S, min(self.after_s, SILENCE_S))
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - so that not all ask again at once
        time.sleep(max(0.0, min(after_s * jitter, self.left_s)))
        self.after_s, self._tries = None, self._tries + 1


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines: what a connection broke off in the middle is none."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _refusal(response: httpx.Response) -> NoisefloorError:
    after = response.headers.get("Retry-After", "")
    try:
        problem = Problem.model_validate(response.json())
    except ValueError:
        errors = [FieldError(field="(answer)", message=response.text[:200])]
        return UnavailableError(
            f"{response.url} answered {response.status_code}, not a Noisefloor problem", errors
        )
    return RefusedError(problem, after_s=float(after) if after.isdecimal() else None)
