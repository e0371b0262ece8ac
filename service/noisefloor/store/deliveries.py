"""Queries on the outbox and on webhooks."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from noisefloor.contract.delivery import DeliveryStatus
from noisefloor.store.session import database_now
from noisefloor.store.tables import Delivery, Webhook

LEASE_S = 90.0  # longer than all that one delivery may take


def next_sequence(session: Session, topic: str) -> int:
    """The number of the next announcement of a topic. The caller holds what the topic is about."""
    return (session.scalar(select(func.max(Delivery.sequence)).where(Delivery.topic == topic)) or 0) + 1


def supersede(session: Session, topic: str) -> None:
    """Drop what is still to be sent of a topic: something newer is told in its place."""
    session.execute(
        update(Delivery)
        .where(Delivery.topic == topic, Delivery.status == DeliveryStatus.PENDING, ~_in_flight(Delivery))
        .values(status=DeliveryStatus.SUPERSEDED, lease_until=None)
    )


def any_due(session: Session, kinds: Collection[str]) -> bool:
    """Whether there is anything to claim."""
    return session.scalar(select(select(Delivery.id).where(*_due(kinds)).exists())) or False


def claim_next(session: Session, kinds: Collection[str]) -> Delivery | None:
    """Take what is due first under a lease, unless an older one of its topic is on its way."""
    older = aliased(Delivery)
    overtakes = exists().where(
        older.topic == Delivery.topic, older.sequence < Delivery.sequence, _in_flight(older)
    )
    candidate = (
        select(Delivery.id)
        .where(*_due(kinds), ~overtakes)
        .order_by(Delivery.due_at, Delivery.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return session.scalar(
        update(Delivery)
        .where(Delivery.id == candidate)
        .values(attempt=Delivery.attempt + 1, tries=Delivery.tries + 1, lease_until=database_now() + LEASE_S)
        .returning(Delivery)
    )


def held(session: Session, delivery_id: str, attempt: int) -> Delivery | None:
    """The delivery, locked, if `attempt` still holds it."""
    return session.scalar(
        select(Delivery)
        .where(
            Delivery.id == delivery_id,
            Delivery.attempt == attempt,
            Delivery.status == DeliveryStatus.PENDING,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def is_superseded(session: Session, delivery: Delivery) -> bool:
    """Whether something newer was announced of its topic."""
    newer = select(Delivery.id).where(Delivery.topic == delivery.topic, Delivery.sequence > delivery.sequence)
    return session.scalar(select(newer.exists())) or False


def put_off(session: Session, delivery: Delivery, seconds: float) -> None:
    """Try again so many seconds from now, by the database's clock."""
    delivery.lease_until = None
    delivery.due_at = database_now() + seconds
    session.flush()


def find(session: Session, project: str, delivery_id: str) -> Delivery | None:
    """One delivery of a project, locked."""
    return session.scalar(
        select(Delivery)
        .where(Delivery.project == project, Delivery.id == delivery_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def page(
    session: Session, project: str, *, limit: int, before: str | None, status: DeliveryStatus | None
) -> Sequence[Delivery]:
    """Deliveries, newest first, `limit` of them below the id `before`."""
    query = select(Delivery).where(Delivery.project == project).order_by(Delivery.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Delivery.id < before)
    if status is not None:
        query = query.where(Delivery.status == status)
    return session.scalars(query).all()


def webhook(session: Session, project: str, name: str) -> Webhook | None:
    """One webhook of a project."""
    return session.get(Webhook, (project, name))


def webhooks(session: Session, project: str) -> Sequence[Webhook]:
    """The webhooks of a project, by name."""
    return session.scalars(select(Webhook).where(Webhook.project == project).order_by(Webhook.name)).all()


def _in_flight(table: type[Delivery]) -> ColumnElement[bool]:
    return and_(table.status == DeliveryStatus.PENDING, func.coalesce(table.lease_until, 0) >= database_now())


def _due(kinds: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return (
        Delivery.status == DeliveryStatus.PENDING,
        Delivery.kind.in_(kinds),
        Delivery.due_at <= database_now(),
        or_(Delivery.lease_until.is_(None), Delivery.lease_until < database_now()),
    )
