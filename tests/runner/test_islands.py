"""Layers that stay in float32 amid quantized ones: they quantize what they give only where it is taken so."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import quantization as ao
from torch.ao.nn.quantized import FloatFunctional

from noisefloor.contract.lane import Lane
from noisefloor.contract.scheme import Mode, Quantization, Variant
from noisefloor_workers.flows.eager import VARIANTS, Eager
from noisefloor_workers.flows.protocol import Calibrated
from noisefloor_workers.subjects.inputs import ModelInputs

ROWS = ModelInputs(args=(torch.randn(32, 8, generator=torch.Generator().manual_seed(1)),))
MODES: list[Mode] = ["static", "qat"]
LANE = Lane(engine="x86")  # the engine that is bound is what counts


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        yield


class Net(nn.Module):
    """Layers, and a forward that calls them."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], object], **layers: nn.Module) -> None:
        super().__init__()
        self.forward_with = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> object:
        return self.forward_with(self, x)


def net(forward: Callable[[Any, torch.Tensor], object], *names: str, **layers: nn.Module) -> nn.Module:
    """`names` are linear layers."""
    return Net(forward, **{name: nn.Linear(8, 8) for name in names}, **layers).eval()


def own_stubs(inner: Callable[[Any, torch.Tensor], torch.Tensor], *names: str) -> nn.Module:
    stubs = {"quant": ao.QuantStub(), "dequant": ao.DeQuantStub()}
    return net(lambda m, x: m.dequant(inner(m, m.quant(x))), *names, **stubs)


