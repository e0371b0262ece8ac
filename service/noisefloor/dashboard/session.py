"""The browser's session: a cookie derived from the token, so that the token itself is not kept."""

import hashlib
import hmac

COOKIE = "noisefloor_session"


def session_cookie(token: str) -> str:
    """What a browser keeps instead of the token."""
    return hmac.new(token.encode(), b"noisefloor dashboard session", hashlib.sha256).hexdigest()
