"""Series and environment keys are public formats: these digests never change."""

import json

import pytest
from tests.samples import ENVIRONMENT, spec

from noisefloor import plan
from noisefloor.contract.job import JobSpec
from noisefloor.identity import canonical, environment_key, series_identity, series_key


def identity(job_spec: JobSpec, project: str = "demo") -> dict[str, object]:
    cell = next(plan.cells(job_spec))
    return series_identity(
        project=project,
        subject=cell.subject,
        quantization=cell.scheme.quantization,
        edge="float32->true",
        lane=cell.lane,
        metric="sqnr_db",
        place="output",
    )


def test_the_series_key_of_version_1() -> None:
    found = identity(spec())
    assert json.loads(canonical(found)) == {
        "v": 1,
        "project": "demo",
        "subject": {
            "zoo": "multiple-ops",
            "data": {"calibration": {"shape": [8, 3, 15, 15]}, "evaluation": {"shape": [2, 3, 15, 15]}},
        },
        "quantization": {"flow": "eager", "mode": "static"},
        "edge": "float32->true",
        "engine": "x86",
        "device": "cpu",
        "isa": "native",
        "batch": 2,
        "metric": "sqnr_db",
        "place": "output",
    }
    assert series_key(found) == "e21f3620cc62b4673ccb9303db07c09f"


def test_the_series_keys_of_subjects_with_several_inputs_and_with_weights() -> None:
    tokens = {"shape": [2, 16], "distribution": "integers", "high": 128}
    named = {"kwargs": {"input_ids": tokens, "attention_mask": {"shape": [2, 16]}}}
    subject = {"zoo": "bert", "data": {"calibration": named, "evaluation": named}}
    found = identity(spec(subjects=[subject]))
    assert json.loads(canonical(found))["subject"] == subject
    assert series_key(found) == "9dcead5829792bb026e77e8064c5695f"

    held = {"safetensors": "inputs.safetensors", "batch": 2}
    weights = {"safetensors": "model.safetensors", "sha256": "0" * 64}
    subject = {"zoo": "bert", "weights": weights, "data": {"calibration": held, "evaluation": held}}
    found = identity(spec(subjects=[subject]))
    assert json.loads(canonical(found))["subject"] == subject
    assert found["batch"] == 2
    assert series_key(found) == "0c32d3150013ba1bebf18c6b60c1b51d"


def test_the_environment_key_of_version_1() -> None:
    assert environment_key(ENVIRONMENT) == "0d3add52925c370702d455979eed2591"


def test_what_a_cell_on_the_cpu_has_not_is_in_no_key() -> None:
    nothing: dict[str, object] = {"gpu": None, "driver": None, "tf32": None, "plugins": {}}
    assert environment_key(ENVIRONMENT.replace(**nothing)) == environment_key(ENVIRONMENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"git": {"branch": "main", "sha": "0123456789"}},
        {"limits": {"cell_timeout_s": 1}},
        {"policy": {"rules": {"max_drop_db": 1}}},
        {"priority": 1},
        {"lanes": {"engine": ["x86"], "threads": [2]}},
        {"schemes": [{"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 1}]},
        {
            "schemes": [
                {"flow": "eager", "mode": "static", "granularity": "per_tensor", "edge": "float32->true"}
            ]
        },
    ],
)
def test_what_is_not_measured_is_not_in_the_key(changes: dict[str, object]) -> None:
    assert identity(spec(**changes)) == identity(spec())


@pytest.mark.parametrize(
    "changes",
    [
        {"lanes": {"engine": ["onednn"]}},
        {"lanes": {"engine": ["x86"], "isa": ["avx2"]}},
        {"lanes": {"engine": ["x86"], "device": ["cuda"]}},
        {
            "schemes": [
                {"flow": "eager", "mode": "static", "granularity": "per_channel", "edge": "float32->true"}
            ]
        },
        {"schemes": [{"flow": "eager", "mode": "static", "reduce_range": False, "edge": "float32->true"}]},
    ],
)
def test_what_is_measured_is_in_the_key(changes: dict[str, object]) -> None:
    assert series_key(identity(spec(**changes))) != series_key(identity(spec()))


@pytest.mark.parametrize(
    ("given", "means"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (True, "true"),
        (0.1, "0.1"),
        (-0.0, "0.0"),
        (2**53 + 1, "9007199254740993"),
        (9e15, "9000000000000000.0"),
        (1e16, "10000000000000000"),
        (-(2.0**62), "-4611686018427387904"),
        (2**64 - 1, "18446744073709551615"),
        (1e22, "1e+22"),
        (10**22, "1e+22"),
        (2**128 + 1, "3.402823669209385e+38"),
        (10**400, "1" + "0" * 400),
    ],
)
def test_a_number_that_a_factory_is_given_is_in_the_key_as_every_database_gives_it_back(
    given: float, means: str
) -> None:
    subject = {**spec().subjects[0].model_dump(exclude_defaults=True), "args": {"a": given}}
    assert f'"args":{{"a":{means}}}'.encode() in canonical(identity(spec(subjects=[subject])))


def test_a_bound_of_minus_zero_is_zero() -> None:
    def key(high: float) -> str:
        drawn = {"shape": [2, 4], "low": -1.0, "high": high}
        subject = {"zoo": "bert", "data": {"calibration": drawn, "evaluation": drawn}}
        return series_key(identity(spec(subjects=[subject])))

    assert key(-0.0) == key(0.0)


def test_projects_have_series_of_their_own() -> None:
    assert series_key(identity(spec(), "a")) != series_key(identity(spec(), "b"))


@pytest.mark.parametrize(
    "changes", [{"threads": 2}, {"gpu": "NVIDIA H100"}, {"tf32": False}, {"plugins": {"acme": "1.0"}}]
)
def test_a_change_of_the_environment_changes_its_key(changes: dict[str, object]) -> None:
    assert environment_key(ENVIRONMENT.replace(**changes)) != environment_key(ENVIRONMENT)
