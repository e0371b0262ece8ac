"""The ratio's direction, against torch's own n-shadows tool, which divides by the quantized tensor's norm."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao.ns import _numeric_suite_fx
from torch.ao.ns.fx.qconfig_multi_mapping import QConfigMultiMapping
from torch.ao.quantization import QConfigMapping, default_qconfig
from torch.ao.quantization.backend_config import get_native_backend_config

from noisefloor_workers.numerics.accumulate import sqnr_db

ns: Any = _numeric_suite_fx


@pytest.fixture
def shadowed() -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Float layer, quantized layer, and what n-shadows says of the two; calibrated on too little."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    example = (torch.rand(4, 8) * 0.05,)
    mapping = QConfigMultiMapping.from_list_qconfig_mapping([QConfigMapping().set_global(default_qconfig)])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shadows = ns.prepare_n_shadows_model(model, example, mapping, get_native_backend_config())
        shadows(*example)
        shadows = ns.convert_n_shadows_model(shadows)
        ns.loggers_set_enabled(shadows, enabled=True)
        ns.loggers_set_save_activations(shadows, save_activations=True)
        shadows(torch.rand(16, 8))
        found = ns.extract_results_n_shadows_model(shadows)["model"]["node_output"]
    return [
        (
            found[f"subgraph_{n}_0"][0]["values"][0],
            found[f"subgraph_{n}_1"][0]["values"][0],
            float(found[f"subgraph_{n}_1"][0]["comparisons"][0]),
        )
        for n in (0, 1)
    ]


def test_float_is_never_divided_by_the_quantized_norm(
    shadowed: list[tuple[torch.Tensor, torch.Tensor, float]],
) -> None:
    for reference, quantized, theirs in shadowed:
        error = torch.linalg.vector_norm(reference.double() - quantized.double())
        norms = [torch.linalg.vector_norm(t.double()) for t in (reference, quantized)]
        by_reference, by_quantized = (20 * float(torch.log10(norm / error)) for norm in norms)
        ours = sqnr_db(ref=reference, actual=quantized).value
        print(f"n-shadows {theirs:.3f} dB, Noisefloor {ours:.3f} dB")  # noqa: T201 - both figures, for the reader

        assert theirs == pytest.approx(by_quantized, abs=1e-3)
        assert ours == pytest.approx(by_reference, abs=1e-9)

    saturated = shadowed[0]
    ours = sqnr_db(ref=saturated[0], actual=saturated[1]).value
    assert ours is not None
    assert ours > 0 > saturated[2]  # the sign itself differs where the quantized range is too narrow
