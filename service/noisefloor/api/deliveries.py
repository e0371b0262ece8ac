"""Webhooks of a project, and what became of all that was to be sent."""

from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy.orm import Session

from noisefloor.api.dependencies import Cursor, Limit, ProjectName, ServiceDep
from noisefloor.contract.base import Identifier, Name
from noisefloor.contract.delivery import DeliveryStatus, DeliveryView, Webhook, WebhookView
from noisefloor.contract.resources import Page
from noisefloor.errors import NotFoundError
from noisefloor.store import deliveries, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.deliver import delivery_view, replay
from noisefloor.workflow.webhooks import put_webhook, webhook_view

router = APIRouter(prefix="/v1/projects/{project}", tags=["deliveries"])

WebhookName = Annotated[Name, Path()]


@router.put("/webhooks/{name}")
def put(project: ProjectName, name: WebhookName, webhook: Webhook, to: ServiceDep) -> WebhookView:
    """Keep a webhook. The answer shows its secret when it is new or changed, and never again."""
    with writing(to.engine, "webhook") as session:
        return put_webhook(session, project=project, name=name, webhook=webhook, settings=to.settings)


@router.get("/webhooks/{name}")
def get(project: ProjectName, name: WebhookName, to: ServiceDep) -> WebhookView:
    """One webhook."""
    with reading(to.engine) as session:
        return webhook_view(_found(session, project, name))


@router.delete("/webhooks/{name}", status_code=204)
def delete(project: ProjectName, name: WebhookName, to: ServiceDep) -> None:
    """Forget a webhook and its secret. What was still to be sent to it ends as a dead letter."""
    with writing(to.engine, "forget_webhook") as session:
        session.delete(_found(session, project, name))


@router.get("/webhooks")
def list_webhooks(project: ProjectName, to: ServiceDep) -> Page[WebhookView]:
    """The project's webhooks."""
    with reading(to.engine) as session:
        return Page(items=tuple(webhook_view(row) for row in deliveries.webhooks(session, project)))


@router.get("/deliveries")
def list_deliveries(
    project: ProjectName,
    to: ServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: DeliveryStatus | None = None,
) -> Page[DeliveryView]:
    """Deliveries, newest first; `status=dead` lists the dead letters."""
    with reading(to.engine) as session:
        rows = deliveries.page(session, project, limit=limit + 1, before=cursor, status=status)
        views = tuple(delivery_view(row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(rows) > limit else None)


@router.post("/deliveries/{delivery_id}/replay", status_code=202)
def replay_delivery(
    project: ProjectName, delivery_id: Annotated[Identifier, Path()], to: ServiceDep
) -> DeliveryView:
    """Send a dead letter again."""
    with writing(to.engine, "replay") as session:
        return delivery_view(replay(session, project, delivery_id))


def _found(session: Session, project: str, name: str) -> tables.Webhook:
    row = deliveries.webhook(session, project, name)
    if row is None:
        raise NotFoundError(f"project {project!r} has no webhook {name!r}")
    return row
