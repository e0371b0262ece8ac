"""What an answer means, and where requests may go."""

from datetime import UTC, datetime

import pytest

from noisefloor.ci.signatures import webhook_key, webhook_signature
from noisefloor.ci.transport import (
    Answer,
    ForbiddenTargetError,
    outcome_of,
    public_address,
    refuse_private_literal,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def answer(status: int, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=given, body=b"")


@pytest.mark.parametrize(
    ("said", "result", "after_s"),
    [
        (answer(200), "delivered", None),
        (answer(204), "delivered", None),
        (answer(301), "refused", None),
        (answer(400), "refused", None),
        (answer(403), "refused", None),
        (answer(403, retry_after="60"), "retry", 60),
        (answer(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW.timestamp() + 30)), "retry", 30),
        (answer(408), "retry", None),
        (answer(410), "gone", None),
        (answer(429, retry_after="Tue, 24 Nov 2026 12:02:00 GMT"), "retry", 120),
        (answer(429, retry_after="Tue, 24 Nov 2026 11:00:00 GMT"), "retry", 0),
        (answer(503, retry_after="9" * 400), "retry", 86_400),
        (answer(503, retry_after="soon"), "retry", None),
        (answer(503, retry_after="\u00b2"), "retry", None),
        (answer(503, x_ratelimit_remaining="0", x_ratelimit_reset="nan"), "retry", None),
    ],
)
def test_what_an_answer_means(said: Answer, result: str, after_s: float | None) -> None:
    outcome = outcome_of(said, now=NOW)
    assert (outcome.result, outcome.after_s) == (result, after_s)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]", "2130706433", "0x7f.1"]
)
def test_a_name_of_this_machine_is_not_public_however_it_is_written(host: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        public_address(f"https://{host}:9/")


@pytest.mark.parametrize(
    "host",
    [
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "[2002:7f00:1::]",
        "[fd00::1]",
        "a.localhost",
        "db.internal",
        "localhost.",
    ],
)
def test_private_addresses_are_refused_as_they_are_written(host: str) -> None:
    with pytest.raises(ForbiddenTargetError):
        refuse_private_literal(f"https://{host}/")
    refuse_private_literal("https://receiver.example/")
    refuse_private_literal("https://93.184.216.34/")


def test_webhooks_are_signed_as_published() -> None:
    # The test vector that the libraries of Standard Webhooks share
    signature = webhook_signature(
        webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s=1_614_265_330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
