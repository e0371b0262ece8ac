"""The answer of one minute."""

from tests.reports import NEWER, TODAY, failed, layers, reported
from tests.samples import result, spec
from tests.unit.test_junit import LACKING

from noisefloor.contract.attribution import AttributionView, Corner, Square
from noisefloor.contract.figure import Figure
from noisefloor.contract.verdict import Verdict
from noisefloor.gate.attribution import attribute
from noisefloor.gate.markdown import escaped
from noisefloor.gate.saved import judged
from noisefloor.gate.summary import Loss, Summary, markdown, summary

SAVED = reported(
    result("0", 41.5, layers=layers(conv=50.0, fc=45.0)), 41.5, git={"sha": "ab" * 20, "branch": "main"}
)
FC_LOST = "fc (Linear) lost 6.000 dB: its own error was at 45.000 dB and is at 39.000 dB"


def test_the_worst_series_comes_first_with_its_layer_cause_and_baseline() -> None:
    now = reported(result("0", 38.5, layers=layers(conv=50.0, fc=39.0)), 40.5)
    said = summary(judged(now, SAVED, today=TODAY), SAVED)
    worst, other = said.losses
    assert worst.where.endswith("x86 · float32->true")
    assert worst.lost_db == 3.0
    assert worst.layer == FC_LOST
    assert worst.cause == "code or config: the environment is the same"
    assert worst.repro.endswith("| noisefloor run -")
    assert (other.lost_db, other.layer) == (1.0, None)
    table = markdown(said)
    assert "## nightly: Regressed" in table
    row = next(line for line in table.splitlines() if "x86" in line and line.startswith("| multiple"))
    assert f"38.500 | 3.000 | {FC_LOST}" in row
    assert "41.500 at abababababab" in row
    assert f"```sh\n{worst.repro}\n```" in table


def test_a_loss_in_another_environment_is_not_put_down_to_the_code() -> None:
    now = reported(result("0", 38.5, environment=NEWER), 41.5)
    (loss,) = summary(judged(now, SAVED, today=TODAY), SAVED).losses
    assert loss.cause == "the environment changed, the code may have too"


def test_the_cause_is_the_attributions_until_it_is_judged_against_something_else() -> None:
    corner = Corner(sha="a", environment=None, how="measured", figure=Figure.finite(41.5))
    worse = corner.replace(sha="b", figure=Figure.finite(38.5))
    split = attribute(Square(old_in_old=corner, old_in_new=worse, new_in_old=corner, new_in_new=worse))
    lost = judged(reported(38.5), SAVED, today=TODAY)
    measured = lost.cells[0].measurements[0]
    view = AttributionView(
        measurement=measured.id, cell=lost.cells[0].id, series=measured.series, attribution=split
    )
    told = lost.replace(attributions=(view,))
    said = "the environment: code 0.000 dB, environment 3.000 dB, interaction 0.000 dB"
    assert summary(told, SAVED).losses[0].cause == said
    assert f"| {said} |" in markdown(summary(told, SAVED))
    again = summary(judged(told, SAVED, today=TODAY), SAVED)
    assert again.losses[0].cause == "code or config: the environment is the same"


def test_without_a_layer_before_the_noisiest_is_named() -> None:
    now = reported(result("0", 29.0, layers=layers(conv=50.0, fc=30.0)), policy={})
    (loss,) = summary(now).losses
    assert loss.layer == "fc (Linear) has 99% of the layers' own errors"
    assert (loss.lost_db, loss.cause) == (1.0, "not known")
    assert "floor 30.000" in markdown(summary(now))


def test_a_cell_without_a_figure_is_told_with_its_reason() -> None:
    said = markdown(summary(reported(41.5, failed(1), policy={})))
    assert "Could not evaluate" in said
    assert "failed: why" in said


def test_what_passes_is_one_line_and_no_table() -> None:
    assert markdown(summary(reported(41.5, policy={}, name=""))) == (
        "## Every rule holds\n\n**pass**: 1 pass\n"
    )


def test_more_than_is_shown_is_counted() -> None:
    said = summary(judged(reported(38.5, 40.5), SAVED, today=TODAY), SAVED, shown=1)
    assert (len(said.losses), said.more) == (1, 1)
    assert "1 more finding is not a pass." in markdown(said)


def test_every_missing_series_has_a_row_above_what_is_less_grave() -> None:
    said = summary(LACKING, shown=1)
    assert [(loss.missing, loss.verdict.value) for loss in said.losses] == [(True, "regressed")] * 2
    assert said.more == 1
    table = markdown(said)
    for absence in LACKING.missing:
        assert f"| {escaped(absence.label)} | – | – | – | – | 41.500 | regressed: missing:" in table
    assert "1 more finding is not a pass." in table


def test_names_cannot_write_markdown_or_close_the_fence() -> None:
    loss = Loss(
        where="a|b `c` <img> [x](y)\n# d",
        verdict=Verdict.REGRESSED,
        message="*bold* | @me",
        repro="printf '```' | noisefloor run -",
    )
    said = markdown(Summary(name="<b>", verdict=Verdict.REGRESSED, message="m", losses=(loss,)))
    assert "a\\|b \\`c\\` \\<img\\> \\[x\\](y) \\# d" in said
    assert "\n# d" not in said
    assert "````sh\nprintf '```' | noisefloor run -\n````" in said


def test_a_repro_too_long_for_a_page_is_left_out() -> None:
    subjects = [
        {
            "zoo": "multiple-ops",
            "args": {f"a{n}": "x" * 500 for n in range(10)},
            "data": spec().subjects[0].model_dump(exclude_defaults=True)["data"],
        }
    ]
    said = markdown(summary(reported(29.0, subjects=subjects)))
    assert "Measure it again" not in said
