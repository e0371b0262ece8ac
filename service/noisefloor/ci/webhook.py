"""Webhooks by Standard Webhooks 1.0."""

import json

from noisefloor.ci.message import Message
from noisefloor.ci.signatures import webhook_key, webhook_signature
from noisefloor.ci.transport import Request

TYPE = "job.verdict"


def verdict_request(url: str, secret: str, message: Message, *, message_id: str, now_s: float) -> Request:
    """The signed request. `message_id` is the same for all tries, so that receivers know repetitions."""
    document = {
        "type": TYPE,
        "timestamp": message.announcement.at.isoformat(),
        "data": {
            **message.announcement.model_dump(mode="json"),
            **message.reasons.model_dump(mode="json"),
            "url": message.url,
        },
    }
    body, timestamp_s = json.dumps(document, separators=(",", ":")).encode(), int(now_s)
    signature = webhook_signature(
        webhook_key(secret), message_id=message_id, timestamp_s=timestamp_s, body=body
    )
    return Request(
        url=url,
        headers={
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature,
        },
        body=body,
    )
