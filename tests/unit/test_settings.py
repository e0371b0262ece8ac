"""What an operator may not do."""

import pytest

from noisefloor.cli.options import settings
from noisefloor.errors import SettingsError


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_binding_off_loopback_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="NOISEFLOOR_TOKEN"):
        settings(host=host)
    assert settings(host=host, token="t").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert settings(host=host).token is None


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="token"):
        settings(token=" ")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISEFLOOR_IMPORT_ALLOW", "a.b, c")
    monkeypatch.setenv("NOISEFLOOR_SLOTS", "3")
    assert settings().import_allow == ("a.b", "c")
    assert settings(slots=5).slots == 5


def test_a_setting_out_of_range_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"slots.*greater than or equal to 1"):
        settings(slots=0)