def stack(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.head(torch.relu(m.body(m.stem(x))))
    return result


STACK = ("stem", "body", "head")


def calibrated(model: nn.Module, mode: Mode, *kept: str) -> Calibrated:
    quantization = Quantization.model_validate({"flow": "eager", "mode": mode, "float_layers": kept})
    return Eager().calibrate(model, quantization, ROWS)


def outputs(model: nn.Module, mode: Mode, *kept: str) -> dict[Variant, torch.Tensor]:
    """What each quantized variant gives."""
    found = calibrated(model, mode, *kept)
    forms = VARIANTS[mode][1:]
    return {form: ROWS.fed_to(Eager().variant(found, form, LANE)) for form in forms}  # type: ignore[misc]


def quantizing(model: nn.Module, *kept: str, mode: Mode = "static") -> set[str]:
    """The islands that quantize what they give; the model must run once it is converted."""
    outputs(model, mode, *kept)
    parts = calibrated(model, mode, *kept).module.named_modules()
    paths = {path.removeprefix("module.") for path, part in parts if isinstance(part, ao.QuantStub)}
    return {path.removesuffix(".quant") for path in paths if path.removesuffix(".quant") in kept}


def rounded(tensor: torch.Tensor, mode: Mode) -> torch.Tensor:
    """A tensor quantized by plain torch as that observer says which saw it, and dequantized."""
    observer: Any = (ao.default_qconfig if mode == "static" else ao.default_qat_qconfig).activation()
    observer(tensor)
    scale, zero_point = observer.calculate_qparams()
    return torch.quantize_per_tensor(tensor, float(scale), int(zero_point), torch.quint8).dequantize()


def sqnr_db(ref: torch.Tensor, actual: torch.Tensor) -> float:
    ref, actual = ref.double(), actual.double()
    return 20 * math.log10(float(ref.norm() / (ref - actual).norm()))


@pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("build", [net, own_stubs])
def test_with_every_layer_in_float_the_input_alone_is_quantized(
    mode: Mode, build: Callable[..., nn.Module]
) -> None:
    model = build(stack, *STACK)
    ref = model(*ROWS.args)
    expected = sqnr_db(ref, stack(model, rounded(*ROWS.args, mode)))

    found = outputs(model, mode, *STACK)

    assert set(found) == set(VARIANTS[mode][1:])
    for output in found.values():
        assert sqnr_db(ref, output) == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_layers_after_a_quantized_one_add_no_error_of_their_own(mode: Mode) -> None:
    """A step of a bisection: what comes first is quantized, and the rest is not."""
    model: Any = net(stack, *STACK)
    first = net(lambda m, x: m.stem(x), stem=model.stem)

    found = outputs(model, mode, "body", "head")
    quantized = outputs(first, mode)

    for form, output in found.items():
        assert torch.equal(output, model.head(torch.relu(model.body(quantized[form]))))


@pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning")
def test_layer_before_a_quantized_one_gives_it_what_it_takes() -> None:
    model: Any = net(stack, *STACK)
    rest = net(lambda m, x: m.head(torch.relu(x)), head=model.head)

    found = outputs(model, "static", "stem", "body")[Variant.TRUE]

    between = model.body(model.stem(rounded(*ROWS.args, "static")))
    flow = Eager()
    quantization = Quantization(flow="eager", mode="static")
    held = flow.calibrate(rest, quantization, ModelInputs(args=(model.body(model.stem(*ROWS.args)),)))
    assert torch.equal(found, flow.variant(held, Variant.TRUE, LANE)(between))
    assert quantizing(model, "stem", "body") == {"body"}


def activated(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.head(m.act(m.body(x)))
    return result


def residual(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = m.stem(x)
    result: torch.Tensor = m.head(m.plus.add(x, m.body(x)))
    return result


def twice(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.body(m.head(m.body(x)))
    return result


def unfollowed(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = m.head(m.body(x))
    return result


def detached(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.head(m.body(x).detach())
    return result


def wary(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Raises when it is tried on a few rows."""
    if len(x) != len(ROWS.args[0]):
        raise ValueError("another batch")
    result: torch.Tensor = m.head(x)
    return result


def in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = m.body(x)
    torch.relu_(x)
    result: torch.Tensor = m.head(x)
    return result


def beside(m: Any, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = m.head(torch.cat([m.stem(x), m.body(x)], dim=-1)[..., :8])
    return result


def again(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Leaves for float and comes back by its own stubs."""
    result: torch.Tensor = m.head(m.quant(torch.sin(m.dequant(m.body(x)))))
    return result


@pytest.mark.filterwarnings("ignore:All inputs of this cat operator:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("build", "kept", "expected"),
    [
        (lambda: net(stack, *STACK), ("stem", "head"), {"stem"}),
        (lambda: net(activated, "body", "head", act=nn.ReLU()), ("body",), {"body"}),
        (lambda: net(activated, "body", "head", act=nn.ReLU()), ("body", "head"), set()),
        (lambda: net(activated, "body", "head", act=nn.ReLU6()), ("body", "head"), {"body"}),
        (lambda: net(residual, *STACK, plus=FloatFunctional()), ("body", "head"), {"body"}),
        (lambda: net(residual, *STACK, plus=FloatFunctional()), STACK, {"stem", "body"}),
        (lambda: own_stubs(stack, *STACK), ("stem", "head"), {"stem"}),
        (lambda: own_stubs(again, "body", "head"), ("body",), set()),
        (lambda: net(twice, "body", "head"), ("body",), {"body"}),
        (lambda: net(twice, "body", "head"), ("body", "head"), set()),
        (lambda: net(wary, "head"), ("head",), {"head"}),
        (lambda: net(unfollowed, "body", "head"), ("head",), {"head"}),
        (lambda: net(detached, "body", "head"), ("body",), {"body"}),
        (lambda: net(in_place, "body", "head"), ("body",), {"body"}),
        (lambda: net(in_place, "body", "head"), ("body", "head"), set()),
        (lambda: net(beside, *STACK), ("body", "head"), {"body"}),
        (lambda: net(beside, *STACK), STACK, set()),
        (lambda: net(lambda m, x: (m.head(x), m.body(m.stem(x))), *STACK), ("head", "stem"), {"stem"}),
        (lambda: net(lambda m, x: m.head(x), "head", "unused"), ("unused",), set()),
    ],
    ids=[
        "first-and-last",
        "relu",
        "relu-float",
        "relu6",
        "residual",
        "residual-float",
        "own-stubs",
        "out-and-in",
        "twice",
        "twice-float",
        "raises",
        "no-grad",
        "detached",
        "in-place",
        "in-place-float",
        "cat-with-quantized",
        "cat-of-float",
        "two-outputs",
        "never-called",
    ],
)
def test_quantizes_for_a_quantized_layer_alone(
    mode: Mode, build: Callable[[], nn.Module], kept: tuple[str, ...], expected: set[str]
) -> None:
    assert quantizing(build(), *kept, mode=mode) == expected


def test_float_output_has_no_step() -> None:
    true = Eager().variant(calibrated(net(stack, *STACK), "static", "head"), Variant.TRUE, LANE)

    assert Eager().output_step(true, ROWS) is None


@pytest.mark.parametrize("mode", VARIANTS)
def test_layers_that_may_be_named_stay_the_same(mode: Mode) -> None:
    model, flow = net(stack, *STACK), Eager()

    assert set(flow.keepable(calibrated(model, mode))) == set(STACK)
    assert set(flow.keepable(calibrated(model, mode, "head"))) == {"stem", "body"}


@pytest.mark.parametrize("mode", MODES)
def test_layer_that_is_float_at_both_ends_is_no_layer_to_look_into(mode: Mode) -> None:
    held = calibrated(net(stack, *STACK), mode, "stem", "head")
    names: list[str] = []
    Eager().layers(held, Variant.FLOAT32).run(ROWS, lambda call: names.append(call.layer))

    assert names == ["input 0", "stem.quant", "body"]


def test_looking_for_who_takes_what_draws_no_numbers() -> None:
    model = net(lambda m, x: m.head(x) + torch.rand(8), "head")
    state = torch.get_rng_state()
    model(*ROWS.args)
    expected = torch.rand(1)
    torch.set_rng_state(state)
    calibrated(model, "static", "head")

    assert torch.equal(torch.rand(1), expected)
