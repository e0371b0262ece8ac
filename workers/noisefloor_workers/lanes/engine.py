"""Binding the process to a lane.

torch binds the engine when a model is converted, not when it runs, and keeps it in one global for all
threads: it is set before, asserted after, and one cell runs at a time in a process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from noisefloor.contract.lane import QUANTIZED_ENGINES, Isa, Lane
from noisefloor_workers.lanes.isa import isa_in_force, machine_isas

CAPABILITY_UNDER: dict[Isa, frozenset[str]] = {
    "avx512_core": frozenset({"AVX512"}),
    "avx2": frozenset({"AVX2"}),
    "sse41": frozenset({"DEFAULT", "NO AVX"}),
}
NEEDS_AVX2 = frozenset({"fbgemm", "x86"})


class Unsupported(Exception):  # noqa: N818 - an outcome of a cell, not a fault
    """What this flow, engine or machine cannot do, with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineChangedError(Exception):
    """Something flipped the process-wide engine while a cell ran: its figures belong to no engine."""


@contextmanager
def bound(lane: Lane) -> Iterator[str]:
    """Hold `torch.backends.quantized.engine` at the lane's engine, and put the former one back.

    Engines that are not torch's quantized ones are chosen by the flow that converts for them.
    """
    refusal = why_not(lane)
    if refusal is not None:
        raise Unsupported(refusal)
    if lane.engine not in QUANTIZED_ENGINES:
        yield lane.engine
        return
    former = torch.backends.quantized.engine
    torch.backends.quantized.engine = lane.engine
    try:
        yield lane.engine
        executed = torch.backends.quantized.engine
        if executed != lane.engine:
            raise EngineChangedError(f"the engine was {lane.engine} before the cell and {executed} after it")
    finally:
        torch.backends.quantized.engine = former


def why_not(lane: Lane) -> str | None:
    """Why this process cannot run the lane, naming what it can; None where it can."""
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    threads = torch.get_num_threads()
    if lane.device != "cpu" and lane.isa != "native":
        return f"isa {lane.isa} is a cap on the CPU: isa native is the only one on {lane.device}"
    if lane.engine in QUANTIZED_ENGINES and lane.engine not in engines:
        return f"engine {lane.engine} is not in this build of torch here; it has: {', '.join(engines)}"
    if lane.isa == "sse41" and lane.engine in NEEDS_AVX2:
        return f"engine {lane.engine} rests on FBGEMM, which has no code below AVX2"
    if threads != lane.threads:
        return f"{lane.threads} threads are not in force in this process, which has {threads}"
    return _why_not_isa(lane.isa)


def _why_not_isa(isa: Isa) -> str | None:
    if isa not in machine_isas():
        return f"isa {isa} is above this machine; it has: {', '.join(machine_isas())}"
    in_force = isa_in_force()
    if in_force != isa:
        return f"isa {isa} is not in force in this process, which runs under {in_force or 'another cap'}"
    capability = torch.backends.cpu.get_cpu_capability()
    if isa in CAPABILITY_UNDER and capability not in CAPABILITY_UNDER[isa]:
        return f"isa {isa} is not in force in this process: torch reports {capability}"
    return None
