"""What a job document is refused for, and that what is accepted survives a round trip."""

import json
from typing import Any, get_args

import jsonschema
import pytest
from pydantic import ValidationError
from tests.samples import job, small_data, spec

from noisefloor.cli.options import settings
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import PRIORITIES, JobSpec
from noisefloor.contract.lane import Engine
from noisefloor.contract.policy import Policy
from noisefloor.contract.subject import Inputs, Seeds, Subject
from noisefloor.dashboard.words import subject_words
from noisefloor.errors import NotAllowedError, SettingsError
from noisefloor.identity import canonical
from noisefloor.problems import invalid_request
from noisefloor.settings import Settings
from noisefloor.workflow.check import check

ZOO = ["multiple-ops", "multiple-ops-no-avgpool", "bert", "gpt2", "vit", "resnet", "mobilenet-v2"]
TOKENS = {"shape": [2, 16], "distribution": "integers", "high": 128}
SHA256 = "0123456789abcdef" * 4
FORMS: dict[str, dict[str, Any]] = {
    "flat": {"shape": [2, 3], "distribution": "normal", "low": 1, "high": 3},
    "args": {"args": [TOKENS, {"shape": [2, 4], "low": -1}]},
    "kwargs": {"kwargs": {"input_ids": TOKENS, "attention_mask": {"shape": [2, 16]}}},
    "both": {"args": [TOKENS], "kwargs": {"attention_mask": {"shape": [2, 16]}}},
    "file": {"safetensors": "bert/inputs.safetensors", "batch": 2},
    "digest": {"safetensors": "inputs.safetensors", "batch": 2, "sha256": SHA256},
}


def refused(document: object) -> dict[str, tuple[str, list[object] | None]]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(document)
    problem = invalid_request(caught.value.errors())
    return {error.field: (error.message, error.accepted) for error in problem.errors}


def test_a_misspelt_key_is_named_with_the_nearest_one_and_all_that_are_accepted() -> None:
    message, accepted = refused(job(lanes={"engines": ["x86"]}))["lanes.engines"]
    assert "did you mean 'engine'" in message
    assert accepted == ["engine", "device", "isa", "threads"]
    scheme = {"flow": "eager", "mode": "static", "edg": "float32->true"}
    message, accepted = refused(job(schemes=[scheme]))["schemes.0.edg"]
    assert "did you mean 'edge'" in message
    assert accepted is not None
    assert {"edge", "edges"} <= set(accepted)


@pytest.mark.parametrize(
    ("changes", "field", "accepted"),
    [
        (
            {"subjects": [{"zoo": "resnet-9000", "data": small_data()}]},
            "subjects.0.zoo",
            ZOO,
        ),
        ({"lanes": {"engine": ["gemmlowp"]}}, "lanes.engine.0", list(get_args(Engine))),
        (
            {"schemes": [{"flow": "eager", "mode": "magic", "edge": "float32->true"}]},
            "schemes.0.mode",
            [
                *("static", "dynamic", "qat", "weight_only", "activation_only"),
                *("forward", "backward", "quick", "full"),
            ],
        ),
        ({"lanes": {"engine": []}}, "lanes.engine", ["length ≥ 1"]),
        ({"priority": 101}, "priority", ["≤ 100"]),
        ({"priority": "urgent"}, "priority", ["gate", "nightly", "bisect", "0 to 100"]),
        ({"version": 2}, "version", ["1"]),
        ({"torch": "1" * 511}, "torch", ["length ≤ 512"]),
        ({"torch": "1" * 513}, "torch", ["length ≤ 512"]),
    ],
)
def test_what_is_not_known_is_named_with_what_is_accepted(
    changes: dict[str, object], field: str, accepted: list[str]
) -> None:
    assert refused(job(**changes))[field][1] == accepted


def test_a_word_for_a_priority_is_its_number() -> None:
    given = {
        word: JobSpec.model_validate(job(priority=word)).priority for word in ("gate", "nightly", "bisect")
    }
    assert given == PRIORITIES
    assert PRIORITIES["gate"] > JobSpec.model_validate(job()).priority > PRIORITIES["nightly"]
    written, number = (JobSpec.model_validate(job(priority=p)) for p in ("gate", PRIORITIES["gate"]))
    assert canonical(written.model_dump(mode="json")) == canonical(number.model_dump(mode="json"))


def test_the_longest_version_is_read_back_as_it_was_written() -> None:
    written = JobSpec.model_validate(job(torch="1" * 510))
    assert JobSpec.model_validate_json(written.model_dump_json(by_alias=True)) == written


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


@pytest.mark.parametrize("floor", ["1e9", "high", None, [30]])
def test_a_floor_that_is_no_number_is_told_what_it_may_be(floor: object) -> None:
    scheme = {"flow": "eager", "mode": "qat", "edge": "float32->fake", "floor_db": floor}
    found = refused(job(schemes=[scheme]))["schemes.0.floor_db"]
    assert found[0] == "give a number, or a mapping from edge to number"


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


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("exclude_defaults", [True, False])
def test_every_form_of_inputs_survives_a_round_trip_and_fits_the_schema(
    *, form: dict[str, Any], exclude_defaults: bool
) -> None:
    document = job(subjects=[with_inputs(form, weights={"safetensors": "w.safetensors", "sha256": SHA256})])
    written = JobSpec.model_validate(document)
    text = written.model_dump_json(by_alias=True, exclude_defaults=exclude_defaults)

    assert JobSpec.model_validate(json.loads(text)) == written
    assert written.subjects[0].data.evaluation.samples == 2
    jsonschema.Draft202012Validator(JobSpec.model_json_schema(by_alias=True)).validate(document)


