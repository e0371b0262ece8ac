"""A report as a person reads it."""

import pytest
from tests.reports import TODAY, layers, reported
from tests.samples import result
from tests.unit.test_junit import LACKING

from noisefloor.cli.report import print_verdict
from noisefloor.gate.saved import judged


def test_every_missing_series_has_a_line_above_what_is_less_grave(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict(LACKING)
    lines = capsys.readouterr().out.splitlines()
    for absence, line in zip(LACKING.missing, lines, strict=False):
        assert line.startswith(f"{absence.label}: missing: the baseline had 41.500 dB")
    assert "qnnpack" in lines[len(LACKING.missing)]


def test_a_loss_names_layer_and_cause_once_an_edge(capsys: pytest.CaptureFixture[str]) -> None:
    saved = reported(result("0", 41.5, layers=layers(conv=30.0, fc=45.0)))
    lost = judged(reported(result("0", 38.5, layers=layers(conv=30.0, fc=39.0))), saved, today=TODAY)
    print_verdict(lost, saved)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "  cause: code or config: the environment is the same",
        "  float32->true: fc (Linear) lost 6.000 dB: its own error was at 45.000 dB and is at 39.000 dB",
    ]
