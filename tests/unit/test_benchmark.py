"""Operators in a job: what is refused with which words, what identifies a series, and how it is shown."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from tests.samples import job, small_data, spec

from noisefloor import plan
from noisefloor.cli.report import _figure
from noisefloor.contract.benchmark import OPERATORS
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import KERNEL, Measurement, amount
from noisefloor.contract.resources import MeasurementView
from noisefloor.dashboard.words import amount_words, signed, subject_words
from noisefloor.errors import InvalidRequestError
from noisefloor.identity import canonical, series_identity, series_key
from noisefloor.problems import invalid_request
from noisefloor.settings import Settings
from noisefloor.workflow.check import check

FAKE = {"name": "fake_quantize_per_channel_affine", "shape": [1, 3, 8, 8], "axis": 1}
QUANTIZE = {"name": "quantize_per_tensor", "shape": [3, 8]}
SCHEMES = [{"flow": "ops", "mode": "forward", "edge": "float64->fake"}]


def operators(*given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    subjects = [{"operator": operator} for operator in given]
    return job(**{"subjects": subjects, "schemes": SCHEMES, "lanes": {"engine": ["aten"]}, **changes})


def refused(document: object) -> dict[str, tuple[str, list[object] | None]]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(document)
    problem = invalid_request(caught.value.errors())
    return {error.field: (error.message, error.accepted) for error in problem.errors}


OPERATOR = "subjects.0.operator"


@pytest.mark.parametrize(
    ("operator", "field", "message", "accepted"),
    [
        (
            {**FAKE, "name": "fake_quantise_per_channel_affine"},
            "name",
            "did you mean 'fake_quantize_per_channel_affine'?",
            list(OPERATORS),
        ),
        ({**FAKE, "axis": 4}, "axis", "from 0 to 3", [0, 1, 2, 3]),
        ({**FAKE, "axis": -1}, "axis", "from 0 to 3", [0, 1, 2, 3]),
        ({**FAKE, "axis": None}, "axis", "needs the axis of its channels", [0, 1, 2, 3]),
        ({**QUANTIZE, "axis": 0}, "axis", "quantize_per_tensor has no axis", [None]),
        ({**FAKE, "bits": 5}, "bits", "4 or 8", ["4 or 8"]),
        ({**QUANTIZE, "bits": 4}, "bits", "has the bits of its dtype", [8]),
        ({**QUANTIZE, "dtype": "uint8"}, "dtype", "'quint8'", ["quint8", "qint8", "qint32"]),
        ({**FAKE, "dtype": "qint32"}, "dtype", "4 or 8 bits", ["quint8", "qint8"]),
        ({**FAKE, "zero_point_dtype": "int64"}, "zero_point_dtype", "", ["int32", "float32", "float16"]),
        ({**FAKE, "bits": 4, "zero_points": [16]}, "zero_points", "16 is no code", ["≥ 0", "≤ 15"]),
        ({**FAKE, "scales": [1, 2, 3, 4]}, "scales", "4 are given for 3", ["length ≤ 3"]),
        ({**QUANTIZE, "scales": [1, 2]}, "scales", "2 are given for 1", ["length ≤ 1"]),
        ({**FAKE, "scales": [0]}, "scales.0", "greater than or equal", ["≥ 1e-20"]),
        ({"name": "FakeQuantize", "shape": [4], "scales": [2]}, "scales", "the observer", None),
        (
            {"name": "dequantize_per_tensor", "shape": [4], "zero_point_dtype": "float32"},
            "zero_point_dtype",
            "dtype of its own",
            [None],
        ),
        ({**FAKE, "values": "normal"}, "values", "", ["ties", "unit"]),
        ({**FAKE, "kernel": "fast"}, "kernel", "unknown key", None),
    ],
)
def test_a_bad_argument_is_named_with_what_is_accepted(
    operator: dict[str, Any], field: str, message: str, accepted: list[object] | None
) -> None:
    found = refused(operators(operator))
    said, offered = found[f"{OPERATOR}.{field}"]
    assert message in said
    assert accepted is None or offered == accepted
    assert len(found) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"args": {"a": 1}}, "args belongs to a model"),
        ({"data": small_data()}, "data belongs to a model"),
        ({"seeds": {"model": 4}}, "one seed, seeds.evaluation"),
        ({"zoo": "bert"}, "one source, 'zoo', 'import', 'operator' or 'conformance'; 2 are given"),
    ],
)
def test_an_operator_stands_alone(changes: dict[str, Any], message: str) -> None:
    assert message in refused(operators(subjects=[{"operator": FAKE, **changes}]))["subjects.0"][0]


def test_a_model_needs_data() -> None:
    assert refused(job(subjects=[{"zoo": "bert"}]))["subjects.0.data"][0] == "a model needs data"


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ({"flow": "ops", "mode": "static"}, "forward, backward are those of the flow ops"),
        ({"flow": "eager", "mode": "forward"}, "forward, backward are those of the flow ops"),
        ({"flow": "ops", "mode": "forward", "granularity": "per_channel"}, "granularity is of the quantiz"),
        ({"flow": "ops", "mode": "forward", "reduce_range": False}, "reduce_range is of the quantiz"),
    ],
)
def test_a_scheme_of_operators_has_a_direction_and_no_more(scheme: dict[str, Any], message: str) -> None:
    assert message in refused(operators(FAKE, schemes=[{**scheme, "edge": "float64->fake"}]))["schemes.0"][0]


def test_models_and_operators_take_schemes_of_their_own() -> None:
    model = {"zoo": "multiple-ops", "data": small_data()}
    for subjects, field, value in (
        ([{"operator": FAKE}, model], "schemes.0.flow", "ops"),
        ([{"operator": FAKE, "schemes": job()["schemes"]}], "subjects.0.schemes.0.flow", "eager"),
    ):
        with pytest.raises(InvalidRequestError, match="flow ops is that of operators") as caught:
            check(spec(subjects=subjects, schemes=SCHEMES), project="p", settings=Settings())
        assert [(error.field, error.value) for error in caught.value.errors] == [(field, value)]
    mixed = [{"operator": FAKE}, {**model, "schemes": job()["schemes"]}]
    check(spec(subjects=mixed, schemes=SCHEMES), project="p", settings=Settings())


def test_an_input_larger_than_the_memory_is_refused() -> None:
    large = operators({**QUANTIZE, "shape": [2**20, 2**12]})
    with pytest.raises(InvalidRequestError, match=r"16\.0 GiB; limits\.memory_gib is 4") as caught:
        check(JobSpec.model_validate(large), project="p", settings=Settings())
    assert caught.value.errors[0].field == f"{OPERATOR}.shape"


@pytest.mark.parametrize("exclude_defaults", [True, False])
def test_a_job_of_operators_survives_a_round_trip(*, exclude_defaults: bool) -> None:
    written = JobSpec.model_validate(operators(FAKE, {**QUANTIZE, "scales": [0.1], "zero_points": [3]}))
    text = written.model_dump_json(by_alias=True, exclude_defaults=exclude_defaults)
    assert JobSpec.model_validate(json.loads(text)) == written


def identity(operator: dict[str, Any], metric: str = "sqnr_db", place: str = "output") -> dict[str, Any]:
    cell = next(plan.cells(JobSpec.model_validate(operators(operator))))
    return series_identity(
        project="demo",
        subject=cell.subject,
        quantization=cell.scheme.quantization,
        edge="float64->fake",
        lane=cell.lane,
        metric=metric,
        place=place,
    )


def test_the_series_key_of_an_operator() -> None:
    """A public format: this digest never changes."""
    found = identity(FAKE)
    assert json.loads(canonical(found)) == {
        "v": 1,
        "project": "demo",
        "subject": {"operator": FAKE},
        "quantization": {"flow": "ops", "mode": "forward"},
        "edge": "float64->fake",
        "engine": "aten",
        "device": "cpu",
        "isa": "native",
        "batch": 1,
        "metric": "sqnr_db",
        "place": "output",
    }
    assert series_key(found) == "4faa95a13e0dc56741361e73eac05abf"


def test_arguments_and_metrics_have_series_of_their_own() -> None:
    others = [identity({**FAKE, "bits": 4}), identity({**FAKE, "values": "unit"}), identity(FAKE, "max_lsb")]
    assert len({series_key(found) for found in [identity(FAKE), *others]}) == 4


def test_an_operator_is_told_from_others_by_its_label() -> None:
    (cell,) = plan.cells(JobSpec.model_validate(operators({**FAKE, "bits": 4, "zero_points": [0, 3]})))
    assert cell.label == (
        "fake_quantize_per_channel_affine 1×3×8×8 bits 4 axis 1 zero points 0,3 · ops forward · aten"
    )
    assert subject_words(cell.subject) == "seed 3"


@pytest.mark.parametrize(
    ("metric", "value", "shown", "unit"),
    [
        ("time_median_s", 0.00012345, "0.0001234", " s"),
        ("bandwidth_gb_per_s", 12.3456, "12.35", " GB/s"),
        ("max_lsb", 1.0, "1", " LSB"),
        ("differing_share", 0.25, "0.25", ""),
    ],
)
def test_a_metric_is_shown_with_its_unit(metric: str, value: float, shown: str, unit: str) -> None:
    figure = Figure.finite(value)
    assert amount(figure, metric) == amount_words(figure, metric) == shown
    measured = Measurement(edge="float64->fake", place=KERNEL, metric=metric, figure=figure)
    assert _figure(MeasurementView(**dict(measured), series="0" * 32)) == f"{shown}{unit}"
    assert signed(value, metric) == f"+{shown}"
