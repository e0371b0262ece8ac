"""The list of operators is held against what the installed torch registers."""

import warnings
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from tests.conformance.kernels import valid
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from noisefloor_workers.conformance import registry
from noisefloor_workers.conformance.operators import FAMILIES, OPERATORS
from noisefloor_workers.conformance.operators.operator import Operator

# what torch itself asserts never to be reached
REFUSED_EVERYWHERE = {"sparse::qlinear_relu_dynamic"}


class Recorder(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_every_registered_operator_is_held_or_left_out_for_a_reason() -> None:
    assert [one.name for one in registry.coverage() if not one.by and one.reason is None] == []


def test_a_new_operator_of_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    was = registry.registered()
    monkeypatch.setattr(registry, "registered", lambda: [*was, "quantized::linear_swish", "onednn::qsub"])
    new = [one.name for one in registry.coverage() if not one.by and one.reason is None]
    assert new == ["quantized::linear_swish", "onednn::qsub"]


def test_no_reason_stands_for_nothing() -> None:
    left_out = [one.name for one in registry.coverage() if not one.by]
    patterns = [pattern for each in registry.LEFT_OUT.values() for pattern in each]
    assert [one for one in patterns if not any(fnmatchcase(name, one) for name in left_out)] == []


def test_what_is_held_is_registered_and_no_entry_hides_another() -> None:
    names = set(registry.registered())
    assert {name for one in OPERATORS.values() for name in one.registered} - names == set()
    assert len(OPERATORS) == sum(len(family.OPERATORS) for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_a_call_reaches_what_its_entry_says_it_holds(family: Any) -> None:
    for operator in family.OPERATORS:
        called = {name.partition(".")[0] for name in _called(operator)}
        missing = {name.partition(".")[0] for name in operator.registered} - called
        assert not missing or operator.name in REFUSED_EVERYWHERE, f"{operator.name} reaches {called}"


def _called(operator: Operator) -> set[str]:
    """What the first cases call that run on an engine, by their names."""
    was = torch.backends.quantized.engine
    recorder = Recorder()
    for engine in set(operator.engines) & set(torch.backends.quantized.supported_engines):
        torch.backends.quantized.engine = engine
        each = [posed for _case, posed in valid(operator)]
        posed = next((one for one in each if one.exact.real.numel()), each[0])
        try:
            with torch.no_grad(), warnings.catch_warnings(), recorder:
                warnings.simplefilter("ignore")
                operator.run(posed.givens)
        except RuntimeError:
            continue
        finally:
            torch.backends.quantized.engine = was
    return recorder.names
