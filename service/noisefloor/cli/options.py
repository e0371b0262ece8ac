"""Options that several verbs share."""

import json
import os
import re
import uuid
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape

from noisefloor import failpoints
from noisefloor.client import Client
from noisefloor.client.checkout import at_commit, checkout, commit_of
from noisefloor.contract.base import Name, Value
from noisefloor.contract.job import JobSpec
from noisefloor.errors import InvalidRequestError, MissingExtraError, SettingsError
from noisefloor.problems import invalid_request
from noisefloor.settings import DEFAULT_PORT, Settings

DEFAULT_PROJECT = "default"
YAML_BOOL = "tag:yaml.org,2002:bool"

Read = TypeVar("Read", bound=Value)


class Format(StrEnum):
    """How results are printed."""

    HUMAN = "human"
    JSON = "json"


class _RepeatedKeyError(ValueError):
    """A key stands twice in one mapping: what one of them says would be lost."""


class _Yaml(yaml.SafeLoader):
    """YAML with the booleans of 1.2, true and false: `on`, a policy's key, is a word. No key stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML's own
        first: [(tag, pattern) for tag, pattern in resolvers if tag != YAML_BOOL or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As usual. What `<<` brings is not in it yet, so a mapping may say that anew."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (first := lines.get((key.tag, key.value))) is not None:
                raise _RepeatedKeyError(
                    f"the key {key.value!r} stands twice, in line {first} and in line {line}"
                )
            lines[key.tag, key.value] = line
        return node


# 1e-3 and 1.5e3 are numbers too, as in YAML 1.2; 12345e67 stays a text: it may be a commit.
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+[eE][-+]|(\d+\.\d*|\.\d+)[eE][-+]?)\d+$"),
    list("-+.0123456789"),
)

Url = Annotated[str, typer.Option(envvar="NOISEFLOOR_URL", help="Address of the service.")]
Project = Annotated[str, typer.Option(envvar="NOISEFLOOR_PROJECT", help="Project on the service.")]
Token = Annotated[str | None, typer.Option(envvar="NOISEFLOOR_TOKEN", help="Bearer token.", show_envvar=True)]
FormatOption = Annotated[Format, typer.Option("--format", help="human or json")]
JobFile = Annotated[str, typer.Argument(help="Job file, YAML or JSON; - reads standard input.")]
OfCheckout = Annotated[
    bool, typer.Option("--git/--no-git", help="Report the commit of the checkout around this folder.")
]
JobId = Annotated[str, typer.Argument(help="A job's id.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0, metavar="SECONDS", help="Wait no longer: exit with 2, and leave the job to run."
    ),
]

JOB_ID = re.compile("[0-9a-f]{26,32}")
SHA = re.compile("[0-9a-f]{7,64}")
NAME: TypeAdapter[str] = TypeAdapter(Name)

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"


def client(url: str, project: str, token: str | None) -> Client:
    """The service that the options name."""
    return Client(url, project=project, token=token)


def job_of(service: Client, name: str, *, beside: str = "") -> str:
    """A job's id as it was given. Of what is none, raises the error that says where jobs are listed."""
    if JOB_ID.fullmatch(name) is None:
        jobs = f"{service.url}/projects/{service.project}"
        raise InvalidRequestError(f"{name!r} is no job id{beside}; {jobs} lists the jobs")
    return name


def sha_of(name: str, *, beside: str = "") -> str:
    """A commit's sha as it was given, or that of the commit that the checkout around this folder so names."""
    if SHA.fullmatch(name) is not None:
        return name
    sha = commit_of(Path.cwd(), name)
    if sha is None:
        raise InvalidRequestError(f"{name!r} is {beside}no commit sha, and no name in this checkout")
    return sha


def name_of(name: str) -> str:
    """What the service is to call something, or the error that says what it may be called."""
    try:
        return NAME.validate_python(name)
    except ValidationError:
        raise InvalidRequestError(
            f"{name!r} is no name: give a-z, 0-9, '.', '_' and '-', at most 63, the first a letter or a digit"
        ) from None


def new_key() -> str:
    """An Idempotency-Key: a submission repeated by the transport is one job."""
    return uuid.uuid4().hex


def settings(**given: Any) -> Settings:
    """Settings from the environment, overridden by what the command line gives."""
    try:
        found = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(invalid_request(error.errors()).detail) from None
    failpoints.arm(found.failpoints)
    return found


def require_torch() -> None:
    """Refuse a verb that measures where there is nothing to measure with."""
    try:
        missing = find_spec("torch") is None
    except ImportError:
        missing = True
    if missing:
        raise MissingExtraError("measuring needs torch: pip install 'noisefloor[worker]'")


def read_job(path: str) -> JobSpec:
    """The job of a file, or the error that names each refused field."""
    return read(path, JobSpec)


def read(path: str, kind: type[Read]) -> Read:
    """A value of the contract from a file of YAML or JSON, or the error that names each refused field."""
    try:
        return kind.model_validate(read_document(path))
    except ValidationError as error:
        raise invalid_request(error.errors()) from None


def read_document(path: str) -> Any:
    """What a file of YAML or JSON says; - is standard input."""
    name = "standard input" if path == "-" else path
    try:
        text = (
            typer.get_text_stream("stdin").read() if path == "-" else Path(path).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidRequestError(f"{name} cannot be read: {error}") from None
    try:
        return _document(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidRequestError(f"{name} is not YAML or JSON: {error}") from None
    except _RepeatedKeyError as error:
        raise InvalidRequestError(f"{name}: {error}") from None


def _document(text: str) -> Any:
    """JSON is YAML too, and a hundred times faster to read as JSON; only YAML's reader knows of lines."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _RepeatedKeyError as repeated:
        with suppress(yaml.YAMLError):  # JSON indented with tabs is no YAML
            _yaml(text)
        raise repeated from None
    except ValueError:
        return _yaml(text)


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml)  # noqa: S506 - a safe loader


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _RepeatedKeyError(f"the key {key!r} stands twice")
    return found


def here(spec: JobSpec) -> JobSpec:
    """The job at the commit of the checkout around this folder; says aloud what is amiss with it."""
    found = checkout(Path.cwd(), os.environ)
    for note in found.notes:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[yellow]git:[/] {escape(note)}")
    return at_commit(spec, found.git)
