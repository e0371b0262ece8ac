"""The courier: threads of the service that send what is in the outbox, and end what is past its limit."""

import logging
import random
import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field, ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from noisefloor.ci import ancestry, github_status, gitlab_status
from noisefloor.ci.event import Payload
from noisefloor.ci.github_app import GitHubApp, RefusedError
from noisefloor.ci.message import Message, Status
from noisefloor.ci.transport import (
    ForbiddenTargetError,
    Outcome,
    UnreachableError,
    exchange,
    outcome_of,
    public_address,
)
from noisefloor.ci.webhook import verdict_request
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import MissingExtraError, NoisefloorError, SettingsError
from noisefloor.settings import Settings
from noisefloor.store import checks, clock, deliveries
from noisefloor.store.session import reading, writing
from noisefloor.telemetry import logs, traces
from noisefloor.telemetry.metrics import DELIVERIES
from noisefloor.workflow.announce import WEBHOOK
from noisefloor.workflow.deliver import PROVIDERS, Parcel, claim, conclude, expire, release

POLL_S = 0.5
STOP_S = 5.0
UNAUTHORIZED = 401
log = logging.getLogger(__name__)


class _Made(Payload):
    id: Annotated[int, Field(ge=0, lt=2**63)]


class Courier:
    """Two threads: a receiver of webhooks that hangs holds up no merge."""

    def __init__(
        self, *, engine: Engine, settings: Settings, stopping: threading.Event | None = None
    ) -> None:
        self._engine, self._settings = engine, settings
        self._app = _app(settings)
        self._stopping = stopping or threading.Event()
        self._in_hand: dict[str, Parcel] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(kinds,), name=f"courier-{kinds[0]}", daemon=True)
            for kinds in (PROVIDERS, (WEBHOOK,))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Finish what is being sent, or give it back for another service to send."""
        self._stopping.set()
        until_s = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0.0))
        for parcel in list(self._in_hand.values()):
            with suppress(SQLAlchemyError), writing(self._engine, "release_delivery") as session:
                release(session, parcel)

    def step(self, kinds: tuple[str, ...] = (*PROVIDERS, WEBHOOK)) -> bool:
        """Send one delivery of these kinds, if one is due."""
        self._expire()
        with reading(self._engine) as session:
            due = deliveries.any_due(session, kinds)
        if not due:
            return False
        with writing(self._engine, "claim_delivery") as session:
            parcel = claim(session, kinds)
        if parcel is None:
            return False
        self._in_hand[parcel.delivery] = parcel
        job = parcel.announcement.job
        try:
            with (
                logs.about(job=job, delivery=parcel.delivery),
                traces.span("deliver", job, kind=parcel.kind, attempt=parcel.attempt) as span,
            ):
                outcome = self._deliver(parcel)
                if span is not None:
                    span.set_attribute("noisefloor.result", outcome.result)
        finally:
            del self._in_hand[parcel.delivery]
        DELIVERIES.labels(parcel.kind, outcome.result).inc()
        return True

    def _deliver(self, parcel: Parcel) -> Outcome:
        outcome = self._send(parcel)
        with writing(self._engine, "conclude_delivery") as session:
            became = conclude(
                session,
                parcel,
                outcome,
                tries=self._settings.delivery_tries,
                backoff_s=self._settings.delivery_backoff_s,
                jitter=random.random(),  # noqa: S311 - so that not all try again at once
            )
        level = logging.INFO if outcome.result == "delivered" else logging.WARNING
        said = [parcel.delivery, became, *filter(None, [outcome.error])]
        log.log(level, "delivery %s", ": ".join(said))
        return outcome

    def _run(self, kinds: tuple[str, ...]) -> None:
        while not self._stopping.is_set():
            try:
                sent = self.step(kinds)
            except SQLAlchemyError as error:
                log.warning("the outbox cannot be read: %s", error)
                sent = False
            except Exception:  # a delivery that cannot be sent must not end the sending of all others
                log.exception("a delivery failed in a way that nobody thought of")
                sent = False
            if not sent:
                self._stopping.wait(POLL_S)

    def _expire(self) -> None:
        with reading(self._engine) as session:
            stale = checks.expired(session)
        if stale:
            with writing(self._engine, "expire_checks") as session:
                expire(session)

    def _send(self, parcel: Parcel) -> Outcome:
        """One attempt. Whatever goes wrong with it is an outcome."""
        try:
            return self._attempt(parcel)
        except UnreachableError as error:
            return Outcome(result="retry", error=str(error))
        except RefusedError as error:
            return error.outcome
        except (SettingsError, MissingExtraError) as error:
            # another service of the database may be able to, or this one once it is set up
            return Outcome(result="retry", error=str(error))
        except (ForbiddenTargetError, NoisefloorError) as error:
            return Outcome(result="refused", error=str(error))
        except ValidationError as error:
            return Outcome(result="retry", error=f"an answer that is not the provider's: {error}")

    def _attempt(self, parcel: Parcel) -> Outcome:
        if parcel.check is None:
            return self._send_webhook(parcel)
        status = Status(
            announcement=parcel.announcement,
            reasons=parcel.reasons,
            url=self._url(parcel),
            target=parcel.check,
            run_id=parcel.run_id,
        )
        send = self._send_gitlab if parcel.check.provider == "gitlab" else self._send_github
        ancestors = self._ancestors(status) if status.verdict is Verdict.PENDING else ()
        return replace(send(status), ancestors=ancestors)

    def _send_github(self, status: Status) -> Outcome:
        if self._app is not None:
            return self._send_check_run(self._app, status)
        request = github_status.commit_status(self._settings.github_api, status, self._github_token(status))
        return outcome_of(exchange(request, timeout_s=self._settings.delivery_timeout_s))

    def _send_check_run(self, app: GitHubApp, status: Status) -> Outcome:
        request = github_status.check_run(self._settings.github_api, status, self._github_token(status))
        answer = exchange(request, timeout_s=self._settings.delivery_timeout_s)
        outcome = outcome_of(answer)
        if outcome.result == "delivered":
            return replace(outcome, run_id=str(_Made.model_validate_json(answer.body).id))
        if answer.status == UNAUTHORIZED:  # the token was revoked: another one is worth a try
            app.forget()
            return replace(outcome, result="retry")
        return outcome

    def _send_gitlab(self, status: Status) -> Outcome:
        request = gitlab_status.commit_status(self._settings.gitlab_api, status, self._gitlab_token())
        answer = exchange(request, timeout_s=self._settings.delivery_timeout_s)
        return gitlab_status.status_outcome(answer)

    def _ancestors(self, status: Status) -> tuple[str, ...]:
        """The commits before the head; none where they are not to be had, which the gate then says."""
        on_gitlab = status.target.provider == "gitlab"
        try:
            if on_gitlab:
                request = ancestry.gitlab_commits(
                    self._settings.gitlab_api, status.target, self._gitlab_token()
                )
            else:
                token = self._github_token(status)
                request = ancestry.github_commits(self._settings.github_api, status.target, token)
            answer = exchange(
                request, timeout_s=self._settings.delivery_timeout_s, limit_bytes=ancestry.LIMIT_BYTES
            )
            if outcome_of(answer).result != "delivered":
                log.warning("no ancestors of %s: answered %s", status.target.sha, answer.status)
                return ()
            read = ancestry.gitlab_ancestors if on_gitlab else ancestry.github_ancestors
            return read(status.target, answer.body)
        except (UnreachableError, RefusedError, NoisefloorError, ValidationError) as error:
            log.warning("no ancestors of %s: %s", status.target.sha, error)
            return ()

    def _github_token(self, status: Status) -> str:
        if self._app is not None:
            return self._app.token(status.target.repository, status.target.installation)
        if self._settings.github_token is None:
            raise SettingsError("no credentials for GitHub: set NOISEFLOOR_GITHUB_TOKEN, or an App's")
        return self._settings.github_token.get_secret_value()

    def _gitlab_token(self) -> str:
        if self._settings.gitlab_token is None:
            raise SettingsError("no credentials for GitLab: set NOISEFLOOR_GITLAB_TOKEN")
        return self._settings.gitlab_token.get_secret_value()

    def _send_webhook(self, parcel: Parcel) -> Outcome:
        address = None if self._settings.webhook_allow_private else public_address(parcel.webhook_url)
        message = Message(announcement=parcel.announcement, reasons=parcel.reasons, url=self._url(parcel))
        request = verdict_request(
            parcel.webhook_url,
            parcel.webhook_secret,
            message,
            message_id=parcel.delivery,
            now_s=clock.now_s(),
        )
        return outcome_of(exchange(request, timeout_s=self._settings.delivery_timeout_s, address=address))

    def _url(self, parcel: Parcel) -> str | None:
        told, base = parcel.announcement, self._settings.public_url
        if base is None:
            return None
        page = f"{base}/projects/{told.project}"
        return f"{page}/jobs/{told.job}" if told.job is not None else page


def _app(settings: Settings) -> GitHubApp | None:
    if settings.github_app_id is None or settings.github_app_key_file is None:
        return None
    try:
        key = settings.github_app_key_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"github_app_key_file cannot be read: {error}") from None
    return GitHubApp(
        api=settings.github_api,
        app_id=settings.github_app_id,
        private_key=key,
        timeout_s=settings.delivery_timeout_s,
    )
