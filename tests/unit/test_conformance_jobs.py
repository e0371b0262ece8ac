"""Operators as subjects: what a job may name, what it becomes, and what the gate says of a kernel."""

import json
from datetime import date
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError
from tests.samples import job, kernel, operators, small_data
from tests.service import EXAMPLES

from noisefloor import plan
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.lane import QUANTIZED_ENGINES, Isa
from noisefloor.contract.operators import OPERATORS
from noisefloor.contract.policy import On, Policy
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import InvalidRequestError
from noisefloor.gate.evidence import CellEvidence, Evidence
from noisefloor.gate.judge import Judgement, judge
from noisefloor.identity import canonical, series_identity, series_key
from noisefloor.problems import invalid_request
from noisefloor.settings import Settings
from noisefloor.workflow.check import check

TODAY = date(2026, 6, 1)
CONFORMANCE = {"flow": "conformance", "mode": "quick"}
STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true"}
MODEL = {"zoo": "multiple-ops", "data": small_data()}


def names(document: dict[str, Any]) -> list[str | None]:
    return [cell.subject.conformance for cell in plan.cells(JobSpec.model_validate(document))]


def test_a_glob_becomes_a_cell_for_each_operator() -> None:
    document = operators("quantized::cat*", "aten::relu")
    assert names(document) == ["quantized::cat", "quantized::cat_relu", "aten::relu"]
    assert plan.count(JobSpec.model_validate(document)) == 3


def test_every_operator_is_named_by_a_star_and_by_itself_alone() -> None:
    assert names(operators("*")) == list(OPERATORS)
    assert all(names(operators(name)) == [name] for name in OPERATORS)


def test_each_operator_is_a_shard() -> None:
    document = operators("quantized::cat*", lanes={"engine": ["x86", "fbgemm"], "isa": ["native", "avx2"]})
    shards = list(plan.shards(plan.cells(JobSpec.model_validate(document))))
    assert [(shard.cells[0].subject.label, shard.isa, len(shard.cells)) for shard in shards] == [
        ("quantized::cat", "native", 2),
        ("quantized::cat", "avx2", 2),
        ("quantized::cat_relu", "native", 2),
        ("quantized::cat_relu", "avx2", 2),
    ]


def test_a_job_comes_back_from_json_as_it_was() -> None:
    spec = JobSpec.model_validate(operators("conv*", mode="full"))
    assert JobSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec
    alone = plan.alone(next(plan.cells(spec)), limits=spec.limits, analysis=spec.analysis)
    assert next(plan.cells(alone)) == next(plan.cells(spec))


