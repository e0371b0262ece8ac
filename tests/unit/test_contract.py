"""What a job document is refused for, and that what is accepted survives a round trip."""

import json

import pytest
from pydantic import ValidationError
from tests.samples import job, small_data, spec

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import JobSpec
from noisefloor.contract.policy import Policy
from noisefloor.contract.subject import Seeds
from noisefloor.problems import invalid_request


def refused(document: object) -> dict[str, tuple[str, list[object] | None]]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(document)
    problem = invalid_request(caught.value.errors())
    return {error.field: (error.message, error.accepted) for error in problem.errors}


def test_a_misspelt_key_is_named_with_the_nearest_one_and_all_that_are_accepted() -> None:
    message, accepted = refused(job(lanes={"engines": ["x86"]}))["lanes.engines"]
    assert "did you mean 'engine'" in message
    assert accepted == ["engine", "device", "isa", "threads"]


@pytest.mark.parametrize(
    ("changes", "field", "accepted"),
    [
        (
            {"subjects": [{"zoo": "resnet-9000", "data": small_data()}]},
            "subjects.0.zoo",
            ["multiple-ops", "multiple-ops-no-avgpool"],
        ),
        ({"lanes": {"engine": ["gemmlowp"]}}, "lanes.engine.0", ["qnnpack", "onednn", "x86", "fbgemm"]),
        (
            {"schemes": [{"flow": "eager", "mode": "magic", "edge": "float32->true"}]},
            "schemes.0.mode",
            ["static", "dynamic", "qat", "weight_only", "activation_only"],
        ),
        ({"lanes": {"engine": []}}, "lanes.engine", ["length ≥ 1"]),
        ({"priority": 101}, "priority", ["≤ 100"]),
        ({"version": 2}, "version", ["1"]),
    ],
)
def test_what_is_not_known_is_named_with_what_is_accepted(
    changes: dict[str, object], field: str, accepted: list[str]
) -> None:
    assert refused(job(**changes))[field][1] == accepted


@pytest.mark.parametrize("seeds", [{"model": -1}, {"stream": -42}])
def test_a_negative_seed_is_refused(seeds: dict[str, int]) -> None:
    subject = {"zoo": "multiple-ops", "seeds": seeds, "data": small_data()}
    assert refused(job(subjects=[subject])).popitem()[1][1] == ["≥ 0"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    data = small_data()
    data["evaluation"]["low"] = value
    found = refused(job(subjects=[{"zoo": "multiple-ops", "data": data}]))
    assert "finite" in found["subjects.0.data.evaluation.low"][0]


@pytest.mark.parametrize("sources", [{}, {"zoo": "multiple-ops", "import": "a:b"}])
def test_a_subject_has_one_source(sources: dict[str, str]) -> None:
    assert "one source" in refused(job(subjects=[{**sources, "data": small_data()}]))["subjects.0"][0]


def test_a_floor_must_stand_under_an_edge_that_is_measured() -> None:
    scheme = {"flow": "eager", "mode": "qat", "edge": "float32->fake", "floor_db": {"fake->true": 60}}
    assert "not among the edges" in refused(job(schemes=[scheme]))["schemes.0"][0]


def test_one_floor_for_several_edges_is_refused() -> None:
    scheme = {"flow": "eager", "mode": "qat", "edges": ["float32->fake", "fake->true"], "floor_db": 60}
    assert "mapping" in refused(job(schemes=[scheme]))["schemes.0"][0]


def test_the_same_cell_twice_is_refused() -> None:
    assert "repeats x86" in refused(job(lanes={"engine": ["x86", "x86"]}))["lanes"][0]
    assert "repeats" in refused(job(schemes=job()["schemes"] * 2))["(whole)"][0]


def test_stream_and_single_seeds_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Seeds(stream=1, model=7)


def test_a_nul_character_is_refused() -> None:
    assert "name" in refused(job(name="a\x00b"))


def test_no_irregular_outcome_can_be_set_to_pass() -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate({"on": {"nonfinite": "pass"}})


def test_a_value_belongs_to_a_finite_figure_only() -> None:
    with pytest.raises(ValidationError):
        Figure(value=1.0, kind=FigureKind.EXACT)
    with pytest.raises(ValidationError):
        Figure(kind=FigureKind.FINITE)
    with pytest.raises(ValidationError):
        Figure.finite(float("inf"))


@pytest.mark.parametrize("exclude_defaults", [True, False])
def test_a_job_survives_a_round_trip(exclude_defaults: bool) -> None:  # noqa: FBT001 - a parameter of the test
    seeds = {"stream": 67, "order": ["calibration", "evaluation", "model"]}
    written = spec(subjects=[{"zoo": "multiple-ops", "seeds": seeds, "data": small_data()}])
    text = written.model_dump_json(by_alias=True, exclude_defaults=exclude_defaults)
    assert JobSpec.model_validate(json.loads(text)) == written
