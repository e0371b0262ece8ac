"""What checks and statuses say, and how verdicts map to them."""

from datetime import UTC, datetime

import pytest

from noisefloor.ci import github_status, gitlab_status
from noisefloor.ci.summary import DESCRIPTION_LENGTH, SUMMARY_LENGTH, description, markdown, title
from noisefloor.contract.delivery import Announcement, Loss, Reasons
from noisefloor.contract.figure import Figure
from noisefloor.contract.verdict import Baseline, Verdict

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def told(
    verdict: Verdict = Verdict.REGRESSED, message: str = "1 regressed; m: 38 dB against 41 dB"
) -> Announcement:
    return Announcement(sequence=1, at=NOW, project="demo", job="0" * 26, verdict=verdict, message=message)


def loss(**changes: object) -> Loss:
    baseline = Baseline(
        measurement_id="m", job_id="j", figure=Figure.finite(41.0), sha="a" * 40, measured_at=NOW
    )
    values: dict[str, object] = {
        "where": "multiple-ops · eager static · x86 · float32->true",
        "verdict": Verdict.REGRESSED,
        "message": "38.000 dB against 41.000 dB: a drop of 3.000 dB, 0.500 allowed",
        "figure": Figure.finite(38.0),
        "drop_db": 3.0,
        "baseline": baseline,
        "layer": "fc (Linear) lost 3.100 dB: its own error was at 42.000 dB and is at 38.900 dB",
        "cause": "the environment: code 0.000 dB, environment 3.000 dB",
        "repro": "printf %s '{}' | noisefloor run -",
    }
    return Loss.model_validate(values | changes)


def test_the_summary_is_the_answer_of_one_minute() -> None:
    text = markdown(told(), Reasons(losses=(loss(),), more=2), "https://n.example/projects/demo/jobs/0")
    assert text == (
        "**regressed**: 1 regressed; m: 38 dB against 41 dB\n\n"
        "### multiple-ops · eager static · x86 · float32-\\>true\n\n"
        "- **regressed**: 38.000 dB against 41.000 dB: a drop of 3.000 dB, 0.500 allowed\n"
        "- lost: 3.000 dB against the baseline\n"
        "- layer: fc (Linear) lost 3.100 dB: its own error was at 42.000 dB and is at 38.900 dB\n"
        "- cause: the environment: code 0.000 dB, environment 3.000 dB\n"
        "- baseline: 41.000 dB at aaaaaaaaaaaa, 2026-11-24 12:00 UTC\n\n"
        "Measure it again:\n"
        "```sh\nprintf %s '{}' | noisefloor run -\n```\n\n"
        "2 more findings are not a pass.\n\n"
        "[The job](https://n.example/projects/demo/jobs/0)"
    )
    assert title(told(), Reasons(losses=(loss(),))) == "Regressed: 3.000 dB against the baseline"


def test_names_of_models_are_not_markdown() -> None:
    text = markdown(told(message="@team <img src=x> [a](b)"), Reasons(losses=(loss(where="`*_#"),)), None)
    assert "\\@team \\<img src=x\\> \\[a\\](b)" in text
    assert "### \\`\\*\\_\\#" in text


def test_a_repro_command_cannot_end_its_own_fence() -> None:
    text = markdown(told(), Reasons(losses=(loss(repro="echo '```'"),)), None)
    assert "````sh\necho '```'\n````" in text


def test_everything_fits_what_providers_take() -> None:
    long = Reasons(losses=tuple(loss(message="x" * 30_000) for _ in range(5)))
    text = markdown(told(message="y" * 60_000), long, "https://n.example/j")
    assert len(text) <= SUMMARY_LENGTH
    assert text.endswith("[The job](https://n.example/j)")
    assert text.count("```") % 2 == 0
    assert len(description(told(message="z" * 500), long)) == DESCRIPTION_LENGTH


MAPPING = [
    # verdict, check's conclusion, GitHub's state, GitLab's state: the design's table
    (Verdict.PASS, "success", "success", "success"),
    (Verdict.ACKNOWLEDGED, "success", "success", "success"),
    (Verdict.WARN, "neutral", "success", "success"),
    (Verdict.REGRESSED, "failure", "failure", "failed"),
    (Verdict.ERROR, "failure", "error", "failed"),
    (Verdict.NO_BASELINE, "action_required", "failure", "failed"),
    (Verdict.PENDING, None, "pending", "pending"),
]


@pytest.mark.parametrize(("verdict", "conclusion", "on_github", "on_gitlab"), MAPPING)
def test_verdicts_map_to_what_lets_a_merge_through_only_where_they_should(
    verdict: Verdict, conclusion: str | None, on_github: str, on_gitlab: str
) -> None:
    assert github_status.CONCLUSIONS.get(verdict) == conclusion
    assert github_status.STATES[verdict] == on_github
    assert gitlab_status.STATES[verdict] == on_gitlab


def test_every_verdict_is_mapped() -> None:
    assert {verdict for verdict, *_ in MAPPING} == set(Verdict)


def test_creep_is_told_from_a_drop_and_who_let_it_through_is_said() -> None:
    crept = loss(drop_db=0.281, creep_db=1.451, let_through="acceptance by ada: a smaller model")
    said = markdown(told(), Reasons(losses=(crept,)), None)
    assert "1.451 dB since the release" in said
    assert "let through: acceptance by ada" in said
