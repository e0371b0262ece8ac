"""A report as a person reads it."""

import pytest
from tests.unit.test_junit import LACKING

from noisefloor.cli.report import print_verdict


def test_every_missing_series_has_a_line_above_what_is_less_grave(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict(LACKING)
    lines = capsys.readouterr().out.splitlines()
    for absence, line in zip(LACKING.missing, lines, strict=False):
        assert line.startswith(f"{absence.label}: missing: the baseline had 41.500 dB")
    assert "qnnpack" in lines[len(LACKING.missing)]
