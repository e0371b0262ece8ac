"""A GitHub App's credentials: a JWT of its own, and for it a token of the installation."""

import threading
from datetime import UTC, datetime, timedelta

from noisefloor.ci.event import Payload, SomeMoment
from noisefloor.ci.github_status import headers
from noisefloor.ci.transport import Answer, Outcome, Request, exchange, outcome_of
from noisefloor.errors import MissingExtraError, SettingsError

SKEW = timedelta(seconds=60)
LIFETIME = timedelta(minutes=9)  # ten at most
RENEWED_BEFORE = timedelta(minutes=2)


class _Token(Payload):
    token: str
    expires_at: SomeMoment


class _Installation(Payload):
    id: int


class RefusedError(Exception):
    """GitHub gave no token; `outcome` says whether it is worth another try."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


class GitHubApp:
    """Tokens of installations, kept until they are about to expire."""

    def __init__(self, *, api: str, app_id: str, private_key: str, timeout_s: float) -> None:
        self._api, self._app_id, self._private_key, self._timeout_s = api, app_id, private_key, timeout_s
        self._tokens: dict[int, _Token] = {}
        self._lock = threading.Lock()

    def token(self, repository: str, installation: int | None) -> str:
        """A token for the repository. Raises `RefusedError`, `UnreachableError`."""
        with self._lock:
            number = installation if installation is not None else self._installation_of(repository)
            held = self._tokens.get(number)
            if held is None or held.expires_at - RENEWED_BEFORE < datetime.now(UTC):
                answer = self._ask(Request(url=f"{self._api}/app/installations/{number}/access_tokens"))
                held = self._tokens[number] = _Token.model_validate_json(answer.body)
            return held.token

    def forget(self) -> None:
        """Drop the tokens: one of them was refused."""
        with self._lock:
            self._tokens.clear()

    def _installation_of(self, repository: str) -> int:
        request = Request(method="GET", url=f"{self._api}/repos/{repository}/installation")
        return _Installation.model_validate_json(self._ask(request).body).id

    def _ask(self, request: Request) -> Answer:
        signed = Request(method=request.method, url=request.url, headers=headers(self._jwt()))
        answer = exchange(signed, timeout_s=self._timeout_s)
        outcome = outcome_of(answer)
        if outcome.result != "delivered":
            raise RefusedError(outcome)
        return answer

    def _jwt(self) -> str:
        try:
            import jwt
        except ImportError:
            raise MissingExtraError("a GitHub App needs: pip install 'noisefloor[github]'") from None
        now = datetime.now(UTC)
        claims = {"iat": now - SKEW, "exp": now + LIFETIME, "iss": self._app_id}
        try:
            return jwt.encode(claims, self._private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise SettingsError(f"github_app_key_file is no RSA key in PEM: {error}") from None
