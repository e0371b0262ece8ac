"""The long configurations of PyTorch's operator benchmark, as a job: 592 cells.

python examples/operators_long.py | noisefloor run -          # on the CPU
python examples/operators_long.py cuda | noisefloor submit -  # on a worker with a GPU
"""

import json
import sys
from itertools import product
from typing import Any

SIDES = (256, 1024)
FORWARD = {"flow": "ops", "mode": "forward", "edges": ["float64->fake", "fake->true"]}
BOTH_WAYS = [FORWARD, {"flow": "ops", "mode": "backward", "edge": "float64->fake"}]
TRUE = [{"flow": "ops", "mode": "forward", "edge": "float64->true"}]


def subjects() -> list[dict[str, Any]]:
    """Each operator with its schemes."""
    found = []
    for channels, m, n, dtype, way in product(
        (3, 5, 8), SIDES, SIDES, ("quint8", "qint8", "qint32"), ("quantize", "dequantize")
    ):
        given = {"shape": [channels, m, n], "dtype": dtype}
        found.append(subject(f"{way}_per_tensor", TRUE, **given))
        found += [subject(f"{way}_per_channel", TRUE, **given, axis=axis) for axis in (0, 1, 2)]
    for channels, height, width in product((1, 3, 8, 32), SIDES, SIDES):
        image = {"shape": [1, channels, height, width]}
        found.append(subject("FakeQuantize", [FORWARD], **image))
        for bits, kernel in product((4, 8), ("fake_quantize", "fake_quantize_learnable")):
            found.append(subject(f"{kernel}_per_tensor_affine", BOTH_WAYS, **image, bits=bits))
            found.append(subject(f"{kernel}_per_channel_affine", BOTH_WAYS, **image, bits=bits, axis=1))
        for zero_point_dtype in ("float32", "float16"):
            name, given = "fake_quantize_per_channel_affine", {"zero_point_dtype": zero_point_dtype}
            found.append(subject(name, [FORWARD], **image, axis=1, **given))
    return found


def subject(name: str, schemes: list[dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    """One operator, on the values of the benchmark."""
    return {"operator": {"name": name, "values": "unit", **arguments}, "schemes": schemes}


if __name__ == "__main__":
    job = {
        "version": 1,
        "name": "operators-long",
        "subjects": subjects(),
        "lanes": {"engine": ["aten"], "device": sys.argv[1:] or ["cpu"]},
        "limits": {"memory_gib": 8, "cell_timeout_s": 600},
    }
    sys.stdout.write(json.dumps(job))
