"""Queries on what nobody asks for any more: what is only needed for a while, or by what is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    cast,
    column,
    delete,
    exists,
    func,
    inspect,
    or_,
    select,
    table,
    text,
    tuple_,
    union,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, aliased

from noisefloor.contract.delivery import DeliveryStatus
from noisefloor.store.session import database_now
from noisefloor.store.shards import QUEUED
from noisefloor.store.tables import (
    Base,
    Bisection,
    Cell,
    Check,
    Delivery,
    Environment,
    Gate,
    HookReceipt,
    IdempotencyKey,
    Job,
    Shard,
    Worker,
)
from noisefloor.store.workers import FORGOTTEN_S

IDEMPOTENCY_DAYS = 7  # a client that repeats a request does so at once
RECEIPT_DAYS = 90  # GitHub delivers again what is 3 days old at most, GitLab a month
DELIVERED_DAYS = 30
DEAD_LETTER_DAYS = 90
GATE_DAYS = 90  # since its deadline
CHECK_DAYS = 90
BISECTION_DAYS = 90
ENVIRONMENT_DAYS = 1

STALLED_S = 60.0  # Procrastinate's workers are seen each ten seconds
STALLED = text("SELECT count(*) FROM procrastinate_prune_stalled_workers_v1(:seconds)")
messages = table("procrastinate_jobs", *map(column, ("id", "args", "status", "worker_id")))


@dataclass(frozen=True, kw_only=True)
class Stale:
    """Rows of a table that may go."""

    name: str
    table: type[Base]
    condition: ColumnElement[bool]

    def count(self, session: Session) -> int:
        """How many there are."""
        return session.scalar(select(func.count()).select_from(self.table).where(self.condition)) or 0

    def delete(self, session: Session, *, limit: int) -> int:
        """Delete some of them, and say how many."""
        key = tuple(inspect(self.table).primary_key)
        some = select(*key).where(self.condition).limit(limit)
        if session.execute(some.limit(1)).first() is None or not _alone(session, self.table):
            return 0
        gone = session.execute(delete(self.table).where(tuple_(*key).in_(some)).returning(key[0]))
        return len(gone.all())


def stale(now: datetime) -> Sequence[Stale]:
    """All that may go at a moment."""

    def before(days: int) -> datetime:
        return now - timedelta(days=days)

    # A dead letter is replayed unless something newer was told of its topic: that stays as long.
    dead = aliased(Delivery)
    overtaken = exists().where(
        dead.topic == Delivery.topic,
        dead.sequence < Delivery.sequence,
        dead.status == DeliveryStatus.DEAD,
    )
    over = Delivery.status.in_((DeliveryStatus.DELIVERED, DeliveryStatus.SUPERSEDED))
    ended_at = func.coalesce(Delivery.ended_at, Delivery.created_at)
    told = exists().where(Delivery.check_id == Check.id)
    steps = exists().where(Job.bisection_id == Bisection.id)
    used = union(
        select(Cell.environment_key).where(Cell.environment_key.is_not(None)),
        select(Shard.wants_environment).where(Shard.wants_environment.is_not(None)),
    )
    found = (
        ("idempotency keys", IdempotencyKey, IdempotencyKey.created_at < before(IDEMPOTENCY_DAYS)),
        ("receipts of hooks", HookReceipt, HookReceipt.received_at < before(RECEIPT_DAYS)),
        ("ended deliveries", Delivery, and_(over, ended_at < before(DELIVERED_DAYS), ~overtaken)),
        (
            "dead letters",
            Delivery,
            and_(Delivery.status == DeliveryStatus.DEAD, ended_at < before(DEAD_LETTER_DAYS)),
        ),
        ("gates", Gate, Gate.deadline < before(GATE_DAYS)),
        (
            "checks whose job is gone",
            Check,
            and_(~Check.open, Check.job_id.is_(None), Check.created_at < before(CHECK_DAYS), ~told),
        ),
        (
            "bisections whose steps are gone",
            Bisection,
            and_(Bisection.finished_at < before(BISECTION_DAYS), ~steps),
        ),
        ("silent workers", Worker, Worker.seen_at < database_now() - FORGOTTEN_S),
        (
            "environments that nothing names",
            Environment,
            and_(Environment.first_seen_at < before(ENVIRONMENT_DAYS), Environment.key.not_in(used)),
        ),
    )
    return [Stale(name=name, table=of, condition=condition) for name, of, condition in found]


def count_messages(session: Session) -> int:
    """Messages of Procrastinate that are no news: their shard waits no more, or their worker died."""
    if session.get_bind().dialect.name != "postgresql":
        return 0
    return session.scalar(select(func.count()).select_from(messages).where(_unheard())) or 0


def delete_messages(session: Session, *, limit: int) -> int:
    """Forget Procrastinate's workers that fell silent, and some of these messages; says how many."""
    if session.get_bind().dialect.name != "postgresql":
        return 0
    session.execute(STALLED, {"seconds": STALLED_S})
    some = select(messages.c.id).where(_unheard()).limit(limit).with_for_update(skip_locked=True)
    return len(
        session.execute(delete(messages).where(messages.c.id.in_(some)).returning(messages.c.id)).all()
    )


def _unheard() -> ColumnElement[bool]:
    status = cast(messages.c.status, String)
    shard = cast(messages.c.args, JSONB)["shard"].as_string()
    waits = exists().where(Shard.id == shard, Shard.status == QUEUED)
    return or_(
        and_(status == "todo", ~waits),
        and_(status == "doing", messages.c.worker_id.is_(None)),
        status.not_in(("todo", "doing")),
    )


def _alone(session: Session, of: type[Base]) -> bool:
    """Whether nobody is about to refer to an environment that he found; on SQLite one writes at a time."""
    if of is not Environment or session.get_bind().dialect.name != "postgresql":
        return True
    try:
        with session.begin_nested():
            session.execute(text("LOCK TABLE environments IN SHARE ROW EXCLUSIVE MODE NOWAIT"))
    except OperationalError:
        return False  # the next sweep finds it again
    return True
