"""GitHub, GitLab and receivers of webhooks, played on loopback: real HTTP, answers as they are published.

Each request to a provider is held against the published description of its API, and so is each answer.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import jsonschema

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Got:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class StandIn:
    """A server on loopback that remembers what it got."""

    def __init__(self, answer: Callable[[Got], Said] = lambda _got: Said()) -> None:
        self.got: list[Got] = []
        self.answer = answer
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                got = Got(
                    method=self.command,
                    path=parts.path,
                    query=parse_qs(parts.query),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=body,
                )
                stand_in.got.append(got)
                said = stand_in.answer(got)
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)

            do_GET = do_POST = do_PATCH = _handle  # noqa: N815 - http.server calls them so

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Provider(StandIn):
    """An API as it is described: a request that does not fit it fails the test."""

    def __init__(self, description: str, prefix: str = "") -> None:
        self.operations = json.loads((HERE / description).read_text())["operations"]
        self.prefix = prefix
        self.faults: list[Said] = []
        self.read_faults: list[Said] = []
        self.misfits: list[str] = []
        super().__init__(self._answer)

    @property
    def api(self) -> str:
        return self.url + self.prefix

    def sent(self, operation: str) -> list[Any]:
        """The bodies of an operation's requests, in order."""
        pattern = self._pattern(operation)
        method = self.operations[operation]["method"]
        return [g.json for g in self.got if g.method == method and pattern.fullmatch(g.path)]

    def example(self, operation: str, got: Got) -> Any:
        """What the operation answers; providers fill in what they keep."""
        del got
        return self.operations[operation]["example"]

    def _answer(self, got: Got) -> Said:
        if faults := self.read_faults if got.method == "GET" else self.faults:
            return faults.pop(0)
        for name, operation in self.operations.items():
            if got.method == operation["method"] and self._pattern(name).fullmatch(got.path):
                self._check(name, operation, got)
                answer = self.example(name, got)
                if (schema := operation.get("response")) is not None:
                    jsonschema.Draft7Validator(nullable(schema)).validate(answer)
                return Said(status=operation["status"], body=json.dumps(answer).encode())
        self.misfits.append(f"{got.method} {got.path} is not described")
        return Said(status=404, body=b'{"message": "Not Found"}')

    def _check(self, name: str, operation: dict[str, Any], got: Got) -> None:
        unknown = set(got.query) - set(operation.get("parameters", []))
        if operation["request"] is not None and got.body:
            schema = nullable(operation["request"])
            errors = jsonschema.Draft7Validator(schema).iter_errors(got.json)
            self.misfits += [f"{name}: {error.message}" for error in errors]
            unknown |= set(got.json) - set(operation["request"]["properties"])
        self.misfits += [f"{name}: unknown {key}" for key in unknown]

    def _pattern(self, operation: str) -> re.Pattern[str]:
        path: str = self.operations[operation]["path"]
        return re.compile(re.escape(self.prefix) + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


class GitHub(Provider):
    """api.github.com, as far as this service asks it."""

    def __init__(self) -> None:
        super().__init__("github_openapi.json")
        self.statuses: dict[tuple[str, str], str] = {}
        self.runs: dict[int, dict[str, Any]] = {}

    def example(self, operation: str, got: Got) -> Any:
        example = super().example(operation, got)
        if operation == "list_commits":
            (commit,), head = example, got.query["sha"][0]
            return [
                {
                    **commit,
                    "sha": f"{int(head, 16) - n:040x}",
                    "parents": [{**commit["parents"][0], "sha": f"{p:040x}"}],
                }
                for n in range(3)
                for p in [int(head, 16) - n - 1]
            ]
        if operation == "create_status":
            sha = got.path.rpartition("/")[2]
            self.statuses[sha, got.json["context"]] = got.json["state"]
            return {**example, **got.json}
        if operation in {"create_check_run", "update_check_run"}:
            number = (
                len(self.runs) + 1 if operation == "create_check_run" else int(got.path.rpartition("/")[2])
            )
            self.runs[number] = {**self.runs.get(number, {}), **got.json}
            return {**example, "id": number, "external_id": got.json["external_id"]}
        if operation == "create_installation_token":
            return {**example, "token": "ghs_installation", "expires_at": "2199-01-01T00:00:00Z"}
        return example


class GitLab(Provider):
    """gitlab.com/api/v4, as far as this service asks it."""

    def __init__(self) -> None:
        super().__init__("gitlab_api.json", prefix="/api/v4")
        self.statuses: dict[tuple[str, str], str] = {}

    def example(self, operation: str, got: Got) -> Any:
        example = super().example(operation, got)
        if operation == "create_status":
            sha = unquote(got.path).rpartition("/")[2]
            self.statuses[sha, got.json["name"]] = got.json["state"]
            return {**example, "sha": sha, "status": got.json["state"], "name": got.json["name"]}
        head = int(got.query["ref_name"][0], 16)
        return [{"id": f"{head - n:040x}", "parent_ids": [f"{head - n - 1:040x}"]} for n in range(4)]


def nullable(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in JSON Schema's words."""
    if isinstance(schema, list):
        return [nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    said = {name: nullable(part) for name, part in schema.items() if name != "nullable"}
    return {"anyOf": [said, {"type": "null"}]} if schema.get("nullable") is True else said
