"""The eager flow: what it offers, whose observers it uses, and which of them it refuses."""

from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.ao import quantization as ao

from noisefloor.contract.lane import Engine, Lane
from noisefloor.contract.scheme import Edge, Granularity, Mode, Quantization, Variant
from noisefloor_workers.flows import CalibrationError, Unsupported, flow_named
from noisefloor_workers.flows.eager import Eager, qconfig
from noisefloor_workers.lanes.engine import bound
from noisefloor_workers.subjects import imported
from noisefloor_workers.subjects.inputs import ModelInputs

LANE = Lane(engine="x86")  # the engine that is bound is what counts
DATA = torch.rand(16, 4, generator=torch.Generator().manual_seed(1))
OFFERED: dict[Mode, set[Edge]] = {
    "static": {"float32->true"},
    "dynamic": {"float32->true"},
    "qat": {"float32->true", "float32->fake", "fake->true"},
    "weight_only": {"float32->fake"},
    "activation_only": {"float32->fake"},
}


def given(*tensors: torch.Tensor) -> ModelInputs:
    return ModelInputs(args=tensors)


def quantization(**changes: Any) -> Quantization:
    return Quantization.model_validate({"flow": "eager", "mode": "static", **changes})


def model(factory: str, **args: float) -> nn.Module:
    return imported.build(f"subjects_under_test.stacks:{factory}", args, ["subjects_under_test"]).eval()


@pytest.mark.parametrize(
    ("mode", "granularity", "edge"),
    list(product(OFFERED, get_args(Granularity), get_args(Edge))),
)
def test_supports_what_the_mode_offers_and_says_why_not(
    mode: Mode, granularity: Granularity, edge: Edge
) -> None:
    reason = flow_named("eager").supports(quantization(mode=mode, granularity=granularity), [edge])

    if mode == "activation_only" and granularity == "per_channel":
        assert reason is not None
        assert "per_tensor" in reason
    elif edge == "float64->float32" or edge.replace("float64", "float32") in OFFERED[mode]:
        assert reason is None
    else:
        assert reason is not None
        assert "it has: float64, float32, " in reason


@pytest.mark.parametrize(
    ("mode", "granularity", "expected"),
    [
        ("static", "per_tensor", ao.default_qconfig),
        ("static", "per_channel", ao.default_per_channel_qconfig),
        ("dynamic", "per_tensor", ao.default_dynamic_qconfig),
        ("dynamic", "per_channel", ao.per_channel_dynamic_qconfig),
        ("qat", "per_tensor", ao.default_qat_qconfig),
        ("weight_only", "per_tensor", ao.default_weight_only_qconfig),
        ("activation_only", "per_tensor", ao.default_activation_only_qconfig),
    ],
)
def test_defaults_are_those_of_torch(mode: Mode, granularity: Granularity, expected: ao.QConfig) -> None:
    assert qconfig(quantization(mode=mode, granularity=granularity)) == expected


@pytest.mark.parametrize("mode", ["qat", "weight_only"])
def test_per_channel_changes_the_weights_alone(mode: Mode) -> None:
    per_tensor, per_channel = (qconfig(quantization(mode=mode, granularity=g)) for g in get_args(Granularity))

    assert per_channel.activation is per_tensor.activation
    assert per_channel.weight is ao.default_per_channel_weight_fake_quant


@pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning")
@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 127), (False, 255)])
@pytest.mark.parametrize("mode", ["static", "qat", "activation_only"])
def test_reduce_range_takes_one_bit_of_the_activations(
    mode: Mode, *, reduce_range: bool, largest: int
) -> None:
    observer = qconfig(quantization(mode=mode, reduce_range=reduce_range)).activation()

    assert (observer.quant_min, observer.quant_max) == (0, largest)


def test_calibration_leaves_the_float_model_as_it_was(importable: Path) -> None:
    assert importable
    float_model = model("linear")
    before = float_model(DATA)
    Eager().calibrate(float_model, quantization(), given(DATA))

    assert torch.equal(float_model(DATA), before)


def test_output_step_is_the_scale_of_the_last_dequantization(importable: Path) -> None:
    assert importable
    flow = Eager()
    true = flow.variant(flow.calibrate(model("linear"), quantization(), given(DATA)), Variant.TRUE, LANE)
    step = flow.output_step(true, given(DATA))

    assert step == pytest.approx(true.module.fc.scale)
    assert not any(part._forward_pre_hooks for part in true.modules())


@pytest.mark.parametrize("variant", [Variant.FLOAT32, Variant.FAKE])
def test_variant_that_the_mode_lacks_is_unsupported(importable: Path, variant: Variant) -> None:
    assert importable
    flow = Eager()
    with pytest.raises(Unsupported, match="eager static derives: true; not"):
        flow.variant(flow.calibrate(model("linear"), quantization(), given(DATA)), variant, LANE)


@pytest.mark.parametrize("mode", ["static", "qat"])
@pytest.mark.parametrize(
    ("factory", "args", "inputs", "layer", "reason"),
    [
        ("mixed", {}, DATA, "unused", "saw no data"),
        ("linear", {"weight": float("nan")}, DATA, "fc", "1 of 16 values of its weight are not finite"),
        ("linear", {"weight": 3e38}, DATA * 3e38, "fc", "saw NaN or infinity"),
        ("linear", {}, DATA * float("nan"), "input 0", "saw NaN or infinity"),
    ],
)
def test_unsound_observer_is_an_error_with_the_layers_name(
    importable: Path,
    *,
    mode: Mode,
    factory: str,
    args: dict[str, float],
    inputs: torch.Tensor,
    layer: str,
    reason: str,
) -> None:
    assert importable
    with pytest.raises(CalibrationError, match=reason) as caught:
        Eager().calibrate(model(factory, **args), quantization(mode=mode), given(inputs))

    assert caught.value.layer == layer
    assert str(caught.value).startswith(f"layer '{layer}': ")


def test_range_that_overflows_gives_no_scale(importable: Path) -> None:
    assert importable
    inputs = torch.tensor([[3e38, -3e38, 0.0, 0.0]])
    with pytest.raises(CalibrationError, match="no finite positive scale"):
        Eager().calibrate(model("linear", weight=0.0), quantization(), given(inputs))


@pytest.mark.parametrize("engine", [e for e in torch.backends.quantized.supported_engines if e != "none"])
@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_dynamic_is_torchs_own_dynamic_quantization(engine: Engine, granularity: Granularity) -> None:
    torch.manual_seed(1)
    subject = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    layers = {nn.Linear: qconfig(quantization(mode="dynamic", granularity=granularity))}
    with bound(Lane(engine=engine, threads=torch.get_num_threads())):
        expected = ao.quantize_dynamic(subject, layers)(DATA)
        flow = Eager()
        calibrated = flow.calibrate(
            subject, quantization(mode="dynamic", granularity=granularity), given(DATA)
        )
        found = flow.variant(calibrated, Variant.TRUE, LANE)(DATA)
    assert torch.equal(found, expected)
    assert not torch.equal(found, subject(DATA))


def test_dynamic_refuses_a_model_without_anything_to_quantize() -> None:
    with pytest.raises(Unsupported, match="it quantizes: Linear, LSTM"):
        Eager().calibrate(nn.Sequential(nn.Conv2d(3, 3, 1)), quantization(mode="dynamic"), given(DATA))


def test_dynamic_has_no_range_to_reduce() -> None:
    reason = Eager().supports(quantization(mode="dynamic", reduce_range=False), ["float32->true"])
    assert reason is not None
    assert "reduce_range true" in reason
