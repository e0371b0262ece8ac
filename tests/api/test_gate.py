"""Policies, baselines and gates over HTTP, on both databases."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Engine, func, select
from tests.measuring import claimed, finish
from tests.samples import job, result

from noisefloor.client import Client
from noisefloor.contract.gate import BaselineRequest, DryRunRequest, GateRequest
from noisefloor.contract.policy import Policy
from noisefloor.contract.verdict import Verdict
from noisefloor.store import tables
from noisefloor.store.session import reading, writing

PROJECT = "/v1/projects/demo"
JOBS, POLICIES = f"{PROJECT}/jobs", f"{PROJECT}/policies"
BASELINES, GATES = f"{PROJECT}/baselines", f"{PROJECT}/gates"
SHA = "a" * 40
DROP = {"rules": {"max_drop_db": 0.5}}
TODAY = datetime.now(UTC).date()
YESTERDAY = str(TODAY - timedelta(days=1))
MATCH = {"engine": "x86"}
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}


def measured(
    api: httpx.Client, engine: Engine, figure: float = 41.5, *, hour: int = 1, **changes: Any
) -> dict[str, Any]:
    """A job on main that is posted and measured."""
    git = {"branch": "main", "sha": f"{hour:040x}", "committed_at": f"2026-01-01T{hour:02}:00:00Z"}
    answer = api.post(JOBS, json=job(**{"git": git, "schemes": [SCHEME], **changes}))
    assert answer.status_code == 202, answer.text
    with writing(engine, "test") as session:
        finish(session, claimed(session), lambda cell: result(cell, figure))
    found: dict[str, Any] = api.get(answer.headers["Location"]).json()
    return found


def refused(answer: httpx.Response, field: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert field in errors, errors
    message: str = errors[field]
    return message


def test_a_policy_that_differs_is_a_new_version(api: httpx.Client) -> None:
    first = api.put(f"{POLICIES}/int8", json=DROP)
    assert (first.status_code, first.json()["version"]) == (201, 1)
    assert first.json()["policy"]["name"] == "int8"
    same = api.put(f"{POLICIES}/int8", json={**DROP, "name": "int8", "mode": "blocking"})
    assert (same.status_code, same.json()) == (200, first.json())
    second = api.put(f"{POLICIES}/int8", json={"rules": {"max_drop_db": 1}})
    assert (second.status_code, second.json()["version"]) == (201, 2)
    assert api.get(f"{POLICIES}/int8").json() == second.json()
    assert api.get(f"{POLICIES}/int8", params={"version": 1}).json() == first.json()
    versions = api.get(f"{POLICIES}/int8/versions").json()["items"]
    assert [one["version"] for one in versions] == [2, 1]


def test_policies_are_listed_by_name_to_their_end(api: httpx.Client) -> None:
    for name in ("b", "a", "c", "a"):
        api.put(f"{POLICIES}/{name}", json={"rules": {"floor_db": 20}})
    first = api.get(POLICIES, params={"limit": 2}).json()
    rest = api.get(POLICIES, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["name"] for one in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["next_cursor"] is None


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"rule": {}}, "rule"),
    ({"rules": {"max_drop": 1}}, "rules.max_drop"),
    ({"on": {"nonfinite": "pass"}}, "on.nonfinite"),
    ({"on": {"environment_changed": "pass"}}, "on.environment_changed"),
    ({"on": {"missing_series": "ignore"}}, "on.missing_series"),
    ({"mode": "off"}, "mode"),
    ({"name": "other"}, "name"),
    ({"match": {"engine": "gemmlowp"}}, "match.engine.0"),
    ({"match": {"edge": []}}, "match.edge"),
    ({"match": {"metric": "sqnr_db"}}, "match.metric"),
    ({"rules": {"max_drop_db": -1}}, "rules.max_drop_db"),
    ({"rules": {"creep_db": {"since": "v1"}}}, "rules.creep_db.max"),
    ({"rules": {"agree_within_db": {"across": "threads", "max": 1}}}, "rules.agree_within_db.across.0"),
    ({"rules": {"agree_within_db": {"across": ["isa", "isa"], "max": 1}}}, "rules.agree_within_db"),
    (
        {"match": MATCH, "rules": {"agree_within_db": {"across": ["engine"], "max": 3}}},
        "rules.agree_within_db",
    ),
    (
        {
            "match": {"isa": "avx2"},
            "overrides": [{"match": MATCH, "rules": {"agree_within_db": {"across": ["isa"], "max": 3}}}],
        },
        "overrides.0.rules.agree_within_db",
    ),
    ({"baseline": {"source": "merge_base"}}, "baseline.branch"),
    (
        {"baseline": {"source": "merge_base", "branch": "main", "fallback": "merge_base"}},
        "baseline.fallback",
    ),
    (
        {"baseline": {"source": "nearest_ancestor", "branch": "main", "fallback": "merge_base"}},
        "baseline.fallback",
    ),
    ({"baseline": {"source": "pinned", "branch": "main"}}, "baseline.branch"),
    ({"baseline": {"source": "accepted", "max_age_commits": 3}}, "baseline.max_age_commits"),
    ({"baseline": {"source": "previous", "max_age_commits": 101}}, "baseline.max_age_commits"),
    ({"on_improvement": "require_rebaseline"}, "on_improvement"),
    ({"overrides": [{"match": MATCH, "rules": {}}]}, "overrides.0.rules"),
    ({"overrides": [{"match": {}, "rules": {"floor_db": 1}}]}, "overrides.0.match"),
    ({"overrides": [{"match": MATCH}]}, "overrides.0.rules"),
    ({"waivers": [{"match": MATCH, "until": "2999-01-01"}]}, "waivers.0.reason"),
    ({"waivers": [{"match": MATCH, "reason": "known"}]}, "waivers.0.until"),
    ({"waivers": [{"match": MATCH, "until": "2999-01-01", "reason": " "}]}, "waivers.0.reason"),
    ({"waivers": [{"match": {}, "until": "2999-01-01", "reason": "x"}]}, "waivers.0.match"),
    ({"waivers": [{"match": MATCH, "until": YESTERDAY, "reason": "x"}]}, "waivers.0.until"),
]


def test_a_policy_that_makes_no_sense_is_refused_by_field(api: httpx.Client) -> None:
    for policy, field in NONSENSE:
        refused(api.put(f"{POLICIES}/int8", json=policy), field)
        if field != "name":
            refused(api.post(JOBS, json=job(policy=policy)), f"policy.{field}")
    assert api.get(POLICIES).json()["items"] == []


def test_a_rule_that_is_no_number_is_refused(api: httpx.Client) -> None:
    for rule in ('"max_drop_db": %s', '"floor_db": %s', '"creep_db": {"max": %s}'):
        for number in ("NaN", "Infinity", "1e999"):
            body = '{"rules": {' + rule % number + "}}"
            answer = api.put(f"{POLICIES}/int8", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"].startswith("rules.")


def test_a_stored_policy_whose_waiver_has_ended_is_still_itself(api: httpx.Client, engine: Engine) -> None:
    policy = {**DROP, "waivers": [{"match": MATCH, "until": str(TODAY), "reason": "known"}]}
    kept = api.put(f"{POLICIES}/int8", json=policy).json()
    with writing(engine, "test") as session:
        row = session.scalars(select(tables.Policy)).one()
        waiver = {**row.document["waivers"][0], "until": YESTERDAY}
        row.document = {**row.document, "waivers": [waiver]}
    policy["waivers"][0]["until"] = YESTERDAY  # type: ignore[index]
    assert api.put(f"{POLICIES}/int8", json=policy).json()["version"] == kept["version"]
    assert api.post(JOBS, json=job(policy="int8")).status_code == 202


def test_a_job_is_judged_by_the_version_that_was_there_when_it_was_posted(
    api: httpx.Client, engine: Engine
) -> None:
    api.put(f"{POLICIES}/int8", json={"rules": {"floor_db": 50}})
    posted = api.post(JOBS, json=job(policy="int8")).json()
    api.put(f"{POLICIES}/int8", json={"rules": {"floor_db": 10}})
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    found = api.get(f"{JOBS}/{posted['id']}").json()
    assert found["spec"]["policy"] == "int8"
    assert (found["policy"]["name"], found["policy"]["version"]) == ("int8", 1)
    assert found["policy"]["policy"]["rules"]["floor_db"] == 50
    assert found["verdict"] == "regressed"


def test_a_policy_that_is_not_there_is_refused_with_those_that_are(api: httpx.Client) -> None:
    api.put(f"{POLICIES}/int8", json=DROP)
    answer = api.post(JOBS, json=job(policy="int4"))
    refused(answer, "policy")
    assert answer.json()["errors"][0]["accepted"] == ["int8"]
    for path in (f"{POLICIES}/int4", f"{POLICIES}/int4/versions", f"{POLICIES}/int8?version=7"):
        assert api.get(path).status_code == 404
    assert api.post(f"{POLICIES}/int4/dry-run", json={}).status_code == 404


def test_a_dry_run_says_what_would_have_been_blocked_and_writes_nothing(
    api: httpx.Client, engine: Engine
) -> None:
    for hour, figure in enumerate((40.0, 38.0, 37.8), start=1):
        measured(api, engine, figure, hour=hour, policy={"rules": {"floor_db": 30}})
    measured(api, engine, 20.0, hour=4, policy={"rules": {"floor_db": 30}})
    api.put(f"{POLICIES}/strict", json={"rules": {"max_drop_db": 0.5}})
    api.put(f"{POLICIES}/loose", json={"rules": {"floor_db": 10}})

    def written() -> list[Any]:
        with reading(engine) as session:
            counts = [
                session.scalar(select(func.count()).select_from(table))
                for table in (tables.Finding, tables.Absence, tables.Mark)
            ]
            return counts + list(session.scalars(select(tables.Job.verdict).order_by(tables.Job.id)))

    before = written()
    strict = api.post(f"{POLICIES}/strict/dry-run", json={}).json()
    assert [(one["was"], one["would_be"]) for one in strict["jobs"]] == [
        ("regressed", "regressed"),
        ("pass", "pass"),
        ("pass", "regressed"),
        ("pass", "no_baseline"),
    ]
    assert (strict["would_block"], strict["newly_blocked"], strict["newly_passed"]) == (3, 2, 0)
    loose = api.post(
        f"{POLICIES}/loose/dry-run", json={"since": "2026-01-01T04:00:00Z", "branch": "main"}
    ).json()
    assert (len(loose["jobs"]), loose["newly_passed"]) == (1, 1)
    assert api.post(f"{POLICIES}/loose/dry-run", json={"branch": "topic"}).json()["jobs"] == []
    assert written() == before


def test_an_acceptance_changes_the_verdict_and_is_listed(api: httpx.Client, engine: Engine) -> None:
    measured(api, engine, 40.0, policy=DROP)
    lost = measured(api, engine, 37.0, hour=2, policy=DROP)
    assert lost["verdict"] == "regressed"
    asked = {"kind": "accept", "sha": lost["git"]["sha"], "reason": "a smaller model", "by": "ann"}
    answer = api.post(BASELINES, json={**asked, "until": str(TODAY), "match": {"subject": "multiple-*"}})
    assert (answer.status_code, answer.json()["acknowledged"]) == (201, [lost["id"]])
    assert api.get(f"{JOBS}/{lost['id']}").json()["verdict"] == "acknowledged"
    (listed,) = api.get(BASELINES).json()["items"]
    assert (listed["reason"], listed["by"], listed["until"]) == ("a smaller model", "ann", str(TODAY))
    assert (listed["whole_commit"], listed["match"]["subject"]) == (True, ["multiple-*"])
    pin = api.post(BASELINES, json={"kind": "pin", "job": lost["id"], "reason": "release"}).json()
    assert [one["id"] for one in api.get(BASELINES).json()["items"]] == [pin["id"], listed["id"]]


def test_an_acceptance_that_makes_no_sense_is_refused_by_field(api: httpx.Client) -> None:
    asked = {"kind": "accept", "job": "0" * 26, "reason": "a smaller model"}
    nonsense: list[tuple[dict[str, Any], str]] = [
        ({"kind": "bless"}, "kind"),
        ({"reason": ""}, "reason"),
        ({"reason": None}, "reason"),
        ({"sha": "a" * 40}, "job"),
        ({"job": None}, "job"),
        ({"until": YESTERDAY}, "until"),
        ({"until": "soon"}, "until"),
        ({"match": {"engines": "x86"}}, "match.engines"),
        ({"for": "ever"}, "for"),
    ]
    for changes, field in nonsense:
        refused(api.post(BASELINES, json={**asked, **changes}), field)


def test_an_acceptance_of_nothing_is_a_conflict_and_leaves_nothing(api: httpx.Client, engine: Engine) -> None:
    found = measured(api, engine, policy={"rules": {"floor_db": 30}})
    asked = {"kind": "accept", "job": found["id"], "reason": "why not"}
    answer = api.post(BASELINES, json=asked)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:noisefloor:problem:conflict")
    waiting = api.post(JOBS, json=job()).json()
    assert api.post(BASELINES, json={**asked, "job": waiting["id"]}).status_code == 409
    assert api.post(BASELINES, json={**asked, "job": "0" * 26}).status_code == 404
    elsewhere = {**asked, "kind": "pin", "match": {"engine": "onednn"}}
    assert api.post(BASELINES, json=elsewhere).status_code == 409
    assert api.get(BASELINES).json()["items"] == []


def gate(api: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = api.post(GATES, json={"sha": f"{1:040x}", **changes})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = api.get(answer.headers["Location"]).json()
    return found


def test_a_gate_of_a_sha_that_is_cut_short_says_so(api: httpx.Client) -> None:
    assert gate(api, sha="b" * 12)["message"] == f"no job measures {'b' * 12}: give the whole sha"
    said = f"nightly: no job of this name or suite measures {'b' * 12}: give the whole sha"
    assert gate(api, sha="b" * 12, expect=["nightly"])["message"] == said


def test_a_gate_is_pending_until_what_it_expects_is_settled(api: httpx.Client, engine: Engine) -> None:
    asked = gate(api, expect=["nightly"])
    assert (asked["verdict"], asked["message"]) == (
        "pending",
        f"nightly: no job of this name or suite measures {1:040x}",
    )
    api.post(JOBS, json=job(name="nightly", git={"branch": "main", "sha": f"{1:040x}"}))
    waiting = api.get(f"{GATES}/{asked['id']}").json()
    assert (waiting["verdict"], waiting["message"]) == ("pending", "nightly: the job is queued")
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(httpx.get(f"{api.base_url}{GATES}/{asked['id']}?wait=60", timeout=90))
    )
    thread.start()
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    thread.join()
    assert (answers[0].json()["verdict"], len(answers[0].json()["jobs"])) == ("pass", 1)


def test_a_gate_never_passes_for_want_of_results(api: httpx.Client, engine: Engine) -> None:
    assert gate(api)["verdict"] == "pending"
    assert gate(api, timeout_s=0)["verdict"] == "error"
    assert gate(api, timeout_s=0, expect=["nightly"])["verdict"] == "error"
    api.post(JOBS, json=job(name="nightly", git={"sha": f"{1:040x}"}))
    late = gate(api, timeout_s=0)
    assert (late["verdict"], "limit has passed" in late["message"]) == ("error", True)
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    # settled, but after the limit of the gate that was asked before
    assert api.get(f"{GATES}/{late['id']}").json()["verdict"] == "error"
    assert gate(api, timeout_s=0)["verdict"] == "pass"
    assert gate(api, timeout_s=0, expect=["nightly", "weekly"])["verdict"] == "error"


def test_a_gate_can_expect_a_suite(api: httpx.Client, engine: Engine) -> None:
    api.put(f"{PROJECT}/suites/nightly", json={"provider": "github", "repository": "o/r", "job": job()})
    asked = gate(api, expect=["nightly"])
    assert asked["verdict"] == "pending"
    floor = {"rules": {"floor_db": 30}}
    measured(api, engine, 40.0, name="another", suite="nightly", policy=floor)
    assert api.get(f"{GATES}/{asked['id']}").json()["verdict"] == "pass"


def test_a_gate_takes_the_worst_of_jobs_and_the_latest_of_a_name(api: httpx.Client, engine: Engine) -> None:
    floor = {"policy": {"rules": {"floor_db": 30}}}
    measured(api, engine, 20.0, name="a", **floor)
    measured(api, engine, 40.0, name="b", **floor)
    assert gate(api)["verdict"] == "regressed"
    measured(api, engine, 40.0, name="a", **floor)
    assert gate(api)["verdict"] == "pass"
    measured(api, engine, 20.0, name="", **floor)
    measured(api, engine, 40.0, name="", **floor)
    # jobs without a name are not repetitions of each other
    assert gate(api)["verdict"] == "regressed"


def test_a_gate_can_judge_by_another_policy(api: httpx.Client, engine: Engine) -> None:
    measured(api, engine, 40.0, name="a", policy={"rules": {"floor_db": 30}})
    api.put(f"{POLICIES}/strict", json={"rules": {"floor_db": 50}})
    assert gate(api, policy="strict")["verdict"] == "regressed"
    assert gate(api, policy={"rules": {"floor_db": 20}})["verdict"] == "pass"
    assert gate(api, policy=DROP)["verdict"] == "no_baseline"
    refused(api.post(GATES, json={"sha": SHA, "policy": "unknown"}), "policy")
    refused(api.post(GATES, json={"sha": "main"}), "sha")
    refused(api.post(GATES, json={"sha": SHA, "timeout_s": -1}), "timeout_s")
    assert api.get(f"{GATES}/{'0' * 26}").status_code == 404


def test_the_client_speaks_of_policies_baselines_and_gates(api: httpx.Client, engine: Engine) -> None:
    with Client(str(api.base_url), project="demo") as client:
        kept = client.put_policy("int8", Policy.model_validate(DROP))
        assert client.policy("int8") == client.policy("int8", version=1) == kept
        assert client.policies() == (kept,)
        measured(api, engine, 40.0, policy="int8")
        lost = measured(api, engine, 37.0, hour=2, policy="int8")
        assert client.dry_run("int8", DryRunRequest(limit=1)).would_block == 1
        made = client.mark(BaselineRequest(kind="accept", job=lost["id"], reason="why"))
        assert made.acknowledged == (lost["id"],)
        assert [one.id for one in client.baselines()] == [made.id]
        opened = client.open_gate(GateRequest(sha=lost["git"]["sha"]))
        assert client.gate(opened.id).verdict is Verdict.ACKNOWLEDGED


def test_the_jobs_page_says_what_it_was_held_against_and_who_let_it_through(
    api: httpx.Client, engine: Engine
) -> None:
    api.put(f"{POLICIES}/int8", json={**DROP, "baseline": {"source": "merge_base", "branch": "main"}})
    both = {"policy": "int8", "name": "both"}
    first = measured(api, engine, 40.0, lanes={"engine": ["x86", "onednn"]}, **both)
    line = {"branch": "topic", "sha": SHA, "ancestors": ["b" * 40, first["git"]["sha"]]}
    lost = measured(api, engine, 37.0, git={**line, "committed_at": "2026-01-02T00:00:00Z"}, **both)
    api.post(BASELINES, json={"kind": "accept", "job": lost["id"], "reason": "<b>small</b>", "by": "ann"})
    page = api.get(f"/projects/demo/jobs/{lost['id']}").text
    assert "int8, version 1: a drop of 0.5 dB is allowed" in page
    assert "merge base, 2 commits back" in page
    assert "Let through, acceptance by ann: &lt;b&gt;small&lt;/b&gt;" in page
    assert "missing: the baseline had 40.000 dB, the job does not measure it" in page
    assert "2 findings, the gravest first" in page
    assert "1 series in common with a baseline" in page
    arrow = "\N{NARROW NO-BREAK SPACE}→\N{NARROW NO-BREAK SPACE}"
    assert f"multiple-ops · eager static per_tensor · onednn · float32{arrow}true</h3>" in page
