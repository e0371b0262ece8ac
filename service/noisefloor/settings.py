"""Settings, from the environment (`NOISEFLOOR_…`) and the command line."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from noisefloor.ci.signatures import SECRET_PREFIX, webhook_key

DEFAULT_DATABASE = "sqlite:///.noisefloor/noisefloor.db"
DEFAULT_PORT = 8642

Secrets = Annotated[tuple[SecretStr, ...], NoDecode]
Base = Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$", description="address of the API")]


class Settings(BaseSettings):
    """What an operator decides."""

    model_config = SettingsConfigDict(env_prefix="NOISEFLOOR_", frozen=True, extra="forbid")

    database: str = Field(default=DEFAULT_DATABASE, description="sqlite:///path or postgresql://…")
    token: SecretStr | None = Field(default=None, description="bearer token; needed off loopback")
    host: str = "127.0.0.1"
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65_535)
    import_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="modules that subjects may be imported from, comma-separated; submodules included",
    )
    files: Path | None = Field(
        default=None, description="folder of the safetensors files that subjects may name; none without it"
    )
    log: Literal["text", "json"] = Field(default="text", description="lines for people, or JSON objects")
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        default=None, description="of our own records; without it info as JSON, and warning as text"
    )
    drain_s: float = Field(
        default=2.0, ge=0, le=20, description="a service that was told to stop answers for so long, not ready"
    )
    stop_s: int = Field(default=30, ge=1, description="what has not stopped by then is ended hard")
    slots: int = Field(default=1, ge=1, le=256, description="shards measured at once by the embedded worker")
    max_cells: int = Field(default=10_000, ge=1, description="cells in one job")
    max_queued_cells: int = Field(default=100_000, ge=1, description="cells that wait, over all projects")
    max_body_bytes: int = Field(default=2**20, ge=1024)
    max_results_bytes: int = Field(
        default=64 * 2**20, ge=1024, description="of results that were measured elsewhere, with their layers"
    )
    max_waiters: int = Field(default=16, ge=1, description="requests that may wait or stream at once")
    max_hook_bytes: int = Field(default=25 * 2**20, ge=1024, description="GitHub sends 25 MB at most")
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^\s?#/]$")] | None = Field(
        default=None, description="where people find this service: statuses link to it"
    )
    github_webhook_secrets: Secrets = Field(default=(), description="any of them signs; comma-separated")
    github_token: SecretStr | None = Field(default=None, description="sends commit statuses")
    github_app_id: str | None = Field(default=None, description="id or client id: sends check runs instead")
    github_app_key_file: Path | None = Field(default=None, description="the App's private key, PEM")
    github_api: Base = "https://api.github.com"
    gitlab_webhook_secrets: Secrets = Field(
        default=(), description="signing tokens (whsec_…) and secret tokens; comma-separated"
    )
    gitlab_token: SecretStr | None = Field(default=None, description="sends commit statuses")
    gitlab_api: Base = "https://gitlab.com/api/v4"
    webhook_allow_private: bool = Field(
        default=False, description="webhooks may go to loopback and private addresses, and without TLS"
    )
    delivery_timeout_s: float = Field(default=10.0, gt=0, le=20, description="for one request, whole")
    delivery_tries: int = Field(default=12, ge=1, le=50)
    delivery_backoff_s: float = Field(
        default=5.0, ge=0, le=3600, description="before the second try; doubled before each next one"
    )
    failpoints: str = Field(default="", description="where this process dies or fails, in tests")

    @field_validator("import_allow", "github_webhook_secrets", "gitlab_webhook_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("files", mode="before")
    @classmethod
    def _files_is_not_empty(cls, value: object) -> object:
        if value == "":
            raise ValueError("an empty files would be the current folder: unset it, or name one")
        return value

    @field_validator("token", "github_token", "gitlab_token")
    @classmethod
    def _token_is_not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().strip():
            raise ValueError("an empty token guards nothing: unset it, or give one")
        return value

    @field_validator("gitlab_webhook_secrets")
    @classmethod
    def _signing_tokens_are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            if secret.get_secret_value().startswith(SECRET_PREFIX):
                webhook_key(secret.get_secret_value())
        return value

    @model_validator(mode="after")
    def _app_is_whole(self) -> Self:
        if (self.github_app_id is None) != (self.github_app_key_file is None):
            raise ValueError("github_app_id and github_app_key_file go together")
        return self

    @model_validator(mode="after")
    def _guarded_off_loopback(self) -> Self:
        if self.token is None and not self.on_loopback:
            raise ValueError(
                f"host {self.host} is reachable from other machines: set NOISEFLOOR_TOKEN, or use 127.0.0.1"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def sqlite_path(self) -> Path | None:
        """Where the SQLite file is, if the database is one."""
        prefix = "sqlite:///"
        return Path(self.database.removeprefix(prefix)) if self.database.startswith(prefix) else None
