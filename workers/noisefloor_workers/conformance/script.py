"""A case as a script of a few lines that needs torch alone."""

import math

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor.contract.lane import Engine, Isa
from noisefloor_workers.conformance.examine import RUNS
from noisefloor_workers.conformance.given import Given, Quantized, is_whole
from noisefloor_workers.conformance.operators.operator import Operator
from noisefloor_workers.lanes.isa import cap_variables

# rounding is half a step, and float32 a little more at a tie
ROUNDING_STEPS = 0.51


def script(operator: Operator, case: Case, *, engine: Engine, isa: Isa) -> str:
    """The source: it prints torch's codes beside the exact result in the same steps.

    It exits with 1 where they are further apart than rounding, or where runs differ.
    """
    posed = operator.pose(case)
    most = ROUNDING_STEPS + operator.bound_lsb
    caps = cap_variables(isa)
    lines = [f"# {operator.name} on {engine}, ISA cap {isa}"]
    lines += ["import os", f"os.environ.update({caps!r})  # read when the library loads"] if caps else []
    lines += ["import torch", f"torch.backends.quantized.engine = {engine!r}", "torch.set_num_threads(1)"]
    for name, given in posed.givens.items():
        lines += _given(name, given)
    lines += operator.prelude.strip().splitlines()
    step = _tensor(posed.step) if isinstance(posed.step, Tensor) else repr(posed.step)
    lines += [
        f"step, zero = {step}, {posed.zero_point}  # of the output",
        f"runs = [{operator.call} for _ in range({RUNS})]",
        f"exact = ({operator.formula}) / step + zero  # before rounding, float64",
    ]
    if math.isfinite(posed.exact.high):
        lines += [f"exact = exact.clamp({posed.exact.low!r}, {posed.exact.high!r})"]
    if posed.form == "quantized":
        lines += [
            "codes = [run.int_repr().double() for run in runs]",
            'print("scale and zero point", runs[0].q_scale(), runs[0].q_zero_point(), "wanted", step, zero)',
            "same = (runs[0].q_scale(), runs[0].q_zero_point()) == (step, zero)",
        ]
    elif posed.form == "codes":
        lines += ["codes = [run.double() for run in runs]", "same = True"]
    else:
        lines += ["codes = [(run.double() / step).round() for run in runs]", "same = True"]
    lines += [
        'print("torch", tuple(codes[0].shape), codes[0].flatten().tolist())',
        'print("exact", tuple(exact.shape), exact.flatten().tolist())',
        "shaped = codes[0].shape == exact.shape",
        "same = same and shaped and all(torch.equal(run, codes[0]) for run in codes)",
        "off = (codes[0] - exact).abs().max().item() if shaped and exact.numel() else 0.0",
        f'print("furthest apart, steps:", off, "(rounding is {most:g} at most)")',
        f"raise SystemExit(int(not same or off > {most:g}))",
    ]
    return "\n".join(lines) + "\n"


def _given(name: str, given: Given) -> list[str]:
    if isinstance(given, Quantized):
        scales = repr(given.scale) if isinstance(given.scale, float) else _tensor(given.scales)
        return [
            f"codes = {_tensor(given.codes)}",
            f"{name} = {given.source}",
            f"{name}_real = (codes.double() - {given.zero_point}) * {scales}",
        ]
    if isinstance(given, Tensor):
        line = f"{name} = {_tensor(given)}"
        return [line] if is_whole(given) else [line, f"{name}_real = {name}.double()"]
    if given is None:
        return [f"{name} = {name}_real = None"]
    return [f"{name} = {given!r}"]


def _tensor(tensor: Tensor) -> str:
    kind = "" if tensor.dtype == torch.int64 and tensor.numel() else f", dtype={tensor.dtype}"
    made = f"torch.tensor({tensor.flatten().tolist()!r}{kind})"
    return made if tensor.dim() == 1 else f"{made}.reshape({tuple(tensor.shape)})"
