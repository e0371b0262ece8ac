"""A history made over HTTP, all that a service answers of it, and rows with odd values for every table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import httpx
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Engine,
    Float,
    Integer,
    insert,
)
from tests.api.test_conformance import ENGINES, all_right
from tests.api.test_conformance import measured as measured_kernels
from tests.ci.events import push, signed
from tests.ci.suites import GITHUB, suite, with_secrets
from tests.conftest import serving
from tests.measuring import TAKES_ALL, claimed, finish
from tests.samples import ENVIRONMENT, job, operators, result
from tests.store.test_records import full

from noisefloor.contract.figure import Figure
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.worker import WorkerState
from noisefloor.settings import Settings
from noisefloor.store import workers
from noisefloor.store.session import open_engine, writing
from noisefloor.store.tables import Base

PROJECT = "/v1/projects/demo"
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
LAYER = Layer(
    name="fc.ç", kind="Linear", cumulative=Figure.finite(40.0), local=Figure.finite(40.0), share=1.0
)
NEWER = ENVIRONMENT.replace(torch="2.14.0")


@contextmanager
def answering(database: str) -> Iterator[httpx.Client]:
    """A service over the database that sends nothing to anybody."""
    engine = open_engine(database)
    settings = with_secrets(Settings(database=database, port=0), github_token=None, gitlab_token=None)
    with serving(settings, engine) as client:
        yield client
    engine.dispose()


def make_history(api: httpx.Client, engine: Engine) -> None:
    """Jobs that passed, regressed and wait; and what people, repositories and workers left behind."""

    def post(address: str, document: Any, **more: Any) -> dict[str, Any]:
        answer = api.post(address if address[0] == "/" else f"{PROJECT}/{address}", json=document, **more)
        assert answer.status_code < 300, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def measured(hour: int, *results: Callable[[str], CellResult], **changes: Any) -> str:
        git = {"branch": "main", "sha": f"{hour:040x}", "committed_at": f"2026-01-01T{hour:02}:00:00Z"}
        git["ancestors"] = [f"{before:040x}" for before in reversed(range(1, hour))]
        own = {"git": git, "schemes": [SCHEME], "policy": "int8", "name": "n", **changes}
        posted = post("jobs", job(**own))
        left = iter(results)

        def answer(cell: str) -> CellResult:
            return next(left)(cell)

        with writing(engine, "prune") as session:
            finish(session, claimed(session), answer)
        return str(posted["id"])

    for name, document in (
        ("policies/int8", {"rules": {"max_drop_db": 0.5}, "on": {"no_baseline": "warn"}}),
        ("suites/int8", suite()),
        ("webhooks/chat", {"url": "https://receiver.example/in", "enabled": False}),
        ("settings", {"default_branch": "main", "public_badge": True}),
        ("retention", {"layers_days": 1000}),
    ):
        assert api.put(f"{PROJECT}/{name}", json=document).status_code < 300
    both = {"engine": ["x86", "onednn"]}
    measured(1, full, with_layers, lanes=both)
    measured(2, full, with_layers, lanes=both)
    lost = measured(3, dropped)  # the other engine's series are missing
    post("baselines", {"kind": "accept", "job": lost, "reason": "a smaller model ☃", "by": "ann"})
    post("gates", {"sha": f"{3:040x}", "expect": ["n", "other"]})
    measured_kernels(api, engine, operators("aten::relu", lanes={"engine": ENGINES}), all_right)
    exported = api.get(f"{PROJECT}/export", params={"format": "jsonl"}).content
    kept = api.post(
        "/v1/projects/other/import", content=exported, headers={"Content-Type": "application/jsonl"}
    )
    assert kept.status_code == 200, kept.text
    hook = httpx.post(f"{api.base_url}{GITHUB}", **signed("push", push(branch="master")))
    assert hook.json()["suites"][0]["outcome"] == "started"
    post("jobs", job(name="waits"), headers={"Idempotency-Key": "once"})
    post("bisections", {"over": "layers", "below_db": 20, "job": job()})
    with writing(engine, "prune") as session:
        workers.announce(
            session,
            name="w",
            capabilities=TAKES_ALL,
            slots=1,
            state=WorkerState.ACTIVE,
            started_at=datetime.now(UTC),
        )
        workers.leave(session, "w")


def with_layers(cell: str) -> CellResult:
    return result(cell, 40.0, layers=(LayerReport(edge="float32->true", layers=(LAYER,)),))


def dropped(cell: str) -> CellResult:
    return result(cell, 20.0, environment=NEWER)


def answers(api: httpx.Client) -> dict[str, Any]:
    """Everything that can be asked about the history, by address."""
    told: dict[str, Any] = {}

    def ask(address: str) -> Any:
        answer = api.get(address)
        assert answer.status_code in {200, 404}, (address, answer.text)
        plain = answer.headers["content-type"] in {"application/json", "application/problem+json"}
        told[address] = answer.json() if plain else answer.text
        return told[address]

    for project in ("demo", "other"):
        at = f"/v1/projects/{project}"
        for listed in ("baselines", "policies", "suites", "webhooks", "deliveries", "settings", "retention"):
            ask(f"{at}/{listed}")
        for one in ("export?format=csv", "export?format=jsonl", "trends?x=time", "trends", "badge.svg"):
            ask(f"{at}/{one}")
        ask(f"{at}/compare/{2:040x}...{3:040x}")
        for series in ask(f"{at}/series?limit=500")["items"]:
            ask(f"{at}/trends?series={series['key']}")
        for listed_job in ask(f"{at}/jobs?limit=500")["items"]:
            ask(f"{at}/jobs/{listed_job['id']}")
            ask(f"{at}/jobs/{listed_job['id']}/attribution")
            for cell in ask(f"{at}/jobs/{listed_job['id']}/cells?limit=500")["items"]:
                ask(f"{at}/jobs/{listed_job['id']}/cells/{cell['id']}")
                ask(f"{at}/jobs/{listed_job['id']}/cells/{cell['id']}/layers")
    ask("/v1/conformance")
    return told


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FLOATS = st.floats(allow_nan=False) | st.sampled_from([5e-324, -0.0, 1.7976931348623157e308, 0.1 + 0.2, 1e22])
NUMBERS = st.integers(-(2**70), 2**70) | FLOATS.filter(lambda value: abs(value) != float("inf"))
DOCUMENTS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


def odd(column: Column[Any]) -> st.SearchStrategy[Any]:
    """Values that a column may have, the oddest among them."""
    kinds: tuple[tuple[type, st.SearchStrategy[Any]], ...] = (
        (JSON, DOCUMENTS),
        (Boolean, st.booleans()),
        (BigInteger, st.integers(-(2**63), 2**63 - 1)),
        (Integer, st.integers(-(2**31), 2**31 - 1)),
        (Float, FLOATS),
        (Date, st.dates(date(1, 1, 2), date(9999, 12, 30))),
        (DateTime, st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))),  # noqa: DTZ001
    )
    of_type = getattr(column.type, "impl", column.type)
    values = next((values for kind, values in kinds if isinstance(of_type, kind)), None)
    if values is None:
        values = TEXTS.map(lambda text: text[: getattr(column.type, "length", None) or 20])
    return values | st.none() if column.nullable else values


def insert_odd_rows(connection: Connection, draw: Any, tables: int) -> None:
    """A row for each of the first tables, of values that are drawn; it refers to the rows before it."""
    made: dict[str, dict[str, Any]] = {}
    for table in Base.metadata.sorted_tables[:tables]:
        row: dict[str, Any] = {}
        for column in table.columns:
            (reference,) = column.foreign_keys or (None,)
            if reference is not None and reference.column.table is table:
                row[column.name] = None
            elif reference is not None:
                row[column.name] = made[reference.column.table.name][reference.column.name]
            else:
                row[column.name] = draw(odd(column))
        made[table.name] = row
        connection.execute(insert(table), row)
