"""Subjects: the zoo against its model, the allow-list, and data to the bit."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.testing._internal import common_quantization

from noisefloor.contract.subject import Inputs, Subject, ZooName
from noisefloor_workers.subjects import data, imported
from noisefloor_workers.subjects.errors import ImportRefusedError, NonfiniteInputsError, SubjectError
from noisefloor_workers.subjects.load import load
from noisefloor_workers.subjects.zoo import ZOO

SHAPES = {"calibration": {"shape": [6, 3, 15, 15]}, "evaluation": {"shape": [2, 3, 15, 15]}}


def subject(**changes: Any) -> Subject:
    return Subject.model_validate({"zoo": "multiple-ops", "data": SHAPES, **changes})


def test_zoo_has_every_name_of_the_contract() -> None:
    assert set(ZOO) == set(get_args(ZooName))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("multiple-ops", common_quantization.ModelMultipleOps),
        ("multiple-ops-no-avgpool", common_quantization.ModelMultipleOpsNoAvgPool),
    ],
)
def test_zoo_draws_and_computes_as_the_published_model(name: ZooName, published: type[nn.Module]) -> None:
    torch.manual_seed(42)
    ours = ZOO[name]().eval()
    torch.manual_seed(42)
    theirs = published().eval()
    inputs = torch.rand(4, 3, 15, 15)

    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    assert torch.equal(ours(inputs), theirs(inputs))


def test_one_stream_serves_the_stages_in_turn() -> None:
    order = ["calibration", "evaluation", "model"]
    loaded = load(subject(seeds={"stream": 67, "order": order}))
    torch.manual_seed(67)
    calibration, evaluation = torch.rand(6, 3, 15, 15), torch.rand(2, 3, 15, 15)
    model = ZOO["multiple-ops"]()

    assert torch.equal(loaded.calibration, calibration)
    assert torch.equal(loaded.evaluation, evaluation)
    assert torch.equal(loaded.model.state_dict()["fc.weight"], model.state_dict()["fc.weight"])


def test_each_stage_has_its_own_seed(importable: Path) -> None:
    assert importable
    source = {"zoo": None, "import": "subjects_under_test.stacks:drawing"}
    seeds = {"model": 5, "calibration": 6, "evaluation": 7}
    few, many = (
        load(subject(**source, args={"stream_length": length}, seeds=seeds), ["subjects_under_test"])
        for length in (1, 100)
    )
    torch.manual_seed(6)

    assert torch.equal(few.calibration, torch.rand(6, 3, 15, 15))
    assert few.inputs_digest == many.inputs_digest
    assert not torch.equal(few.model.weight, many.model.weight)


def test_loaded_model_is_float32_and_in_eval_mode() -> None:
    model = load(subject()).model

    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_uniform_is_scaled_only_where_it_must_be() -> None:
    torch.manual_seed(1)
    plain = data.draw(Inputs(shape=(100,)), "evaluation")
    torch.manual_seed(1)
    scaled = data.draw(Inputs(shape=(100,), low=-2.0, high=2.0), "evaluation")
    torch.manual_seed(1)

    assert torch.equal(plain, torch.rand(100))
    assert torch.equal(scaled, plain * 4.0 - 2.0)


def test_normal_has_mean_low_and_deviation_to_high() -> None:
    torch.manual_seed(1)
    drawn = data.draw(Inputs(shape=(100,), distribution="normal", low=3.0, high=5.0), "evaluation")
    torch.manual_seed(1)

    assert torch.equal(drawn, torch.randn(100) * 2.0 + 3.0)


def test_data_outside_float32_are_refused() -> None:
    with pytest.raises(NonfiniteInputsError, match="calibration data hold NaN or infinity"):
        data.draw(Inputs(shape=(10,), low=-1e300, high=1e300), "calibration")


def test_digest_is_of_the_bytes_in_turn() -> None:
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0])

    assert data.digest(one, two) == data.digest(torch.tensor([1.0, 2.0, 3.0]))
    assert data.digest(one, two) != data.digest(two, one)
    assert data.digest(torch.ones(2, 3).t()) == data.digest(torch.ones(6))
    assert len(data.digest(torch.empty(0))) == 32


@pytest.mark.parametrize("allowed", [["subjects_under_test"], ["other", "subjects_under_test.stacks"]])
def test_import_at_or_below_an_allowed_prefix(importable: Path, allowed: list[str]) -> None:
    assert importable
    assert isinstance(
        imported.build("subjects_under_test.stacks:linear", {"weight": 2.0}, allowed), nn.Module
    )


@pytest.mark.parametrize("allowed", [[], ["subjects"], ["subjects_under_test.stack"], ["stacks"]])
def test_import_elsewhere_is_refused_before_it_is_imported(importable: Path, allowed: list[str]) -> None:
    assert importable
    with pytest.raises(ImportRefusedError, match="not at or below an allowed prefix"):
        imported.build("subjects_under_test.stacks:linear", {}, allowed)


@pytest.mark.parametrize(
    ("factory", "message"),
    [("missing", "no callable 'missing'"), ("not_a_model", "returned str, not a torch.nn.Module")],
)
def test_import_that_gives_no_model_is_a_typed_error(importable: Path, factory: str, message: str) -> None:
    assert importable
    with pytest.raises(SubjectError, match=message):
        imported.build(f"subjects_under_test.stacks:{factory}", {}, ["subjects_under_test"])
