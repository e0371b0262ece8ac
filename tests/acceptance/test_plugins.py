"""The example plugins, installed by pip and measured by `noisefloor run`; what goes wrong; the page."""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.service import EXAMPLES, ROOT
from torch import Tensor, nn
from typer.main import get_command

from noisefloor.cli.main import app
from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.scheme import Quantization, Variant
from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.plugins import packages as packages_of
from noisefloor_workers.plugins import plugin
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.metrics import plugin_measurements
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.load import LoadedSubject, load

PLUGINS = EXAMPLES / "plugins"
KINDS = ("subject", "flow", "quantizer", "metric")
JOB = (PLUGINS / "job.yaml").read_text()
PAGE = (ROOT / "docs" / "plugins.md").read_text()
BLOCK, INT4_MAX, INT8_MAX, REDUCED_MAX = 8, 7, 127, 63
CONVOLUTIONS = ["stem", *(f"blocks.{n}.{part}" for n in range(2) for part in ("depthwise", "pointwise"))]
LINEAR = ["head", "fc"]
TARGET_DB = 26
ENGINE = next(engine for engine in torch.backends.quantized.supported_engines if engine != "none")

FAULTY = """
import math
import torch

class Raising:
    engines = ("aten",)
    def supports(self, quantization, edges):
        return None
    def calibrate(self, model, quantization, calibration):
        raise ArithmeticError("this flow lost its blocks")

def first(ref, actual):
    return ref.flatten()[0] - actual.flatten()[0]
def in_place(ref, actual):
    return ref.sub_(actual).abs().max().item()
def nothing(ref, actual):
    return None
def nan(ref, actual):
    return math.nan
def infinite(ref, actual):
    return -math.inf
def huge(ref, actual):
    return 1e300
def text(ref, actual):
    return "1.0"
def several(ref, actual):
    return ref
def raising(ref, actual):
    raise ArithmeticError("this metric divides by nothing")
"""
FAULTY_POINTS = """
[noisefloor.flows]
acme.raising = acme_faulty:Raising
acme.astray = acme_that_is_not_there:Flow
acme.twice = acme_faulty:Raising
[noisefloor.metrics]
acme.first = acme_faulty:first
acme.in_place = acme_faulty:in_place
acme.nothing = acme_faulty:nothing
acme.nan = acme_faulty:nan
acme.infinite = acme_faulty:infinite
acme.huge = acme_faulty:huge
acme.huge_db = acme_faulty:huge
acme.text = acme_faulty:text
acme.several = acme_faulty:several
acme.raising = acme_faulty:raising
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four packages, built and installed as their users do, into a folder of their own."""
    folder = tmp_path_factory.mktemp("packages")
    sources = [str(PLUGINS / kind) for kind in KINDS]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), *sources], check=True)
    return folder


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two more packages, written as pip leaves them: what is wrong with them, pip does not see."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "acme_faulty.py").write_text(FAULTY)
    for name, points in {
        "acme": FAULTY_POINTS,
        "acme-too": "[noisefloor.flows]\nacme.twice = acme_faulty:Raising\n",
    }.items():
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture(scope="module")
def installed(packages: Path, faulty: Path) -> Iterator[dict[str, str]]:
    """The environment in which all of them are there; they are in this process too."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in (packages, faulty):
            patch.syspath_prepend(str(folder))
        binaries = Path(sys.executable).parent
        yield {
            **os.environ,
            "PYTHONPATH": f"{packages}{os.pathsep}{faulty}",
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        }


def run(job: Any, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`noisefloor run`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "run", "-", "--format", "json"],
        input=job if isinstance(job, str) else json.dumps(job),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def report(installed: dict[str, str]) -> dict[str, Any]:
    ran = run(JOB, installed)
    assert ran.returncode == 0, ran.stderr
    read: dict[str, Any] = json.loads(ran.stdout)
    return read


@pytest.fixture(scope="module")
def closer(installed: dict[str, str]) -> dict[str, Any]:
    """The subject under a flow of ours too, with a target that the example's flow misses."""
    job = yaml.safe_load(JOB)
    blockwise, _pt2e = job["schemes"]
    eager = {"flow": "eager", "mode": "static", "granularity": "per_channel", "edge": "float32->true"}
    ran = run(
        {
            **job,
            "schemes": [blockwise, eager],
            "lanes": {"engine": ["aten", ENGINE]},
            "analysis": {"target_db": TARGET_DB},
        },
        installed,
    )
    read: dict[str, Any] = json.loads(ran.stdout)
    return read


