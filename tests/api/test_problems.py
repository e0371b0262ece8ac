"""Bad requests are problem+json with the field, the value and what is accepted; none is a 500."""

import json
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from tests.samples import imported, job, small_data

from noisefloor.store import tables
from noisefloor.store.session import reading

JOBS = "/v1/projects/demo/jobs"

text = st.text(st.characters(exclude_categories=()), max_size=8)  # half of a pair of UTF-16, too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["type"] == f"urn:noisefloor:problem:{code}"
    assert document["status"] == status
    return document


def test_a_misspelt_key(api: httpx.Client) -> None:
    document = problem(api.post(JOBS, json=job(lanes={"engin": ["x86"]})), 422, "invalid-request")
    assert document["errors"] == [
        {
            "field": "lanes.engin",
            "message": "unknown key 'engin'; did you mean 'engine'?",
            "value": "['x86']",
            "accepted": ["engine", "device", "isa", "threads"],
        }
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed-body"),
        (b"[" * 100_000, 400, "malformed-body"),
        (b"\xff\xfe", 400, "malformed-body"),
        (b"null", 422, "invalid-request"),
        (b"[]", 422, "invalid-request"),
        (b'"text"', 422, "invalid-request"),
        (b"{}", 422, "invalid-request"),
        (b"", 422, "invalid-request"),
        (b" " * (2**20 + 1), 413, "body-too-large"),
        (b'{"version": NaN}', 422, "invalid-request"),
        (b'{"version": 1e999}', 422, "invalid-request"),
        (b'{"\\ud800": 1}', 422, "invalid-request"),
        (b'{"version": "\\ud800"}', 422, "invalid-request"),
        (
            b'{"version": 1, "subjects": [{"zoo": "multiple-ops", "args": {"\\ud800": 1}}]}',
            422,
            "invalid-request",
        ),
        (b'{"version": 1, "priority": "\\ud800"}', 422, "invalid-request"),
        (b'{"version": 1, "subjects": [{"zoo": "\\ud800"}]}', 422, "invalid-request"),
        (b'{"version": ' + b"9" * 5000 + b"}", 400, "malformed-body"),
    ],
)
def test_a_body_that_is_no_job(api: httpx.Client, body: bytes, status: int, code: str) -> None:
    problem(api.post(JOBS, content=body, headers={"Content-Type": "application/json"}), status, code)


def test_a_body_that_grows_past_the_limit_while_it_is_sent(api: httpx.Client) -> None:
    pieces = (b" " * 2**16 for _ in range(64))
    try:
        answer = api.post(JOBS, content=pieces, headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return  # the service hung up while the rest was on its way
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize(
    "framing", ["Content-Length: {more}", "Transfer-Encoding: chunked"], ids=["length", "chunked"]
)
def test_a_body_that_ends_in_the_middle_does_nothing(api: httpx.Client, engine: Engine, framing: str) -> None:
    body = json.dumps(job()).encode()
    address = (api.base_url.host, api.base_url.port)
    said = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    with socket.create_connection(address) as connection:
        connection.sendall(said.format(more=len(body) + 1).encode())
        connection.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n" if "chunked" in framing else body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1024):
            pass
    with reading(engine) as session:
        assert session.scalars(select(tables.Job.id)).all() == []


def test_an_import_that_is_not_allowed(api: httpx.Client) -> None:
    subject = {"import": "os:system", "data": small_data()}
    document = problem(api.post(JOBS, json=job(subjects=[subject])), 422, "not-allowed")
    assert document["errors"] == [
        {
            "field": "subjects.0.import",
            "message": "not allowed",
            "value": "os:system",
            "accepted": ["subjects_under_test"],
        }
    ]


def test_an_operator_with_an_axis_that_its_shape_has_not(api: httpx.Client) -> None:
    operator = {"name": "quantize_per_channel", "shape": [3, 8], "axis": 2}
    scheme = {"flow": "ops", "mode": "forward", "edge": "float64->true"}
    document = problem(
        api.post(JOBS, json=job(subjects=[{"operator": operator}], schemes=[scheme])), 422, "invalid-request"
    )
    (error,) = document["errors"]
    assert (error["field"], error["value"], error["accepted"]) == ("subjects.0.operator.axis", 2, [0, 1])


def test_a_prefix_of_an_allowed_module_is_not_allowed(api: httpx.Client) -> None:
    subject = {"import": "subjects_under_test_evil.x:y", "data": small_data()}
    problem(api.post(JOBS, json=job(subjects=[subject])), 422, "not-allowed")
    assert api.post(JOBS, json=imported("misbehaving:anything")).status_code == 202


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{JOBS}?limit=0", "query.limit"),
        (f"{JOBS}?limit=501", "query.limit"),
        (f"{JOBS}?cursor=abc", "query.cursor"),
        (f"{JOBS}?status=sleeping", "query.status"),
        (f"{JOBS}/nonsense", "path.job_id"),
        (f"{JOBS}/{'0' * 26}?wait=-1", "query.wait"),
        ("/v1/projects/Not%20A%20Name/jobs", "path.project"),
        ("/v1/projects/a%00b/jobs", "path.project"),
        ("/v1/projects/demo/trends?since=yesterday", "query.since"),
        ("/v1/projects/demo/trends?since=0001-01-01T00:00:00%2B14:00", "query.since"),
        ("/v1/projects/demo/trends?until=9999-12-31T23:59:59-14:00", "query.until"),
        ("/v1/projects/demo/trends?until=0.5", "query.until"),
        ("/v1/projects/demo/trends?since=1700000000", "query.since"),
        ("/v1/projects/demo/trends?x=weekday", "query.x"),
        ("/v1/projects/demo/trends?points=0", "query.points"),
        ("/v1/projects/demo/series?engine=%00", "query.engine"),
        ("/v1/projects/demo/series?batch=99999999999999999999", "query.batch"),
    ],
)
def test_a_bad_parameter_is_named(api: httpx.Client, path: str, field: str) -> None:
    document = problem(api.get(path), 422, "invalid-request")
    assert [error["field"] for error in document["errors"]] == [field]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"git": {"committed_at": "0001-01-01T00:00:00+14:00"}}, "git.committed_at"),
        ({"git": {"committed_at": 1_700_000_000}}, "git.committed_at"),
        ({"git": {"dirty": 1}}, "git.dirty"),
        ({"lanes": {"engine": ["x86"], "threads": ["1"]}}, "lanes.threads.0"),
        ({"lanes": {"engine": ["x86"], "threads": [True]}}, "lanes.threads.0"),
        ({"lanes": {"engine": ["x86"], "threads": [1.0]}}, "lanes.threads.0"),
        ({"policy": {"rules": {"max_drop_db": True}}}, "policy.rules.max_drop_db"),
        ({"limits": {"cell_timeout_s": "1_0"}}, "limits.cell_timeout_s"),
        ({"priority": "5"}, "priority"),
        ({"analysis": {"layers": "yes"}}, "analysis.layers"),
        (
            {"schemes": [{"flow": "eager", "mode": "static", "edge": ["fake->true"], "floor_db": 1}]},
            "schemes.0.edges.0",
        ),
    ],
)
def test_a_value_that_trips_a_validator_is_named(
    api: httpx.Client, changes: dict[str, object], field: str
) -> None:
    document = problem(api.post(JOBS, json=job(**changes)), 422, "invalid-request")
    assert field in [error["field"] for error in document["errors"]]  # type: ignore[attr-defined]


