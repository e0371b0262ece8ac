"""The service, over HTTP, in the contract's words.

Long, since each address of the API that a client needs is one short method of the one class that users know.
"""

import json
import math
import time
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
from noisefloor.errors import InvalidRequestError, NoisefloorError, UnavailableError

TIMEOUT_S = 90.0
WAIT_S = 30.0
POLL_S = 0.2
PAGE = 200
PAUSES_S = (1.0, 4.0)

View = TypeVar("View", bound=Value)


class RefusedError(NoisefloorError):
    """The service refused the request."""

    code = "refused"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, problem.errors)
        self.status = problem.status
        self.code = problem.type.rpartition(":")[2]


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
        """The job once it is settled. Raises `UnavailableError` where it is not after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s if timeout_s is not None else math.inf
        while not (job := self.job(job_id, wait_s=_until(deadline_s))).status.settled:
            if time.monotonic() >= deadline_s:
                raise UnavailableError(f"job {job_id} is still {job.status} after {timeout_s:g} s")
            time.sleep(POLL_S)  # a service with too many who wait answers at once
        return job

    def progress(self, job_id: str) -> Iterator[dict[str, Any]]:
        """The job's events until it is settled: the fields of a JobView without its spec."""
        path = f"/v1/projects/{self.project}/jobs/{job_id}/events"
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise self._unavailable(error) from None

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
                    raise _refusal(response)
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
            raise _refusal(response)
        try:
            return response.json()
        except ValueError:
            raise UnavailableError(
                f"{response.url} answered something else than JSON: is it Noisefloor?"
            ) from None

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"no service answers at {self.url} ({error}); `noisefloor up` starts one")


def _until(deadline_s: float) -> float:
    return min(WAIT_S, max(0.0, deadline_s - time.monotonic()))


def _refusal(response: httpx.Response) -> NoisefloorError:
    try:
        return RefusedError(Problem.model_validate(response.json()))
    except ValueError:
        errors = [FieldError(field="(answer)", message=response.text[:200])]
        return UnavailableError(
            f"{response.url} answered {response.status_code}, not a Noisefloor problem", errors
        )