@pytest.fixture(scope="module")
def subject(installed: dict[str, str]) -> LoadedSubject:
    """The job's subject, as the worker loads it."""
    assert installed
    return load(JobSpec.model_validate(yaml.safe_load(JOB)).subjects[0].each[0])


def cell_of(report: dict[str, Any], flow: str) -> dict[str, Any]:
    (cell,) = (c for c in report["cells"] if c["scheme"]["flow"] == flow and c["status"] == "done")
    found: dict[str, Any] = cell
    return found


def layers_of(report: dict[str, Any], flow: str) -> dict[str, Any]:
    """The layers of a flow's cell by their names, in the order in which they run."""
    ordinal = cell_of(report, flow)["id"]
    (view,) = (view for view in report["layers"] if view["cell"] == ordinal)
    (of_edge,) = view["reports"]
    assert of_edge["unavailable"] is None
    return {layer["name"]: layer for layer in of_edge["layers"]}


def figure_of(cell: dict[str, Any], metric: str) -> float:
    (found,) = (m["figure"]["value"] for m in cell["measurements"] if m["metric"] == metric)
    value: float = found
    return value


def sqnr_db(ref: Tensor, actual: Tensor) -> float:
    ref, actual = ref.detach().double(), actual.detach().double()
    return float(20 * torch.log10(ref.norm() / (ref - actual).norm()))


def in_blocks(weight: Tensor) -> Tensor:
    """The example flow's formula, block by block."""
    result = weight.clone()
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], BLOCK):
            block = weight[row, start : start + BLOCK]
            step = max(abs(w) for w in block.tolist()) / INT4_MAX
            result[row, start : start + BLOCK] = torch.tensor(
                [round(w / step) * step for w in block.tolist()]
            )
    return result


@torch.no_grad()
def outputs_in_blocks(subject: LoadedSubject, *layers: str) -> tuple[Tensor, Tensor]:
    """What the subject gives, and what it gives with these layers rounded by hand."""
    model = copy.deepcopy(subject.model)
    ref = model(*subject.evaluation.args)
    for layer in layers:
        weight = model.get_parameter(f"{layer}.weight")
        weight.copy_(in_blocks(weight))
    return ref, model(*subject.evaluation.args)