def with_inputs(evaluation: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"zoo": "bert", "data": {"calibration": TOKENS, "evaluation": evaluation}, **changes}


INPUTS = "subjects.0.data.evaluation"


@pytest.mark.parametrize(
    ("form", "field", "message"),
    [
        ({}, INPUTS, "a shape, args and kwargs, or a safetensors file; given: none"),
        ({"shape": [2], "args": [TOKENS]}, INPUTS, "given: shape, args"),
        ({"args": [TOKENS], "safetensors": "a", "batch": 2}, INPUTS, "given: args, safetensors"),
        ({"args": [TOKENS], "low": 3, "high": 4}, INPUTS, "high belongs to shape"),
        ({"args": [TOKENS, {"shape": [3]}]}, INPUTS, "the same batch in their first dimension; given: 2, 3"),
        ({"safetensors": "a"}, INPUTS, "safetensors and batch go together"),
        ({"shape": [2], "batch": 2}, INPUTS, "safetensors and batch go together"),
        ({"shape": [2], "sha256": SHA256}, INPUTS, "sha256 belongs to safetensors"),
        ({"safetensors": "../a", "batch": 2}, f"{INPUTS}.safetensors", "should match pattern"),
        ({"safetensors": "/a", "batch": 2}, f"{INPUTS}.safetensors", "should match pattern"),
        ({"safetensors": "a/./b", "batch": 2}, f"{INPUTS}.safetensors", "should match pattern"),
        ({"safetensors": "a\n", "batch": 2}, f"{INPUTS}.safetensors", "should match pattern"),
        ({"safetensors": "a", "batch": 2, "sha256": "f" * 63}, f"{INPUTS}.sha256", "should match pattern"),
        ({"kwargs": {"input ids": TOKENS}}, f"{INPUTS}.kwargs.input ids.[key]", "should match pattern"),
        ({"args": [{"shape": []}]}, f"{INPUTS}.args.0.shape", "at least 1"),
        ({"shape": [2], "distribution": "poisson"}, f"{INPUTS}.distribution", "'integers'"),
        ({**TOKENS, "high": 2.5}, INPUTS, "no integers from 0 to below 2.5: give whole numbers"),
        ({**TOKENS, "high": 0}, INPUTS, "no integers from 0 to below 0"),
        ({**TOKENS, "high": 2**54}, INPUTS, "whole numbers within ±2\N{ASTERISK}\N{ASTERISK}53"),
        ({"kwargs": {"a": {"shape": [2], "low": 2}}}, f"{INPUTS}.kwargs.a", "low 2 is above high 1"),
    ],
)
def test_inputs_that_make_no_sense_are_refused_with_the_field(
    form: dict[str, Any], field: str, message: str
) -> None:
    assert message in refused(job(subjects=[with_inputs(form)]))[field][0]


def test_a_plugins_name_has_a_dot() -> None:
    subject = spec(subjects=[{"zoo": "acme.model", "data": small_data()}]).subjects[0]
    assert subject.label == "acme.model"
    refusal, _ = refused(job(subjects=[{"zoo": "brt", "data": small_data()}]))["subjects.0.zoo"]
    assert refusal == "unknown name 'brt'; did you mean 'bert'?; a plugin's name has a dot in it"


def test_keywords_have_no_order() -> None:
    one, other = (
        Inputs.model_validate({"kwargs": {name: {"shape": [2, size]} for name, size in pairs}})
        for pairs in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)])
    )
    assert [tensor.shape for tensor in one.tensors] == [tensor.shape for tensor in other.tensors]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weights": {"safetensors": "w"}}, "weights"),
        ({"data": {"calibration": FORMS["file"], "evaluation": TOKENS}}, "data.calibration"),
        ({"data": {"calibration": TOKENS, "evaluation": FORMS["file"]}}, "data.evaluation"),
    ],
)
def test_files_are_refused_where_the_operator_named_no_folder(
    changes: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = spec(subjects=[{**with_inputs(TOKENS), **changes}])
    with pytest.raises(NotAllowedError, match="NOISEFLOOR_FILES") as caught:
        check(named, project="p", settings=Settings())
    assert [error.field for error in caught.value.errors] == [f"subjects.0.{field}.safetensors"]
    monkeypatch.setenv("NOISEFLOOR_FILES", "/srv/files")
    check(named, project="p", settings=Settings())


def test_an_empty_folder_for_files_is_refused() -> None:
    with pytest.raises(SettingsError, match="unset it, or name one"):
        settings(files="")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("flat", "2×3 normal(1, 2)"),
        ("args", "2×16 integers(0, 128), 2×4 uniform(-1, 1)"),
        ("kwargs", "attention_mask 2×16, input_ids 2×16 integers(0, 128)"),
        ("both", "2×16 integers(0, 128), attention_mask 2×16"),
        ("file", "bert/inputs.safetensors (2 samples)"),
        ("digest", "inputs.safetensors sha256 012345678 (2 samples)"),
    ],
)
def test_a_subject_is_said_in_words(form: str, words: str) -> None:
    weights = {"safetensors": "w.safetensors", "sha256": SHA256}
    subject = Subject.model_validate(with_inputs(FORMS[form], weights=weights))
    assert subject_words(subject) == (
        "weights w.safetensors sha256 012345678 · seeds 1, 2, 3 · "
        f"calibration 2×16 integers(0, 128) · evaluation {words}"
    )
