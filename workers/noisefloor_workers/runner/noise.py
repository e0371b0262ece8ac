"""How far a figure moves when nothing is changed: measured, not assumed."""

import torch
from torch import nn

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure
from noisefloor.contract.measurement import Noise
from noisefloor.contract.scheme import Edge
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.runner.forward import forward
from noisefloor_workers.runner.sensitivity import worth
from noisefloor_workers.subjects.inputs import ModelInputs


def noise(edge: Edge, *, ref: object, model: nn.Module, inputs: ModelInputs, analysis: Analysis) -> Noise:
    """Run the actual variant again, on each thread count, against the same reference output."""
    own = torch.get_num_threads()
    counts = tuple(dict.fromkeys((own, *analysis.threads)))
    figures: list[Figure] = []
    digests: set[str | None] = set()
    try:
        for threads in counts:
            torch.set_num_threads(threads)
            for _ in range(analysis.repeats):
                pooled = compare(edge=edge, ref=ref, actual=forward(model, inputs))[0]
                figures.append(pooled.figure)
                digests.add(pooled.output_digest)
    finally:
        torch.set_num_threads(own)
    return Noise(
        runs=len(figures),
        threads=counts,
        lowest=min(figures, key=worth),
        highest=max(figures, key=worth),
        distinct_outputs=len(digests),
    )