def test_the_subject_is_built_by_its_arguments_and_drawn_from_the_models_seed(subject: LoadedSubject) -> None:
    names = [name for name, part in subject.model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert names == [*CONVOLUTIONS, *LINEAR]
    torch.manual_seed(1)
    again = plugin("subject", "example.separable")(channels=16, blocks=2)
    for one, other in zip(subject.model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_subject_is_quantized_by_a_flow_of_ours(closer: dict[str, Any]) -> None:
    assert figure_of(cell_of(closer, "eager"), "sqnr_db") > 20


def test_the_flows_figure_is_that_of_its_formula(report: dict[str, Any], subject: LoadedSubject) -> None:
    ref, actual = outputs_in_blocks(subject, *LINEAR)
    found = figure_of(cell_of(report, "example.blockwise"), "sqnr_db")
    assert found == pytest.approx(sqnr_db(ref, actual), abs=1e-3)


def test_the_flow_shows_the_layers_that_it_rounds(report: dict[str, Any], subject: LoadedSubject) -> None:
    layers = layers_of(report, "example.blockwise")
    assert list(layers) == LINEAR
    for name, layer in layers.items():
        weight = subject.model.get_parameter(f"{name}.weight")
        assert layer["weight"]["value"] == pytest.approx(sqnr_db(weight, in_blocks(weight)), abs=1e-3)


def test_the_metrics_value_is_the_share_counted_by_hand(
    report: dict[str, Any], subject: LoadedSubject
) -> None:
    ref, actual = outputs_in_blocks(subject, *LINEAR)
    same = [
        row.index(max(row)) == other.index(max(other))
        for row, other in zip(ref.tolist(), actual.tolist(), strict=True)
    ]
    assert 0.5 < sum(same) / len(same) < 1
    found = figure_of(cell_of(report, "example.blockwise"), "example.top1_share")
    assert found == pytest.approx(sum(same) / len(same), abs=1e-9)


def test_the_quantizer_annotates_the_linear_layers_alone(report: dict[str, Any]) -> None:
    cell, layers = cell_of(report, "pt2e"), layers_of(report, "pt2e")
    # what a linear layer takes is quantized where it comes from
    assert list(layers) == [*CONVOLUTIONS, "flatten", "head", "relu", "fc"]
    exact = [name for name, layer in layers.items() if layer["cumulative"]["kind"] == "exact"]
    assert exact == CONVOLUTIONS
    assert figure_of(cell, "coverage") == pytest.approx(len(LINEAR) / len([*CONVOLUTIONS, *LINEAR]))
    assert figure_of(cell, "quantize_nodes") == len(LINEAR)
    assert figure_of(cell, "weights_folded") == len(LINEAR)


def test_the_quantizers_figure_is_that_of_torchs_fake_quantization(
    report: dict[str, Any], subject: LoadedSubject
) -> None:
    model: Any = subject.model

    def features(inputs: ModelInputs) -> Tensor:
        pooled: Tensor = model.pool(model.blocks(model.stem(*inputs.args)))
        return pooled.flatten(1)

    def quantized(layer: nn.Linear, seen: Tensor, given: Tensor) -> Tensor:
        steps = layer.weight.abs().amax(dim=1) / INT8_MAX
        zeros = torch.zeros_like(steps, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(layer.weight, steps, zeros, 0, -INT8_MAX, INT8_MAX)
        step = float(seen.abs().max()) / REDUCED_MAX
        given = torch.fake_quantize_per_tensor_affine(given, step, 0, -REDUCED_MAX, REDUCED_MAX)
        return nn.functional.linear(given, weight, layer.bias)

    with torch.no_grad():
        seen, given = features(subject.calibration), features(subject.evaluation)
        # the observers see the float model
        hidden = model.relu(quantized(model.head, seen, given))
        actual = quantized(model.fc, model.relu(model.head(seen)), hidden)
        ref = model(*subject.evaluation.args)
    assert figure_of(cell_of(report, "pt2e"), "sqnr_db") == pytest.approx(sqnr_db(ref, actual), abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"edges": ["float32->true"]},
            "no variant true for float32->true; it has: float64, float32, fake",
        ),
        ({"mode": "static"}, "has no mode static; it has: weight_only"),
        ({"weight_dtype": "float8_e4m3fn"}, "has no weight_dtype float8_e4m3fn; it has: int4, int8"),
        ({"granularity": "per_tensor"}, "granularity per_channel is the only one"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_flow_says_what_it_does_not_do(changes: dict[str, Any], said: str) -> None:
    scheme = {"flow": "example.blockwise", "mode": "weight_only", "granularity": "per_channel", **changes}
    edges = scheme.pop("edges", ["float32->fake"])
    refusal = plugin("flow", "example.blockwise")().supports(Quantization.model_validate(scheme), edges)
    assert said in (refusal or "")


def calibrated(model: nn.Module, **changes: Any) -> tuple[Any, Any]:
    """The example's flow and what it calibrated."""
    flow = plugin("flow", "example.blockwise")()
    scheme = {"flow": "example.blockwise", "mode": "weight_only", "granularity": "per_channel", **changes}
    inputs = ModelInputs(args=(torch.zeros(1, 8),))
    return flow, flow.calibrate(model, Quantization.model_validate(scheme), inputs)


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (nn.ReLU(), {}, "this model has none"),
        (
            nn.Sequential(nn.Linear(8, 2)),
            {"group_size": 3},
            "layer '0': its 8 inputs are no multiple",
        ),
        (nn.Sequential(nn.Linear(8, 2)), {"float_layers": ["1"]}, "float_layers names 1, which is no layer"),
        (nn.Sequential(nn.Linear(8, 2)), {"float_layers": ["0"], "group_size": 8}, "this model has none"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_flow_refuses_a_model_that_it_cannot_round(
    model: nn.Module, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Unsupported, match=re.escape(said)):
        calibrated(model, **changes)


@pytest.mark.usefixtures("installed")
def test_the_flow_leaves_the_model_and_the_float_layers_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    nn.init.zeros_(model[1].weight)
    before = copy.deepcopy(model.state_dict())
    flow, held = calibrated(model, group_size=8, float_layers=["0"])
    fake = flow.variant(held, Variant.FAKE, Lane(engine="aten"))
    assert torch.equal(fake[0].weight, before["0.weight"])
    assert torch.equal(fake[1].weight, torch.zeros(8, 8))
    assert flow.keepable(held) == ("1",)
    _, held = calibrated(model, group_size=8, weight_dtype="int8")
    assert not torch.equal(
        flow.variant(held, Variant.FAKE, Lane(engine="aten"))[0].weight, before["0.weight"]
    )
    assert held.module is not model
    for one in (model, held.module):
        assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


def test_a_layer_that_the_flow_keeps_makes_a_mixed_config(
    closer: dict[str, Any], subject: LoadedSubject
) -> None:
    ordinal = cell_of(closer, "example.blockwise")["id"]
    (sensitivity,) = (view["sensitivity"] for view in closer["layers"] if view["cell"] == ordinal)
    mixed = sensitivity["mixed"]
    assert (mixed["float_layers"], mixed["reached"]) == (["head"], True)
    assert mixed["measured"]["value"] == pytest.approx(sqnr_db(*outputs_in_blocks(subject, "fc")), abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "dynamic"}, "has no mode dynamic; it has: static"),
        ({"group_size": 8}, "leave group_size out"),
        ({"weight_dtype": "int4"}, "leave weight_dtype out"),
        ({"activation_dtype": "uint8"}, "leave activation_dtype out"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_quantizer_refuses_what_it_does_not_honour(changes: dict[str, Any], said: str) -> None:
    scheme = {"flow": "pt2e", "quantizer": "example.linear_int8", "mode": "static", **changes}
    with pytest.raises(Unsupported, match=said):
        plugin("quantizer", "example.linear_int8")(Quantization.model_validate(scheme))


@pytest.mark.parametrize(
    ("changes", "annotated"),
    [
        ({}, {"0.0.weight": (63, 0), "1.weight": (63, 0)}),
        ({"reduce_range": False}, {"0.0.weight": (127, 0), "1.weight": (127, 0)}),
        ({"granularity": "per_tensor"}, {"0.0.weight": (63, None), "1.weight": (63, None)}),
        ({"float_layers": ["1"]}, {"0.0.weight": (63, 0)}),
        ({"float_layers": ["0"]}, {"1.weight": (63, 0)}),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_quantizer_honours_range_granularity_and_float_layers(
    changes: dict[str, Any], annotated: dict[str, Any]
) -> None:
    scheme = {"flow": "pt2e", "mode": "static", "granularity": "per_channel", **changes}
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4))
    quantizer = plugin("quantizer", "example.linear_int8")(Quantization.model_validate(scheme))
    graph = quantizer.annotate(torch.export.export(model, (torch.zeros(2, 4),)).module())
    found = {}
    for node in graph.graph.nodes:
        if "quantization_annotation" in node.meta:
            given, weight = node.meta["quantization_annotation"].input_qspec_map.values()
            found[str(node.args[1].target)] = (given.quant_max, weight.ch_axis)
    assert found == annotated


@pytest.mark.parametrize(
    ("ref", "actual", "expected"),
    [
        ([[1.0, 2.0], [4.0, 3.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0], [0.0, 9.0]], 2 / 3),
        ([1.0, 2.0], [1.0, 2.0], None),
        ([[1.0], [2.0]], [[1.0], [2.0]], None),
        ([[1j, 2.0]], [[1j, 2.0]], None),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_metric_counts_rows_and_knows_where_there_are_none(
    ref: list[Any], actual: list[Any], expected: float | None
) -> None:
    assert plugin("metric", "example.top1_share")(torch.tensor(ref), torch.tensor(actual)) == expected


@pytest.mark.usefixtures("installed")
def test_the_metric_takes_no_nan_for_a_class() -> None:
    ref, actual = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, float("nan")]])
    share = plugin("metric", "example.top1_share")(ref, actual)
    assert share != share  # noqa: PLR0124 - NaN


@pytest.fixture(scope="module")
def failures(installed: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What went wrong, by the name of what it went wrong with."""
    base = yaml.safe_load(JOB)["subjects"][0]
    flow = {"mode": "weight_only", "edge": "float32->fake"}
    names = ["example.blokwise", "acme.raising", "acme.astray", "acme.twice"]
    schemes = [{**flow, "flow": name} for name in names]
    quantizer = "example.linear_int4"
    pt2e = {"flow": "pt2e", "mode": "static", "edge": "float32->reference", "quantizer": quantizer}
    subjects = [
        {**base, "zoo": "example.seperable", "schemes": schemes[:1]},
        {**base, "args": {"blocks": 0}, "schemes": schemes[:1]},
        {**base, "schemes": [*schemes, pt2e]},
    ]
    job = {"version": 1, "subjects": subjects, "lanes": {"engine": ["aten", "inductor"]}}
    ran = run(job, installed)
    assert ran.returncode == 2, ran.stderr
    cells = json.loads(ran.stdout)["cells"]
    # pt2e runs on the second lane, the others on the first
    told = [*cells[:-2:2], cells[-1]]
    return dict(zip(["example.seperable", "example.separable", *names, quantizer], told, strict=True))


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("example.seperable", "example.separable"),
        ("example.blokwise", "acme.astray, acme.raising, acme.twice, example.blockwise"),
        ("example.linear_int4", "example.linear_int8"),
    ],
)
def test_a_name_that_no_package_brings_is_unsupported_and_told_what_there_is(
    failures: dict[str, dict[str, Any]], name: str, listed: str
) -> None:
    assert failures[name]["status"] == "unsupported"
    assert name in failures[name]["reason"]
    assert listed in failures[name]["reason"]


@pytest.mark.parametrize(
    ("name", "reason", "file"),
    [
        ("acme.raising", "ArithmeticError: this flow lost its blocks", "acme_faulty.py"),
        ("example.separable", "ValueError: channels 16, blocks 0", "noisefloor_example_subject.py"),
        ("acme.astray", "ModuleNotFoundError: No module named 'acme_that_is_not_there'", "importlib"),
    ],
)
def test_a_plugin_that_raises_fails_its_cell_with_its_traceback(
    failures: dict[str, dict[str, Any]], name: str, reason: str, file: str
) -> None:
    cell = failures[name]
    assert cell["status"] == "failed"
    assert cell["reason"].startswith(reason)
    assert file in cell["traceback"]


def test_a_name_that_two_packages_bring_is_refused(failures: dict[str, dict[str, Any]]) -> None:
    assert failures["acme.twice"]["status"] == "unsupported"
    assert failures["acme.twice"]["reason"].endswith("in several packages, keep one of them: acme, acme-too")


def walked(analysis: Analysis, **changes: Any) -> CellResult:
    """The job's first cell, in this process."""
    job = JobSpec.model_validate(yaml.safe_load(JOB))
    threads = torch.get_num_threads()
    scheme = job.schemes[0].replace(**changes)
    cell = CellTask(cell="a", scheme=scheme, lane=Lane(engine="aten", threads=threads))
    task = ShardTask(subject=job.subjects[0].each[0], threads=threads, cells=(cell,), analysis=analysis)
    (result,) = (event.result for event in walk(task) if isinstance(event, CellFinished))
    return result


@pytest.mark.parametrize(
    ("metrics", "changes", "used"),
    [
        ((), {}, {"subject", "flow"}),
        (("example.top1_share",), {}, {"subject", "flow", "metric"}),
        # what fails used it too
        ((), {"flow": "torchao", "quantizer": "example.linear_int8"}, {"subject", "quantizer"}),
    ],
)
@pytest.mark.usefixtures("installed")
def test_the_versions_of_the_packages_that_a_cell_uses_are_in_its_environment(
    metrics: tuple[str, ...], changes: dict[str, Any], used: set[str]
) -> None:
    found = walked(Analysis(metrics=metrics), **changes).environment
    assert found is not None
    assert found.plugins == {f"noisefloor-example-{kind}": "0.1.0" for kind in used}


def test_a_package_whose_metadata_lack_a_version_is_recorded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "acme_bare-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: acme-bare\n")
    (info / "entry_points.txt").write_text("[noisefloor.flows]\nacme.bare = acme_bare:Flow\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages_of([("flow", "acme.bare"), ("flow", "eager")]) == {"acme-bare": "unknown"}


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("acme.raising", CellStatus.FAILED, "ArithmeticError: this metric divides by nothing"),
        ("acme.frist", CellStatus.UNSUPPORTED, "metric acme.frist is not part of this worker; it has: "),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_metric_that_fails_costs_the_cell_its_figures(name: str, status: CellStatus, reason: str) -> None:
    result = walked(Analysis(metrics=(name,)))
    assert (result.status, result.measurements) == (status, ())
    assert (result.reason or "").startswith(reason)
    assert ("acme_faulty.py" in (result.traceback or "")) == (status is CellStatus.FAILED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schemes": [{"flow": "eagr", "mode": "static", "edge": "float32->true"}]}, "did you mean 'eager'?"),
        ({"analysis": {"metrics": ["top1_share"]}}, "a plugin's name has a dot in it"),
    ],
)
def test_a_name_without_a_dot_is_refused_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    ran = run({**yaml.safe_load(JOB), **changes}, dict(os.environ))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr


def measured(name: str, ref: object, actual: object) -> dict[str, Figure]:
    """One metric of every leaf, by its place."""
    found = plugin_measurements([name], "float32->fake", ref=ref, actual=actual)
    assert {m.metric for m in found} <= {name}
    return {m.place: m.figure for m in found}


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("acme.first", Figure.finite(0.5)),
        ("acme.nothing", Figure.of(FigureKind.NOT_APPLICABLE)),
        ("acme.nan", Figure.of(FigureKind.NONFINITE)),
        ("acme.infinite", Figure.of(FigureKind.NONFINITE)),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_a_metric_gives_is_typed(name: str, figure: Figure) -> None:
    assert measured(name, torch.tensor([2.0, 1.0]), torch.tensor([1.5, 1.0])) == {"output": figure}


@pytest.mark.usefixtures("installed")
def test_each_leaf_that_can_be_compared_has_its_own_figure() -> None:
    integers, floats = torch.tensor([1, 2]), torch.tensor([2.0])
    ref = {"a": floats, "ids": integers, "more": (floats, floats, 3.0)}
    actual = {"a": floats - 1, "ids": integers, "more": (floats - 2, torch.zeros(3), 1.0)}
    found = measured("acme.first", ref, actual)
    assert {place: figure.value for place, figure in found.items()} == {
        "output['a']": 1.0,
        "output['more'][0]": 2.0,
        "output['more'][2]": 2.0,
    }


@pytest.mark.parametrize(
    ("ref", "actual"),
    [
        (torch.tensor([1]), torch.tensor([1])),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        ((torch.zeros(2),), [torch.zeros(2)]),
    ],
)
@pytest.mark.usefixtures("installed")
def test_integers_and_what_differs_in_shape_dtype_or_structure_have_no_metric(
    ref: object, actual: object
) -> None:
    assert measured("acme.first", ref, actual) == {}


@pytest.mark.usefixtures("installed")
def test_a_metric_that_works_in_place_changes_nothing_for_anybody_else() -> None:
    ref, actual = torch.tensor([2.0, 1.0]), torch.tensor([1.5, 1.0])
    names = ("acme.in_place", "acme.first")
    found = plugin_measurements(names, "float32->fake", ref=ref, actual=actual)
    assert [m.figure.value for m in found] == [0.5, 0.5]
    assert ref.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(("name", "kind"), [("acme.text", "str"), ("acme.several", "Tensor")])
@pytest.mark.usefixtures("installed")
def test_a_metric_that_gives_no_number_is_named_with_what_it_gave(name: str, kind: str) -> None:
    with pytest.raises(TypeError, match=f"metric {name} returned a {kind} that is neither a number nor None"):
        measured(name, torch.ones(2), torch.ones(2))


@pytest.mark.parametrize(
    ("name", "accepted"), [("acme.huge", "-1e+100 to 1e+100"), ("acme.huge_db", "-20000 to 20000")]
)
@pytest.mark.usefixtures("installed")
def test_a_number_that_no_figure_can_be_is_named_with_what_can(name: str, accepted: str) -> None:
    said = re.escape(f"metric {name} returned 1e+300; accepted: {accepted}")
    with pytest.raises(ValueError, match=said):
        measured(name, torch.ones(2), torch.ones(2))


def test_a_packages_own_test_measures_without_a_service(installed: dict[str, str]) -> None:
    own = str(PLUGINS / "flow" / "test_blockwise.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", own]
    ran = subprocess.run(command, env=installed, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


def blocks(*languages: str) -> list[str]:
    """The page's fenced blocks in these languages."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language in languages]


def test_every_piece_of_code_on_the_page_is_a_packages_own() -> None:
    sources = [path.read_text() for path in PLUGINS.rglob("*.*") if path.suffix in {".py", ".toml", ".yaml"}]
    pieces = blocks("python", "toml", "yaml")
    assert len(pieces) + len(blocks("sh")) == PAGE.count("\n```") / 2
    for piece in pieces:
        assert any(f"\n{piece}" in f"\n{source}" for source in sources), piece
    for kind in KINDS:
        (module,) = (PLUGINS / kind).glob("noisefloor_*.py")
        assert any(piece in module.read_text() for piece in pieces), f"nothing of the {kind}"


def test_every_command_on_the_page_exists() -> None:
    verbs = set(get_command(app).commands)  # type: ignore[attr-defined]
    for line in "".join(blocks("sh")).splitlines():
        program, verb, *paths = shlex.split(line)
        assert program in {"pip", "noisefloor"}
        assert verb == "install" if program == "pip" else verb in verbs
        assert all((ROOT / path).exists() for path in paths)


def test_every_link_and_every_group_on_the_page_is_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link.partition("#")[0]).exists(), link
    for kind in KINDS:
        assert (
            f'[project.entry-points."noisefloor.{kind}s"]' in (PLUGINS / kind / "pyproject.toml").read_text()
        )
        assert f"| {kind} | `noisefloor.{kind}s` |" in PAGE
