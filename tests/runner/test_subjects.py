"""Subjects: the zoo against its models, the allow-list, data to the bit, and what files may hold."""

import hashlib
import json
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.ao import quantization as ao
from torch.testing._internal import common_quantization

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.subject import Inputs, Subject, ZooName
from noisefloor_workers.lanes.engine import Unsupported, bound
from noisefloor_workers.numerics.digest import output_digest
from noisefloor_workers.numerics.leaves import leaves
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.supervisor import Runner
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects import data, imported
from noisefloor_workers.subjects.architectures import ARCHITECTURES
from noisefloor_workers.subjects.errors import (
    FileRefusedError,
    ImportRefusedError,
    NonfiniteInputsError,
    SubjectError,
)
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.load import LoadedSubject, load
from noisefloor_workers.subjects.tensors import inputs as read_inputs
from noisefloor_workers.subjects.zoo import ZOO

STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true"}
SHAPES = {"calibration": {"shape": [6, 3, 15, 15]}, "evaluation": {"shape": [2, 3, 15, 15]}}


def assert_same(found: ModelInputs, *expected: torch.Tensor) -> None:
    assert len(list(found)) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def subject(**changes: Any) -> Subject:
    return Subject.model_validate({"zoo": "multiple-ops", "data": SHAPES, **changes})


def test_zoo_has_every_name_of_the_contract() -> None:
    assert [*ZOO, *ARCHITECTURES] == list(get_args(ZooName)[1].built_in)


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

    assert_same(loaded.calibration, calibration)
    assert_same(loaded.evaluation, evaluation)
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

    assert_same(few.calibration, torch.rand(6, 3, 15, 15))
    assert few.inputs_digest == many.inputs_digest
    assert not torch.equal(few.model.weight, many.model.weight)


def test_loaded_model_is_float32_and_in_eval_mode() -> None:
    model = load(subject()).model

    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_uniform_is_scaled_only_where_it_must_be() -> None:
    torch.manual_seed(1)
    (plain,) = data.draw(Inputs(shape=(100,)), "evaluation")
    torch.manual_seed(1)
    (scaled,) = data.draw(Inputs(shape=(100,), low=-2.0, high=2.0), "evaluation")
    torch.manual_seed(1)

    assert torch.equal(plain, torch.rand(100))
    assert torch.equal(scaled, plain * 4.0 - 2.0)


def test_normal_has_mean_low_and_deviation_to_high() -> None:
    torch.manual_seed(1)
    (drawn,) = data.draw(Inputs(shape=(100,), distribution="normal", low=3.0, high=5.0), "evaluation")
    torch.manual_seed(1)

    assert torch.equal(drawn, torch.randn(100) * 2.0 + 3.0)


def test_integers_are_torchs_own_and_stop_below_high() -> None:
    torch.manual_seed(1)
    (drawn,) = data.draw(Inputs(shape=(100,), distribution="integers", low=-2, high=3), "evaluation")
    torch.manual_seed(1)

    assert drawn.dtype == torch.int64
    assert torch.equal(drawn, torch.randint(-2, 3, (100,)))
    assert set(drawn.tolist()) == {-2, -1, 0, 1, 2}


def test_several_inputs_are_drawn_in_turn_keywords_by_the_alphabet() -> None:
    spec = {"shape": [5, 2]}
    drawn = [
        data.draw(Inputs.model_validate({"args": [spec, spec], "kwargs": kwargs}), "evaluation")
        for kwargs in ({"a": spec, "b": spec}, {"b": spec, "a": spec})
        if torch.manual_seed(1)
    ]
    torch.manual_seed(1)
    expected = [torch.rand(5, 2) for _ in range(4)]

    for found in drawn:
        assert_same(found, *expected)
        assert (len(found.args), list(found.kwargs), found.batch) == (2, ["a", "b"], 5)


def test_data_outside_float32_are_refused() -> None:
    with pytest.raises(NonfiniteInputsError, match="calibration data hold NaN or infinity"):
        data.draw(Inputs(shape=(10,), low=-1e300, high=1e300), "calibration")


