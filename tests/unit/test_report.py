"""A report as a person reads it."""

import pytest
from tests.reports import TODAY, failed, layers, reported
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


def test_cells_that_failed_alike_are_told_once_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    trace = 'Traceback (most recent call last):\n  File "load.py", line 1\nValueError: broken'
    alike = [
        failed(number, traceback=trace).replace(reason="ValueError: broken\n on [b]purpose[/b]")
        for number in (0, 1)
    ]
    print_verdict(reported(*alike, policy={}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("x86 and 1 more cell: failed: ValueError: broken on [b]purpose[/b]")
    assert lines[1] == "  the traceback is in --format json"
    assert lines[2].startswith("  reproduce: ")
    assert lines[3].startswith("verdict:  error (2 error;")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("", "  is it on PYTHONPATH?"),
        ("0" * 26, f"  is it on the worker's PYTHONPATH? Then: noisefloor retry {'0' * 26}"),
    ],
)
def test_a_module_that_is_not_found_is_asked_for(
    capsys: pytest.CaptureFixture[str], job: str, said: str
) -> None:
    cell = failed(0).replace(reason="ModuleNotFoundError: No module named 'nosuch'")
    report = reported(cell, policy={})
    print_verdict(report.replace(cells=tuple(one.replace(job_id=job) for one in report.cells)))
    assert capsys.readouterr().out.splitlines()[1] == said
