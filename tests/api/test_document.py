"""The OpenAPI document against the service: every operation, as it should be asked and as it should not."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from tests.ci.events import gitlab_push, push, signed
from tests.ci.suites import SUITES, suite, with_secrets
from tests.conftest import serving
from tests.document import Document
from tests.measuring import claimed, finish
from tests.samples import found as kernel_found
from tests.samples import job, operators, result

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
JOBS = f"{PROJECT}/jobs"
OLD, NEW = "a1" * 20, "b2" * 20
DROP = {"rules": {"max_drop_db": 0.5}}
URL = "https://receiver.example/in"
NOBODY = "0" * 26
MEASURED = {"job": job(), "results": [result("0").model_dump(mode="json")]}
LAYERS = {"over": "layers", "below_db": 30, "job": job()}
# What is sent, by operation.
BODIES: dict[str, Any] = {
    "POST /v1/projects/{project}/jobs": job(),
    "POST /v1/projects/{project}/bisections": LAYERS,
    "POST /v1/projects/{project}/results": MEASURED,
    "PUT /v1/projects/{project}/settings": {"public_badge": False},
    "PUT /v1/projects/{project}/retention": {},
    "PUT /v1/projects/{project}/policies/{name}": DROP,
    "POST /v1/projects/{project}/policies/{name}/dry-run": {},
    "POST /v1/projects/{project}/baselines": {"kind": "accept", "sha": NEW, "reason": "known"},
    "POST /v1/projects/{project}/gates": {"sha": NEW},
    "PUT /v1/projects/{project}/suites/{name}": suite(),
    "PUT /v1/projects/{project}/webhooks/{name}": {"url": URL},
}
# Queries and ids in addresses that are of another thing than elsewhere.
QUERIES = {"GET /v1/projects/{project}/trends.svg": {"series": "series"}}
ELSEWHERE = {
    "POST /v1/projects/{project}/jobs/{job_id}/cancel": {"job_id": "queued"},
    "POST /v1/projects/{project}/jobs/{job_id}/retry": {"job_id": "failed"},
}


class Filled:
    """A service that has one of everything, and the ids of what it has."""

    def __init__(self, api: httpx.Client, engine: Engine) -> None:
        self.api, self.engine = api, engine
        api.put(f"{SUITES}/kept", json=suite())
        api.put(f"{PROJECT}/policies/kept", json=DROP)
        with writing(engine, "test") as session:
            unreachable = tables.Webhook(
                project="demo", name="kept", url="https://127.0.0.1:1/", secret="x", verdicts=[], enabled=True
            )
            session.add(unreachable)
        first = self.measured(OLD)
        done = self.measured(NEW, answer=lambda cell: result(cell, 20.0))
        self.measured(OLD, answer=kernel_found, **operators("quantized::linear"))
        failed = self.measured(
            OLD,
            answer=lambda cell: CellResult(cell=cell, status=CellStatus.FAILED, reason="x"),
            name="failed",
        )
        (cell,) = api.get(f"{JOBS}/{done}/cells").json()["items"]
        bisection = api.post(f"{PROJECT}/bisections", json=LAYERS).json()["id"]
        gate = api.post(f"{PROJECT}/gates", json={"sha": NEW}).json()["id"]
        self.ids = {
            "project": "demo",
            "name": "int8",
            "job_id": done,
            "failed": failed,
            "queued": api.post(JOBS, json=job(name="queued")).json()["id"],
            "cell_id": cell["id"],
            "key": cell["environment"],
            "series": cell["measurements"][0]["series"],
            "base": OLD,
            "head": NEW,
            "bisection_id": bisection,
            "gate_id": gate,
            "delivery_id": self.dead_letter(first),
        }

    def measured(self, sha: str, *, answer: Any = result, **changes: Any) -> str:
        posted = self.api.post(JOBS, json=job(**{"git": {"branch": "main", "sha": sha}, **changes}))
        with writing(self.engine, "test") as session:
            finish(session, claimed(session), answer)
        job_id: str = posted.json()["id"]
        return job_id

    def dead_letter(self, job_id: str) -> str:
        """What was to be told of the job, once the service's own threads have given it up."""
        dead: list[str] = []
        while not dead:
            found = self.api.get(f"{PROJECT}/deliveries", params={"status": "dead"}).json()["items"]
            dead = [one["id"] for one in found if one["announcement"]["job"] == job_id]
        return dead[0]

    def address(self, operation: str, **others: str) -> str:
        """The operation's path with ids in it."""
        named = {name: self.ids[of] for name, of in ELSEWHERE.get(operation, {}).items()}
        return operation.partition(" ")[2].format(**{**self.ids, **named, **others})

    def asked(self, operation: str) -> dict[str, Any]:
        """A request as it should be, for httpx."""
        if operation == "POST /v1/hooks/github":
            return signed("push", push(branch="master"))
        if operation == "POST /v1/hooks/gitlab":
            headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "token"}
            return {"json": gitlab_push(), "headers": headers}
        if operation == "POST /v1/projects/{project}/import":
            text = self.api.get(f"{PROJECT}/export", params={"format": "jsonl"}).content
            return {"content": text, "headers": {"Content-Type": "application/jsonl"}}
        query = {name: self.ids[of] for name, of in QUERIES.get(operation, {}).items()}
        body = {"json": BODIES[operation]} if operation in BODIES else {}
        return {**body, "params": query}