def test_digest_is_of_the_bytes_in_turn() -> None:
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0])

    assert data.digest(one, two) == data.digest(torch.tensor([1.0, 2.0, 3.0]))
    assert data.digest(one, two) != data.digest(two, one)
    assert data.digest(torch.ones(2, 3).t()) == data.digest(torch.ones(6))
    assert data.digest(one) != data.digest(one, also="weights")
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


TOKENS = {"shape": [4, 16], "distribution": "integers", "high": 128}
IMAGES = {"shape": [4, 3, 32, 32]}


def architecture(name: str, **changes: Any) -> Subject:
    one = {"kwargs": {"input_ids": TOKENS}} if name in {"bert", "gpt2"} else IMAGES
    return subject(zoo=name, data={"calibration": one, "evaluation": one}, **changes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_is_transformers_own_from_the_seed_and_can_be_exported(name: str) -> None:
    loaded = load(architecture(name, seeds={"model": 7}))
    config = getattr(transformers, ARCHITECTURES[name].config)(**ARCHITECTURES[name].tiny)
    torch.manual_seed(7)
    theirs = getattr(transformers, ARCHITECTURES[name].model)(config).eval()
    given = loaded.evaluation
    exported = torch.export.export(loaded.model, given.args, dict(given.kwargs)).module()
    with torch.no_grad():
        ours, expected, again = (
            loaded.evaluation.fed_to(model) for model in (loaded.model, theirs, exported)
        )

    assert [place for place, _leaf in leaves(ours)] == ["output['logits']"]
    assert torch.isfinite(ours["logits"]).all()
    torch.testing.assert_close(ours["logits"], expected["logits"])
    assert torch.equal(ours["logits"], again["logits"])
    assert "torchvision" not in sys.modules


def test_architectures_fields_can_be_given() -> None:
    model = load(
        architecture("bert", args={"hidden_size": 64, "num_hidden_layers": 1, "num_labels": 3})
    ).model

    assert [tuple(value.shape) for value in model.classifier.parameters()] == [(3, 64), (3,)]
    assert len(model.bert.encoder.layer) == 1


@pytest.mark.parametrize(("field", "near"), [("hidden_sise", "hidden_size"), ("use_cache", "it has")])
def test_field_that_the_architecture_has_not_is_named_with_the_nearest(field: str, near: str) -> None:
    with pytest.raises(SubjectError, match=f"no field '{field}' to set; it has: .*{near}|{near}"):
        load(architecture("bert", args={field: 1}))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, r"subject vit needs transformers: pip install 'noisefloor\[transformers\]'"),
        (SimpleNamespace(__version__="4.57.1"), "subject vit needs transformers 5, not 4.57.1"),
    ],
)
def test_architecture_without_its_library_is_unsupported(
    monkeypatch: pytest.MonkeyPatch, module: object, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", module)
    cell = {"cell": "a", "scheme": STATIC, "lane": {"engine": "x86"}}
    task = ShardTask.model_validate({"subject": architecture("vit"), "cells": [cell]})
    (result,) = ended(task)

    assert result.status is CellStatus.UNSUPPORTED
    assert re.match(reason, result.reason or "")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, importable: Path) -> None:
    """An installed distribution with a model and something that is none."""
    assert importable
    folder = tmp_path / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[noisefloor.subjects]\n"
        "acme.linear = subjects_under_test.stacks:linear\n"
        "acme.text = subjects_under_test.stacks:not_a_model\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugin")
def test_plugins_model_takes_its_arguments() -> None:
    assert load(subject(zoo="acme.linear", args={"weight": 2.5})).model.fc.weight[0, 0] == 2.5


@pytest.mark.usefixtures("plugin")
def test_plugin_that_is_not_there_or_gives_no_model_is_typed() -> None:
    with pytest.raises(
        Unsupported, match=r"acme.lenear is not part of .*: multiple-ops, .*acme.linear, acme"
    ):
        load(subject(zoo="acme.lenear"))
    with pytest.raises(SubjectError, match=r"acme.text returned str, not a torch.nn.Module"):
        load(subject(zoo="acme.text"))