def test_unknown_addresses_and_methods(api: httpx.Client) -> None:
    problem(api.get("/v2/nothing"), 404, "not-found")
    for method, path, allowed in (
        ("DELETE", JOBS, "GET, POST"),
        ("POST", f"{JOBS}/{'0' * 26}", "GET"),
        ("POST", "/v1/projects/demo/suites/x", "GET, PUT, DELETE"),
        ("DELETE", "/login", "GET, POST"),
        ("PATCH", "/openapi.json", "GET, HEAD"),
        ("POST", "/static/noisefloor.css", "GET, HEAD"),
    ):
        answer = api.request(method, path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == allowed, path


@pytest.mark.parametrize("path", ["jobs", "export", "trends", "trends.svg", "badge.svg", "suites/x"])
def test_a_misspelt_parameter_is_refused_with_the_nearest(api: httpx.Client, path: str) -> None:
    document = problem(api.get(f"/v1/projects/demo/{path}?bogus=2"), 422, "invalid-request")
    assert [error["field"] for error in document["errors"]] == ["query.bogus"]  # type: ignore[attr-defined]


def test_every_misspelt_parameter_is_named(api: httpx.Client) -> None:
    refused = api.get(f"{JOBS}?limt=1&branch=main&zzz=2&zzz=3")
    document = problem(refused, 422, "invalid-request")
    assert document["errors"] == [
        {
            "field": "query.limt",
            "message": "unknown parameter 'limt'; did you mean 'limit'?",
            "value": "1",
            "accepted": ["limit", "cursor", "status", "branch", "counts"],
        },
        {
            "field": "query.zzz",
            "message": "unknown parameter 'zzz'",
            "value": "3",
            "accepted": ["limit", "cursor", "status", "branch", "counts"],
        },
    ]
    problem(api.post(f"{JOBS}?wait=1", json=job()), 422, "invalid-request")
    assert api.get(JOBS).json()["items"] == []
    assert api.get("/healthz?probe=1").status_code == 200
    assert api.get("/metrics?name=x").status_code == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=json_values,
    key=st.sampled_from(["subjects", "schemes", "lanes", "limits", "policy", "git", "name", "priority"]),
)
def test_no_value_anywhere_makes_a_500(api: httpx.Client, document: object, key: str) -> None:
    body = json.dumps({**job(), key: document}).encode("utf-8", "surrogatepass")
    answer = api.post(JOBS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {202, 400, 422}, answer.text
