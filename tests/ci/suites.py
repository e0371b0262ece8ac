"""Suites and services that tests of CI start from."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.ci.events import REPOSITORY, SECRET
from tests.samples import job

from noisefloor.settings import Settings

SUITES = "/v1/projects/demo/suites"
GITHUB, GITLAB = "/v1/hooks/github", "/v1/hooks/gitlab"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GITLAB_PROJECT = "Group/Sub/Project"


def suite(**changes: Any) -> dict[str, Any]:
    """A suite that measures one cell of each head of the recorded repository."""
    return {"provider": "github", "repository": REPOSITORY, "job": job()} | changes


def with_secrets(settings: Settings, **changes: Any) -> Settings:
    """Settings under which hooks are taken."""
    given = {
        "github_webhook_secrets": f"old,{SECRET}",
        "gitlab_webhook_secrets": f"token,{WHSEC}",
        "webhook_allow_private": True,
        "delivery_timeout_s": 5.0,
        "delivery_backoff_s": 0.0,
        "github_token": "t0ken",
        "gitlab_token": "gl-t0ken",
        "public_url": "https://noisefloor.example",
    }
    return Settings.model_validate({**settings.model_dump(), **given, **changes})


def write_app_key(path: Path) -> rsa.RSAPublicKey:
    """Write a GitHub App's key as GitHub gives it; its public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return key.public_key()
