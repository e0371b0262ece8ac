"""What stands over the command that reproduces a cell: only what is true of that cell."""

from typing import Any

import pytest
from tests.samples import ENVIRONMENT, imported, job, small_data

from noisefloor import plan
from noisefloor.contract.figure import Figure
from noisefloor.contract.files import Files
from noisefloor.contract.job import CellStatus, Git, JobSpec
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.dashboard.repro import repro

GIT = Git(repository="acme/models", sha="a04143084" + "0" * 31)
AVX512 = ENVIRONMENT.replace(isa="AVX512", cpu="Xeon").model_dump(mode="json")
AVX2 = ENVIRONMENT.replace(cpu="Core").model_dump(mode="json")
CAP = 'A processor with more is held at AVX2 where "isa":["avx2"] stands in its "lanes".'


def measured(db: float | None = 29.628, **changes: Any) -> MeasurementView:
    figure = Figure.finite(db) if db is not None else Figure(kind="exact")
    return MeasurementView(
        **{"edge": "float32->true", "figure": figure, "series": "0" * 32, "id": "m", **changes}
    )


def cell(document: dict[str, Any], *measurements: MeasurementView) -> CellView:
    spec = JobSpec.model_validate(document)
    first = next(plan.cells(spec))
    command = plan.repro(first, limits=spec.limits, analysis=spec.analysis)
    return CellView(id="c", **dict(first), status=CellStatus.DONE, measurements=measurements, repro=command)


FLOORLESS = {"flow": "eager", "mode": "static", "edge": "float32->true"}


def test_a_model_of_the_repository_needs_its_commit() -> None:
    said = repro(cell(imported("stacks:linear_stack"), measured(41.5)), GIT, AVX512).told
    checkout = "In a checkout of acme/models at a04143084 (git checkout a04143084)"
    assert said == f"{checkout}, with torch 2.13.0 on AVX512 (Xeon), it prints 41.500 dB."
    changed = repro(cell(imported("stacks:linear_stack"), measured()), GIT.replace(dirty=True), AVX512).told
    assert f"{checkout}, with the changes that were not committed, with torch" in changed
    unnamed = repro(cell(imported("stacks:linear_stack"), measured()), Git(), AVX512).told
    assert unnamed.startswith("In a checkout, at a commit that the job does not name, with torch")


def test_a_model_of_the_zoo_needs_no_checkout() -> None:
    said = repro(cell(job(), measured(41.5)), GIT, AVX512).told
    assert said == "With torch 2.13.0 on AVX512 (Xeon), it prints 41.500 dB."


def test_a_plugin_of_the_repository_needs_its_commit() -> None:
    ours = cell(job(), measured(41.5)).replace(files=Files(commit=GIT.sha))
    assert repro(ours, GIT, AVX512).told.startswith("In a checkout of acme/models at a04143084")


def test_files_are_named_and_pinned_ones_need_no_commit() -> None:
    pinned = {"safetensors": "acme/w.safetensors", "sha256": "0" * 64}
    subject = {"zoo": "multiple-ops", "data": small_data()}
    said = repro(cell(job(subjects=[{**subject, "weights": pinned}]), measured()), GIT, AVX512).told
    assert said.startswith("With acme/w.safetensors below NOISEFLOOR_FILES or below the folder, with torch")
    free = {"safetensors": "acme/w.safetensors"}
    said = repro(cell(job(subjects=[{**subject, "weights": free}]), measured()), GIT, AVX512).told
    assert said.startswith("In a checkout of acme/models at a04143084 (git checkout a04143084), with acme/w.")


def test_a_loss_that_no_floor_of_the_command_sees_is_said_not_to_fail_it() -> None:
    finding = Finding(verdict=Verdict.REGRESSED, rule="max_drop_db", message="", drop_db=3.96)
    lost = measured(finding=finding)
    blind = repro(cell(job(schemes=[FLOORLESS]), lost), GIT, AVX512, lost).told
    assert blind.endswith(
        "it prints 29.628 dB. It judges its own floors alone, not what was lost since the baseline: "
        "look at the figure."
    )
    seen = repro(cell(job(), lost), GIT, AVX512, lost).told  # its floor is 30 dB
    assert seen.endswith("it prints 29.628 dB. It exits with 1, for a floor of its own is above that.")


def test_the_one_figure_that_is_looked_for_is_told_or_else_all_of_the_outputs() -> None:
    edges = {"flow": "eager", "mode": "qat", "edges": ["float32->fake", "fake->true"]}
    both = measured(45, edge="float32->fake"), measured(None, id="n", edge="fake->true")
    place = measured(12, id="p", place="leaf 0", edge="fake->true")
    of = cell(job(schemes=[edges]), *both, place)
    arrow = "\N{NARROW NO-BREAK SPACE}→\N{NARROW NO-BREAK SPACE}"
    told_all = f"it prints 45.000 dB for float32{arrow}fake, exact for fake{arrow}true."
    assert told_all in repro(of, GIT, AVX512).told
    assert "it prints exact." in repro(of, GIT, AVX512, both[1]).told
    assert told_all in repro(of, GIT, AVX512, place).told


@pytest.mark.parametrize(
    ("isa", "document", "offered"),
    [
        ("native", AVX2, True),
        ("native", AVX512, False),  # it may be with VNNI, or without
        ("avx2", {**AVX2, "isa_cap": "avx2"}, False),
        ("native", {**AVX2, "isa_cap": "other"}, False),
        ("native", {**AVX2, "gpu": "H200"}, False),
    ],
)
def test_a_cap_is_offered_where_it_holds_other_processors_down(
    isa: str, document: dict[str, Any], *, offered: bool
) -> None:
    said = repro(cell(job(lanes={"engine": ["x86"], "isa": [isa]}), measured(41.5)), GIT, document).told
    assert said.endswith(CAP) == offered


def test_what_was_not_measured_has_nothing_to_expect() -> None:
    assert repro(cell(job()), Git(), None).told == ""
    crashed = repro(cell(imported("stacks:linear_stack")), GIT, None).told
    assert crashed == "In a checkout of acme/models at a04143084 (git checkout a04143084)."


def test_plugins_are_versions_that_it_needs() -> None:
    said = repro(cell(job(), measured(41.5)), GIT, {**AVX512, "plugins": {"acme": "1.0"}}).told
    assert said == "With torch 2.13.0, acme 1.0 on AVX512 (Xeon), it prints 41.500 dB."
