"""Scripts: what they call exact is what the oracle says, for every operator."""

import pytest
import torch
from tests.conformance.kernels import valid

from noisefloor_workers.conformance.operators import OPERATORS
from noisefloor_workers.conformance.script import script


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, ")
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_a_script_holds_torch_against_what_the_oracle_says(name: str) -> None:
    operator = OPERATORS[name]
    cases = list(valid(operator))
    case, posed = next((one for one in cases if one[1].exact.real.numel()), cases[0])
    lines = script(operator, case, engine="qnnpack", isa="native").splitlines()
    # without the engine and without torch's kernel
    kept = [line for line in lines if not line.startswith(("torch.backends", "runs = "))]
    end = next(number for number, line in enumerate(kept) if line.startswith("codes = ["))
    names: dict[str, object] = {}
    exec("\n".join(kept[:end]), names)
    exact = names["exact"]
    assert isinstance(exact, torch.Tensor)
    torch.testing.assert_close(exact, posed.exact.clamped, rtol=1e-9, atol=1e-9)
