"""Webhooks from GitHub and GitLab: they bring their own signature, and no bearer token."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import SecretStr, ValidationError

from noisefloor.api.dependencies import RawBody, Service, ServiceDep
from noisefloor.api.document import ContentType, body_of
from noisefloor.ci import github, gitlab
from noisefloor.ci.event import Event
from noisefloor.ci.signatures import (
    SECRET_PREFIX,
    TOLERANCE_S,
    github_signed,
    is_token,
    webhook_age_s,
    webhook_key,
)
from noisefloor.contract.suite import HookAnswer
from noisefloor.errors import BadSignatureError, MalformedBodyError, NotAllowedError
from noisefloor.identity import digest
from noisefloor.problems import invalid_request
from noisefloor.store import clock
from noisefloor.store.session import writing
from noisefloor.workflow.hook import receive

JSON = "application/json"
BODY = body_of(JSON, schema={"type": "object"})

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])


Given = Annotated[str, Header(max_length=4096)]
DeliveryId = Annotated[str, Header(max_length=255, pattern=r"^[\x21-\x7e]*$")]


@router.post("/github", status_code=202, openapi_extra=BODY)
def github_hook(
    to: ServiceDep,
    body: RawBody,
    x_github_event: Given = "",
    x_github_delivery: DeliveryId = "",
    x_hub_signature_256: Given = "",
    content_type: ContentType = "",
) -> HookAnswer:
    """Start what an event of a GitHub repository asks for."""
    secrets = _secrets(to.settings.github_webhook_secrets, "NOISEFLOOR_GITHUB_WEBHOOK_SECRETS")
    if not github_signed(body, x_hub_signature_256, secrets):
        raise BadSignatureError("X-Hub-Signature-256 is not this body's under a secret of this service")
    _require_json(content_type)
    return _receive(to, github.read, x_github_event, body, x_github_delivery)


@router.post("/gitlab", status_code=202, openapi_extra=BODY)
def gitlab_hook(
    to: ServiceDep,
    body: RawBody,
    x_gitlab_event: Given = "",
    x_gitlab_token: Given = "",
    x_gitlab_event_uuid: DeliveryId = "",
    idempotency_key: DeliveryId = "",
    webhook_id: DeliveryId = "",
    webhook_timestamp: Given = "",
    webhook_signature: Given = "",
    content_type: ContentType = "",
) -> HookAnswer:
    """Start what an event of a GitLab project asks for. A signing token is verified where one is set."""
    secrets = _secrets(to.settings.gitlab_webhook_secrets, "NOISEFLOOR_GITLAB_WEBHOOK_SECRETS")
    keys = [webhook_key(secret) for secret in secrets if secret.startswith(SECRET_PREFIX)]
    age_s = webhook_age_s(
        body,
        message_id=webhook_id,
        timestamp=webhook_timestamp,
        header=webhook_signature,
        keys=keys,
        now_s=clock.now_s(),
    )
    tokens = [secret for secret in secrets if not secret.startswith(SECRET_PREFIX)]
    signed = age_s is not None and abs(age_s) <= TOLERANCE_S
    if not signed and not is_token(x_gitlab_token, tokens):
        if age_s is not None:
            raise BadSignatureError(
                f"webhook-signature is right, and webhook-timestamp is {abs(age_s):.0f} s"
                f" {'behind' if age_s > 0 else 'ahead of'} this service's clock; {TOLERANCE_S} s are allowed"
            )
        raise BadSignatureError("neither webhook-signature nor X-Gitlab-Token is of a secret of this service")
    _require_json(content_type)
    return _receive(
        to, gitlab.read, x_gitlab_event, body, webhook_id or idempotency_key or x_gitlab_event_uuid
    )


def _secrets(given: tuple[SecretStr, ...], setting: str) -> list[str]:
    if not given:
        raise NotAllowedError(f"this service takes no such webhooks: its operator set no {setting}")
    return [secret.get_secret_value() for secret in given]


def _require_json(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise MalformedBodyError(
            f"choose {JSON} as the webhook's content type; this is {content_type[:100]!r}"
        )


def _receive(
    to: Service, read: Callable[[str, bytes], Event], name: str, body: bytes, delivery: str
) -> HookAnswer:
    try:
        event = read(name, body)
    except ValidationError as error:
        if any(e["type"] == "json_invalid" for e in error.errors()):
            raise MalformedBodyError(f"the body is not JSON: {error.errors()[0]['msg']}") from None
        raise invalid_request(error.errors()) from None
    body_digest = digest(name.encode() + b"\n" + body)
    with writing(to.engine, "hook") as session:
        return receive(
            session,
            event,
            delivery=delivery or body_digest,
            digest=body_digest,
            settings=to.settings,
            dispatch=to.dispatch,
        )