def from_file(folder: Path, batch: int = 2, **tensors: torch.Tensor) -> ModelInputs:
    save_file(tensors, folder / "data.safetensors")
    return read_inputs(Inputs(safetensors="data.safetensors", batch=batch), "evaluation", folder)


def test_file_gives_inputs_by_position_and_by_name(tmp_path: Path) -> None:
    ids, half = torch.tensor([[1], [2]]), torch.rand(2, 3, dtype=torch.float16)
    wide, mask = torch.rand(2, dtype=torch.float64), torch.tensor([True, False])
    found = from_file(tmp_path, **{"1": ids, "0": half, "b": wide, "a": mask})

    assert [tensor.dtype for tensor in found] == [torch.float32, torch.int64, torch.bool, torch.float32]
    assert list(found.kwargs) == ["a", "b"]
    assert_same(found, half.float(), ids, mask, wide.float())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds nothing; positional inputs are 0, 1"),
        ({"1": torch.ones(2)}, "holds 1; positional inputs are 0, 1, … without a gap"),
        ({"00": torch.ones(2)}, "holds 00; positional"),
        ({"0": torch.ones(3, 1)}, r"data.safetensors: 0 has shape \[3, 1\]; .* the batch, 2"),
        ({"x": torch.tensor(1.0)}, r"data.safetensors: x has shape \[\]"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, "x is torch.complex64; inputs are floating point"),
    ],
)
def test_file_that_holds_no_inputs_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(FileRefusedError, match=message):
        from_file(tmp_path, **tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_file_with_data_that_are_not_finite_in_float32_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(NonfiniteInputsError, match="evaluation data hold NaN or infinity in float32"):
        from_file(tmp_path, x=torch.tensor([1.0, value], dtype=torch.float64))


def test_files_data_are_hashed_and_move_nothing_in_the_stream(tmp_path: Path) -> None:
    drawn = load(subject(seeds={"stream": 5}))
    for name, inputs in (("c", drawn.calibration), ("e", drawn.evaluation)):
        save_file({"0": inputs.args[0]}, tmp_path / f"{name}.safetensors")
    source = {
        "calibration": {"safetensors": "c.safetensors", "batch": 6},
        "evaluation": {"safetensors": "e.safetensors", "batch": 2},
    }
    read = load(subject(seeds={"stream": 5}, data=source), files=tmp_path)

    assert read.inputs_digest == drawn.inputs_digest
    assert torch.equal(read.model.fc.weight, drawn.model.fc.weight)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good file, and beside it one that no subject may have."""
    below = tmp_path / "below"
    (below / "deep").mkdir(parents=True)
    for path in (tmp_path / "secret", below / "good", below / "deep" / "good"):
        save_file({"0": torch.ones(2, 4)}, path)
    (below / "link").symlink_to(tmp_path / "secret")
    (below / "up").symlink_to(tmp_path)
    (below / "inner").symlink_to(below / "good")
    os.mkfifo(below / "pipe")
    return below


@pytest.mark.parametrize("name", ["good", "deep/good", "inner"])
def test_file_below_the_folder_is_read(folder: Path, name: str) -> None:
    assert_same(read_inputs(Inputs(safetensors=name, batch=2), "evaluation", folder), torch.ones(2, 4))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("link", r"link lies outside .*below \(NOISEFLOOR_FILES\)"),
        ("up/secret", "lies outside"),
        ("missing", r"is no file below .*below \(NOISEFLOOR_FILES\)"),
        ("deep", "is no file"),
        ("pipe", "is no file"),
        ("good/good", "is no file"),
    ],
)
def test_what_is_no_file_below_the_folder_is_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(FileRefusedError, match=message):
        read_inputs(Inputs(safetensors=name, batch=2), "evaluation", folder)


def test_folder_that_is_not_named_or_not_there_is_said(tmp_path: Path) -> None:
    source = Inputs(safetensors="good", batch=2)
    with pytest.raises(FileRefusedError, match="NOISEFLOOR_FILES names no folder"):
        read_inputs(source, "evaluation", None)
    with pytest.raises(FileRefusedError, match=r"NOISEFLOOR_FILES names .*nowhere, which is no folder here"):
        read_inputs(source, "evaluation", tmp_path / "nowhere")


def test_digest_of_the_file_must_match(folder: Path) -> None:
    sha256 = hashlib.sha256((folder / "good").read_bytes()).hexdigest()
    assert read_inputs(Inputs(safetensors="good", batch=2, sha256=sha256), "evaluation", folder).batch == 2
    with pytest.raises(FileRefusedError, match=f"good has sha256 {sha256}; the job says {'0' * 64}"):
        read_inputs(Inputs(safetensors="good", batch=2, sha256="0" * 64), "evaluation", folder)


def test_file_that_changes_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(file: Any, kind: Any) -> Any:
        found = kind(file.read())
        save_file({"0": torch.zeros(2, 4)}, folder / "new")
        (folder / "new").replace(folder / "good")
        return found

    monkeypatch.setattr(hashlib, "file_digest", replaced)
    with pytest.raises(FileRefusedError, match="good changed while it was read"):
        read_inputs(Inputs(safetensors="good", batch=2), "evaluation", folder)


def header(dtype: str, shape: list[int], end: int) -> bytes:
    text = json.dumps({"0": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(text)) + text


GOOD = header("F32", [2, 1], 8) + bytes(8)


@pytest.mark.parametrize(
    "content",
    [
        *(GOOD[:length] for length in (0, 7, 8, 20, len(GOOD) - 8, len(GOOD) - 1)),
        GOOD + b"\0",
        b"\xff" * 64,
        header("F32", [2, 2], 8) + bytes(8),
        header("F99", [2, 1], 8) + bytes(8),
        header("F6_E2M3", [2, 4], 6) + bytes(6),
        pickle.dumps({"0": [1.0, 2.0]}),
    ],
)
def test_file_that_is_cut_short_or_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(FileRefusedError, match="bad is not a safetensors file"):
        read_inputs(Inputs(safetensors="bad", batch=2), "evaluation", tmp_path)


def test_file_larger_than_the_memory_limit_ends_as_out_of_memory(
    tmp_path: Path, runner: Runner, shard: Callable[..., ShardTask]
) -> None:
    size = 2**28
    with (tmp_path / "big").open("wb") as file:
        file.write(header("F32", [2, size // 8], size))
        file.truncate(file.tell() + size)  # a hole: it takes no room on the disk
    given = {"safetensors": "big", "batch": 2}
    task = shard("stacks:linear", limits={"memory_gib": 0.125}, files=str(tmp_path))
    task = task.replace(subject=task.subject.replace(data={"calibration": given, "evaluation": given}))
    results = list(runner.run(task, lambda _progress: True))

    assert {result.status for result in results} == {CellStatus.OUT_OF_MEMORY}


def tied(folder: Path, tensors: dict[str, torch.Tensor]) -> LoadedSubject:
    save_file(tensors, folder / "weights")
    inputs = {"shape": [2, 4]}
    source = {
        "zoo": None,
        "import": "subjects_under_test.several:tied",
        "weights": {"safetensors": "weights"},
    }
    described = subject(**source, data={"calibration": inputs, "evaluation": inputs})
    return load(described, ["subjects_under_test"], folder)


WEIGHTS = {
    "first.weight": torch.rand(4, 4),
    "first.bias": torch.rand(4),
    "last.bias": torch.rand(4),
    "steps": torch.tensor(9),
}


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", ["first.weight", "last.weight"])
def test_weights_are_the_files_and_tied_ones_may_be_given_once(tmp_path: Path, name: str) -> None:
    given = {name if key == "first.weight" else key: value for key, value in WEIGHTS.items()}
    model = tied(tmp_path, {**given, "first.bias": WEIGHTS["first.bias"].bfloat16()}).model

    assert model.last.weight is model.first.weight
    assert torch.equal(model.last.weight, WEIGHTS["first.weight"])
    assert torch.equal(model.first.bias, WEIGHTS["first.bias"].bfloat16().float())
    assert int(model.steps) == 9


@pytest.mark.usefixtures("importable")
def test_weights_are_hashed_into_the_inputs(tmp_path: Path) -> None:
    one, same, other = (
        tied(tmp_path, {**WEIGHTS, "first.bias": bias}).inputs_digest
        for bias in (torch.zeros(4), torch.zeros(4), torch.ones(4))
    )
    assert one == same != other


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last.bias": None}, "not in the file: last.bias"),
        ({"first.weight": None}, "not in the file: first.weight, last.weight"),
        ({"extra": torch.ones(1)}, "not in the model: extra"),
        ({f"x{n}": torch.ones(1) for n in range(8)}, "not in the model: x0, x1, x2, x3, x4 and 3 more"),
        ({"last.bias": torch.ones(5)}, r"last.bias: float32 \[5\], the model has float32 \[4\]"),
        ({"last.bias": torch.ones(4, dtype=torch.int8)}, r"last.bias: int8 \[4\], the model has float32"),
        ({"steps": torch.tensor(9.0)}, r"steps: float32 \[\], the model has int64 \[\]"),
        ({"last.weight": torch.zeros(4, 4)}, "one tensor in the model and two in the file: .*last.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    given = {key: value for key, value in {**WEIGHTS, **changes}.items() if value is not None}
    with pytest.raises(SubjectError, match=message):
        tied(tmp_path, given)


def test_weights_saved_by_transformers_give_the_same_model(tmp_path: Path) -> None:
    theirs = load(architecture("gpt2", seeds={"model": 11})).model
    theirs.save_pretrained(tmp_path)
    ours = load(architecture("gpt2", weights={"safetensors": "model.safetensors"}), files=tmp_path).model

    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - a file is no dict
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


class Stubbed(nn.Module):
    """What the eager flow does to a model with two inputs, by hand."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.dequant = ao.QuantStub(), ao.QuantStub(), ao.DeQuantStub()
        self.model = model

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.model(self.left(left), right=self.right(right))
        return {name: self.dequant(tensor) for name, tensor in output.items()}


@pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, :UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # torch's own copying
@pytest.mark.parametrize(
    ("container", "places"),
    [
        ("dict", ["output", "output['joined']", "output['left']"]),
        ("tuple", ["output", "output[0]", "output[1]"]),
        ("dataclass", ["output", "output.joined", "output.left"]),
    ],
)
def test_several_inputs_and_outputs_are_measured_each_and_pooled(
    importable: Path, shard: Callable[..., ShardTask], container: str, places: list[str]
) -> None:
    assert importable
    inputs = {
        "args": [{"shape": [8, 4]}],
        "kwargs": {"right": {"shape": [8, 2], "distribution": "normal", "high": 9}},
    }
    task = shard("several:joined", threads=torch.get_num_threads())
    described = Subject.model_validate(
        {
            "import": "subjects_under_test.several:joined",
            "args": {"container": container},
            "data": {"calibration": inputs, "evaluation": inputs},
        }
    )
    lane = {"engine": "x86", "threads": torch.get_num_threads()}
    cell = {"cell": "x86", "scheme": STATIC, "lane": lane}
    (result,) = ended(task.replace(subject=described, cells=[cell]))
    expected = by_hand(load(described.replace(args={"container": "dict"}), ["subjects_under_test"]))

    assert result.status is CellStatus.DONE, result.reason
    assert [found.place for found in result.measurements] == places
    pooled, *each = result.measurements
    sums = [found.sums for found in each if found.sums is not None]
    assert pooled.sums == sum(sums[1:], start=sums[0])
    assert [found.output_digest for found in each] == [
        output_digest([(place, tensor)]) for place, tensor in zip(places[1:], expected.values(), strict=True)
    ]


def by_hand(loaded: LoadedSubject) -> dict[str, torch.Tensor]:
    """The output of torch's own functions on the same model and data."""
    model = Stubbed(loaded.model).eval()
    model.qconfig = ao.default_qconfig
    with torch.no_grad(), bound(Lane(engine="x86", threads=torch.get_num_threads())):
        prepared = ao.prepare(model)
        prepared(*loaded.calibration)
        output: dict[str, torch.Tensor] = ao.convert(prepared)(*loaded.evaluation)
        return output


def ended(task: ShardTask) -> list[CellResult]:
    return [event.result for event in walk(task) if isinstance(event, CellFinished)]
