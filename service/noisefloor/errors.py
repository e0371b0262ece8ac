"""One family of errors: the class carries status and code, its docstring is the title of the problem."""

from collections.abc import Sequence

from noisefloor.contract.resources import FieldError, Problem

PROBLEM_TYPE = "urn:noisefloor:problem:"


class NoisefloorError(Exception):
    """Something the caller can understand and act on."""

    status = 500
    code = "internal"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)

    @property
    def problem(self) -> Problem:
        """The error as RFC 9457 says it."""
        title = (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        return Problem(
            type=PROBLEM_TYPE + self.code,
            title=title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
        )


class InvalidRequestError(NoisefloorError):
    """The request does not fit the contract."""

    status = 422
    code = "invalid-request"


class MalformedBodyError(NoisefloorError):
    """The body is not JSON."""

    status = 400
    code = "malformed-body"


class BodyTooLargeError(NoisefloorError):
    """The body is larger than the service accepts."""

    status = 413
    code = "body-too-large"


class TooManyCellsError(NoisefloorError):
    """The job has more cells than the service accepts."""

    status = 422
    code = "too-many-cells"


class QueueFullError(NoisefloorError):
    """The queue has no room for the job now."""

    status = 429
    code = "queue-full"


class NotAllowedError(NoisefloorError):
    """The service's settings do not allow this."""

    status = 422
    code = "not-allowed"


class AmbiguousCommitError(NoisefloorError):
    """Several commits begin with this sha."""

    status = 422
    code = "ambiguous-commit"


class IdempotencyConflictError(NoisefloorError):
    """The Idempotency-Key was used for another request."""

    status = 422
    code = "idempotency-conflict"


class UnauthorizedError(NoisefloorError):
    """A bearer token is needed."""

    status = 401
    code = "unauthorized"


class BadSignatureError(NoisefloorError):
    """The delivery is not signed with a secret of this service."""

    status = 401
    code = "bad-signature"


class NotFoundError(NoisefloorError):
    """There is no such thing."""

    status = 404
    code = "not-found"


class MethodNotAllowedError(NoisefloorError):
    """The address does not take this method."""

    status = 405
    code = "method-not-allowed"


class ConflictError(NoisefloorError):
    """The state of the resource does not allow this."""

    status = 409
    code = "conflict"


class StaleTokenError(NoisefloorError):
    """The shard was taken over by a later attempt."""

    status = 409
    code = "stale-token"


class UnavailableError(NoisefloorError):
    """The service cannot do this now."""

    status = 503
    code = "unavailable"


class NotSettledError(UnavailableError):
    """The job was not evaluated in time."""

    code = "not-settled"


class MissingExtraError(NoisefloorError):
    """An optional part is not installed."""

    status = 501
    code = "missing-extra"


class CannotMoveError(NoisefloorError):
    """The history cannot be moved as it is."""

    status = 409
    code = "cannot-move"


class SettingsError(NoisefloorError):
    """The settings cannot be used."""

    code = "settings"