@pytest.fixture
def filled(engine: Engine, settings: Settings) -> Iterator[Filled]:
    """A service with a token and secrets for hooks."""
    guarded = with_secrets(
        settings, token="s3cret", github_token=None, gitlab_token=None, webhook_allow_private=False
    )
    with serving(guarded, engine) as api:
        api.headers["Authorization"] = "Bearer s3cret"
        yield Filled(api, engine)


def sample(schema: Mapping[str, Any], document: Document) -> Any:
    """A value of a parameter, as its schema describes it."""
    schema = next((one for one in schema.get("anyOf", ()) if one != {"type": "null"}), schema)
    if "$ref" in schema:
        schema = document.root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    if schema.get("type") == "boolean":
        return "true"
    if schema.get("type") in {"integer", "number"}:
        return schema["minimum"]
    return NOBODY if re.match(schema.get("pattern", ""), NOBODY) else "x"


def test_every_operation_answers_as_the_document_says(filled: Filled) -> None:
    document, api = Document(filled.api), filled.api
    for (method, path), described in document.operations.items():
        operation = f"{method} {path}"
        address, asked = filled.address(operation), filled.asked(operation)
        assert ("requestBody" in described) == (asked.keys() & {"json", "content"} != set()), operation

        times = 2 if method == "PUT" else 1  # new, and known already
        answers = [api.request(method, address, **asked) for _ in range(times)]
        assert all(answer.is_success for answer in answers), (operation, answers[0].text)

        if "{" in path:
            unknown = {name: NOBODY for name in filled.ids if name.endswith("_id")}
            nothing = {"key": "0" * 32, "base": "c" * 40, "name": "nothing"}
            answers += [
                api.request(method, filled.address(operation, **unknown, **nothing), **asked),
                api.request(method, filled.address(operation, project="No%20Name"), **asked),
            ]
        if method != "GET":
            answers.append(api.request(method, address, headers={"Origin": "https://evil.example"}))
        if "requestBody" in described:
            (kind, *_) = described["requestBody"]["content"]
            wrong = [(text, kind) for text in (b"", b"{", b'{"bogus": 1}', b"\xff", b" " * (2**20 + 1))]
            answers += [
                api.request(method, address, content=text, headers={"Content-Type": given})
                for text, given in (*wrong, (b"PAR1\xff", "application/vnd.apache.parquet"))
            ]
        for answer in answers:
            document.hold(answer)


def test_every_parameter_takes_what_the_document_says(filled: Filled) -> None:
    document, api = Document(filled.api), filled.api
    for (method, path), described in document.operations.items():
        operation = f"{method} {path}"
        address, asked = filled.address(operation), filled.asked(operation)
        if described.get("tags") not in (["health"], ["hooks"]):
            refused = api.request(method, address, **{**asked, "params": {"bogus": "1"}})
            assert refused.json()["errors"][0]["field"] == "query.bogus", operation
            document.hold(refused)
        for parameter in described.get("parameters", ()):
            name, schema = parameter["name"], parameter["schema"]
            if parameter["in"] == "query":
                right = {**asked["params"], name: sample(schema, document)}
                answer = api.request(method, address, **{**asked, "params": right})
                assert answer.status_code in {200, 404}, (operation, right, answer.text)
                document.hold(answer)
                refused = api.request(method, address, **{**asked, "params": {**right, name: "\x00"}})
                assert refused.status_code == 422, (operation, name)
                document.hold(refused)
            elif parameter["in"] == "header" and "pattern" in str(schema):
                headers = httpx.Headers(asked.get("headers"))
                headers[name] = "a key with blanks"
                refused = api.request(method, address, **{**asked, "headers": headers})
                assert refused.status_code in {401, 422}, (operation, name)
                document.hold(refused)


def test_an_address_says_which_methods_it_takes(filled: Filled) -> None:
    for path, methods in Document(filled.api).root["paths"].items():
        answer = filled.api.patch(filled.address(f"PATCH {path}"))
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].lower().split(", ")) == set(methods), path


def test_the_document_names_the_bearer_token(filled: Filled) -> None:
    document = Document(filled.api)
    assert document.root["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    is_open = {path for (_, path), described in document.operations.items() if not described["security"]}
    assert is_open == {"/healthz", "/readyz", "/v1/hooks/github", "/v1/hooks/gitlab"}
    filled.api.headers.pop("Authorization")
    for (method, path), described in document.operations.items():
        answer = filled.api.request(method, filled.address(f"{method} {path}"))
        assert (answer.status_code == 401) == ("401" in described["responses"]), (method, path)
        document.hold(answer)
