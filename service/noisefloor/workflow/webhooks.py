"""Webhooks: endpoints that hear of a project's verdicts."""

import base64
import secrets

from sqlalchemy.orm import Session

from noisefloor.ci.signatures import SECRET_PREFIX, webhook_key
from noisefloor.ci.transport import ForbiddenTargetError, refuse_private_literal
from noisefloor.contract.delivery import Webhook, WebhookView
from noisefloor.contract.resources import FieldError
from noisefloor.errors import InvalidRequestError, NotAllowedError
from noisefloor.settings import Settings
from noisefloor.store import clock, deliveries, jobs, tables

KEY_BYTES = 32


def put_webhook(
    session: Session, *, project: str, name: str, webhook: Webhook, settings: Settings
) -> WebhookView:
    """Keep a webhook under its name. The view has the secret if it is new."""
    _check_target(webhook.url, settings)
    given = webhook.secret.get_secret_value() if webhook.secret is not None else None
    if given is not None:
        _check_secret(given)
    jobs.ensure_project(session, project, clock.now())
    row = deliveries.webhook(session, project, name)
    known = row.secret if row is not None else None
    secret = given or known or SECRET_PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    row = row or tables.Webhook(project=project, name=name)
    row.url, row.secret, row.verdicts = webhook.url, secret, list(webhook.verdicts)
    row.enabled, row.disabled_reason = webhook.enabled, None
    session.add(row)
    session.flush()
    return webhook_view(row).replace(secret=secret if secret != known else None)


def webhook_view(row: tables.Webhook) -> WebhookView:
    """A webhook as it is shown."""
    shown = {name: getattr(row, name) for name in WebhookView.model_fields if name != "secret"}
    return WebhookView.model_validate(shown)


def _check_target(url: str, settings: Settings) -> None:
    if settings.webhook_allow_private:
        return
    try:
        refuse_private_literal(url)
    except ForbiddenTargetError as error:
        field = FieldError(field="url", message=str(error), value=url, accepted=["https://…, public"])
        raise NotAllowedError(f"url: {error} (NOISEFLOOR_WEBHOOK_ALLOW_PRIVATE)", [field]) from None


def _check_secret(secret: str) -> None:
    try:
        webhook_key(secret)
    except ValueError as error:
        field = FieldError(field="secret", message=str(error), accepted=["whsec_…"])
        raise InvalidRequestError(f"secret: {error}", [field]) from None
