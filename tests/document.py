"""The OpenAPI document as what answers are held against."""

import json
import re
from typing import Any, ClassVar

import httpx
import jsonschema


class Document:
    """What a service says of itself at /openapi.json: every service the same, and it takes a while."""

    root: ClassVar[dict[str, Any]] = {}

    def __init__(self, api: httpx.Client) -> None:
        if not self.root:
            self.root.update(api.get("/openapi.json").json())
        self._validators: dict[str, jsonschema.Draft202012Validator] = {}
        self.operations: dict[tuple[str, str], dict[str, Any]] = {
            (method.upper(), path): operation
            for path, methods in self.root["paths"].items()
            for method, operation in methods.items()
        }

    def hold(self, answer: httpx.Response) -> None:
        """Raise `AssertionError` where status, headers, content type or JSON are not as documented."""
        sent = f"{answer.request.method} {answer.request.url}: {answer.status_code}"
        documented = self._operation(answer)["responses"].get(str(answer.status_code))
        assert documented is not None, f"{sent} is not documented: {answer.text[:500]}"
        headers = {name.lower() for name in documented.get("headers", {})}
        assert headers <= answer.headers.keys(), f"{sent} has not all of {headers}"
        for name in ("location", "retry-after", "www-authenticate", "content-disposition"):
            assert name in headers or name not in answer.headers, f"{sent}: {name} is not documented"
        content = documented.get("content", {})
        if not content:
            assert answer.content == b"", f"{sent} is documented without a body"
            return
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, f"{sent}: {kind} is not one of {list(content)}"
        if kind.endswith("json"):
            self._validator(json.dumps(content[kind]["schema"])).validate(answer.json())

    def _validator(self, schema: str) -> jsonschema.Draft202012Validator:
        if schema not in self._validators:
            whole = {**json.loads(schema), "components": self.root["components"]}
            self._validators[schema] = jsonschema.Draft202012Validator(whole)
        return self._validators[schema]

    def _operation(self, answer: httpx.Response) -> dict[str, Any]:
        path = answer.request.url.path
        (found,) = (
            operation
            for (method, template), operation in self.operations.items()
            if method == answer.request.method and _pattern(template).fullmatch(path)
        )
        return found


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+?", re.escape(template)))