def test_the_series_key_of_an_operator() -> None:
    cell = next(plan.cells(JobSpec.model_validate(operators("quantized::linear"))))
    identity = series_identity(
        project="demo",
        subject=cell.subject,
        quantization=cell.scheme.quantization,
        edge="reference->true",
        lane=cell.lane,
        metric="wrong_cases",
        place="output",
    )
    assert json.loads(canonical(identity)) == {
        "v": 1,
        "project": "demo",
        "subject": {"conformance": "quantized::linear"},
        "quantization": CONFORMANCE,
        "edge": "reference->true",
        "engine": "x86",
        "device": "cpu",
        "isa": "native",
        "batch": 0,
        "metric": "wrong_cases",
        "place": "output",
    }
    assert series_key(identity) == "0538ed580fc0264c03625937d0a8bd24"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"subjects": [{"zoo": "multiple-ops"}]}, "subjects.0.data", "a model needs data"),
        (
            {"subjects": [{"conformance": "relu", "data": small_data()}]},
            "subjects.0",
            "data belongs to a model",
        ),
        ({"subjects": [{"conformance": "relu", "seeds": {"model": 7}}]}, "subjects.0", "seeds belongs"),
        ({"subjects": [{"conformance": "relu", "zoo": "resnet"}]}, "subjects.0", "2 are given"),
        ({"schemes": [{"flow": "conformance", "mode": "static"}]}, "schemes.0", "modes quick, full"),
        ({"schemes": [{**STATIC, "mode": "full"}]}, "schemes.0", "modes quick, full"),
        ({"schemes": [{**CONFORMANCE, "granularity": "per_channel"}]}, "schemes.0", "granularity is of"),
        ({"schemes": [{**CONFORMANCE, "floor_db": 30}]}, "schemes.0", "leave floor_db out"),
        ({"schemes": [{**CONFORMANCE, "edge": "float32->true"}]}, "schemes.0", "one edge, reference->true"),
        ({"subjects": [{"conformance": "cat*"}, {"conformance": "quantized::cat"}]}, "(whole)", "repeats"),
    ],
)
def test_what_does_not_fit_an_operator_is_refused_with_its_field(
    changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(operators("relu", **changes))
    (error,) = invalid_request(caught.value.errors()).errors
    assert error.field == field
    assert message in error.message


@pytest.mark.parametrize(
    ("document", "field", "value", "accepted", "said"),
    [
        (
            operators("quantized::linaer"),
            "subjects.0.conformance",
            "quantized::linaer",
            list(OPERATORS),
            "did you mean 'quantized::linear'?",
        ),
        (operators("relu", "conf*"), "subjects.1.conformance", "conf*", list(OPERATORS), "no operator"),
        (
            operators("relu", schemes=[STATIC]),
            "schemes.0.flow",
            "eager",
            ["conformance"],
            "flow conformance is that of operators",
        ),
        (
            operators(subjects=[{**MODEL, "schemes": [STATIC, CONFORMANCE]}]),
            "subjects.0.schemes.1.flow",
            "conformance",
            None,
            "subjects.0 is multiple-ops",
        ),
    ],
)
def test_what_is_not_there_is_refused_where_it_is_submitted(
    document: dict[str, Any], field: str, value: str, accepted: list[str] | None, said: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(JobSpec.model_validate(document), project="demo", settings=Settings())
    (error,) = caught.value.errors
    assert (error.field, error.value, error.accepted) == (field, value, accepted)
    assert said in error.message


def test_the_example_is_every_operator_on_every_quantized_engine() -> None:
    spec = JobSpec.model_validate(yaml.safe_load((EXAMPLES / "conformance.yaml").read_text()))
    check(spec, project="demo", settings=Settings())
    assert spec.lanes.engine == QUANTIZED_ENGINES
    assert plan.count(spec) == len(OPERATORS) * len(get_args(Isa)) * len(QUANTIZED_ENGINES)


def test_models_and_operators_can_be_in_one_job() -> None:
    subjects = [{**MODEL, "schemes": [STATIC]}, {"conformance": "relu", "schemes": [CONFORMANCE]}]
    spec = JobSpec.model_validate(job(subjects=subjects, schemes=[]))
    check(spec, project="demo", settings=Settings())
    assert [cell.subject.label for cell in plan.cells(spec)] == ["multiple-ops", "aten::relu"]


def judged(found: Conformance | None, policy: Policy | None = None) -> Judgement:
    counted = Evidence(
        edge="reference->true", metric="wrong_cases", figure=Figure.finite(0), conformance=found
    )
    share = Evidence(edge="reference->true", metric="wrong_share", figure=Figure.finite(0), conformance=found)
    cell = CellEvidence(label="cell", status=CellStatus.DONE, measurements=(counted, share))
    return judge(policy or Policy(), [cell], today=TODAY)


@pytest.mark.parametrize(
    ("changes", "verdict", "rule"),
    [
        ({"verdict": "exact"}, Verdict.PASS, "conformance"),
        ({"verdict": "within_1_lsb"}, Verdict.PASS, "conformance"),
        ({"verdict": "wrong"}, Verdict.REGRESSED, "on.conformance"),
        ({"verdict": "nondeterministic"}, Verdict.REGRESSED, "on.conformance"),
        ({"verdict": "crashes"}, Verdict.REGRESSED, "on.conformance"),
        ({"verdict": "wrong", "known": "saturates"}, Verdict.ACKNOWLEDGED, "known_issue"),
    ],
)
def test_a_kernel_at_fault_is_a_regression_unless_it_is_known(
    changes: dict[str, Any], verdict: Verdict, rule: str
) -> None:
    found = judged(kernel(**changes))
    finding, beside = found.cells[0].measurements
    assert finding is not None
    assert (found.verdict, finding.rule, beside) == (verdict, rule, None)


@pytest.mark.parametrize(("leads_to", "verdict"), [("warn", Verdict.WARN), ("error", Verdict.ERROR)])
def test_what_a_fault_leads_to_is_the_policys(leads_to: Any, verdict: Verdict) -> None:
    policy = Policy(on=On(conformance=leads_to))
    assert judged(kernel(verdict="wrong"), policy).verdict is verdict


def test_cases_without_a_verdict_are_an_error() -> None:
    assert judged(None).verdict is Verdict.ERROR


def test_a_known_issue_says_why_it_is_accepted_and_what_was_found() -> None:
    fault = kernel(verdict="wrong", wrong_cases=2, known="saturates without VNNI", reason="with values: full")
    message = judged(fault).message
    assert "known: saturates without VNNI; wrong in 2 of 9 cases" in message
    assert "(with values: full)" in message


def test_operators_that_are_all_unsupported_are_no_pass() -> None:
    cell = CellEvidence(label="cell", status=CellStatus.UNSUPPORTED, reason="not here")
    assert judge(Policy(), [cell], today=TODAY).verdict is Verdict.NO_BASELINE
