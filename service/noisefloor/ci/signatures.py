"""Signatures over raw bytes, in both directions. Every comparison takes the same time wherever it fails."""

import base64
import hashlib
import hmac
import re
from binascii import Error as NotBase64
from collections.abc import Iterable

TOLERANCE_S = 300  # Standard Webhooks: five minutes either way
SECRET_PREFIX = "whsec_"  # noqa: S105 - the mark of a secret, not one
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
TIMESTAMP = re.compile(r"[0-9]{1,12}")


def github_signature(body: bytes, secret: str) -> str:
    """What GitHub sends as `X-Hub-Signature-256`.

    >>> github_signature(b"Hello, World!", "It's a Secret to Everybody")
    'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17'
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github_signed(body: bytes, header: str, secrets: Iterable[str]) -> bool:
    """Whether the header is the body's signature under one of the secrets."""
    return _any_equal(header, (github_signature(body, secret) for secret in secrets))


def is_token(header: str, secrets: Iterable[str]) -> bool:
    """Whether the header is one of the secrets: GitLab's `X-Gitlab-Token`."""
    return _any_equal(header, secrets)


def webhook_key(secret: str) -> bytes:
    """The key of a secret as Standard Webhooks writes it: `whsec_` and base64. Raises `ValueError`."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (NotBase64, ValueError):
        raise ValueError("a webhook's secret is whsec_ and base64") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(
            f"a webhook's secret has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; this one has {len(key)}"
        )
    return key


def webhook_signature(key: bytes, *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """What Standard Webhooks 1.0 sends as `webhook-signature`."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def webhook_age_s(
    body: bytes, *, message_id: str, timestamp: str, header: str, keys: Iterable[bytes], now_s: float
) -> float | None:
    """How old the message is, if the header has its signature under one of the keys; below 0 from the future.

    Only one within `TOLERANCE_S` may be taken: an older one may be somebody's who listened.
    """
    if not TIMESTAMP.fullmatch(timestamp):
        return None
    expected = [
        webhook_signature(key, message_id=message_id, timestamp_s=int(timestamp), body=body) for key in keys
    ]
    found = [_any_equal(given, expected) for given in header.split(" ")]
    return now_s - int(timestamp) if any(found) else None


def _any_equal(given: str, expected: Iterable[str]) -> bool:
    """Whether `given` is among `expected`, looking at all of them."""
    found = [hmac.compare_digest(given.encode("utf-8", "replace"), one.encode()) for one in expected]
    return any(found)
