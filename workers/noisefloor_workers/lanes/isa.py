"""Caps on the instruction set: the variables that set them, and which of them this machine can take.

The libraries read the variables once, when they load, so a cap needs a process of its own. Used by the
supervisor, hence without torch.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import get_args

from noisefloor.contract.lane import Isa

ONEDNN = "ONEDNN_MAX_CPU_ISA"
ATEN = "ATEN_CPU_CAPABILITY"
FBGEMM = "FBGEMM_ENABLE_INSTRUCTIONS"
VNNI = "avx512_vnni"
VARIABLES = (ONEDNN, ATEN, FBGEMM)

# FBGEMM knows AVX2, AVX512, AVX512_E1 (VNNI) and their 256-bit forms, ignores any other word, and has no
# code below AVX2: under sse41 it is held at AVX2, and the engines that use it are refused there.
_CAPS: dict[Isa, dict[str, str]] = {
    "native": {},
    "avx512_core": {ONEDNN: "AVX512_CORE", ATEN: "avx512", FBGEMM: "AVX512"},
    "avx2": {ONEDNN: "AVX2", ATEN: "avx2", FBGEMM: "AVX2"},
    "sse41": {ONEDNN: "SSE41", ATEN: "default", FBGEMM: "AVX2"},
}

_FLAGS: dict[Isa, frozenset[str]] = {
    "native": frozenset(),
    "avx512_core": frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}),
    "avx2": frozenset({"avx2", "fma"}),
    "sse41": frozenset({"sse4_1"}),
}


def cap_variables(isa: Isa) -> dict[str, str]:
    """The environment variables that hold a new process under a cap; none for `native`.

    >>> cap_variables("avx2")["ONEDNN_MAX_CPU_ISA"]
    'AVX2'
    """
    return dict(_CAPS[isa])


def isa_in_force(environ: Mapping[str, str] = os.environ) -> Isa | None:
    """The cap that the variables of a process amount to; None where they are no cap of ours.

    >>> isa_in_force({}), isa_in_force({"ONEDNN_MAX_CPU_ISA": "AVX2"})
    ('native', None)
    """
    found = {name: environ[name] for name in VARIABLES if name in environ}
    return next((isa for isa in get_args(Isa) if _CAPS[isa] == found), None)


def machine_isas() -> tuple[Isa, ...]:
    """The caps that lie at or below what this processor has, `native` first."""
    flags = cpu_flags()
    return tuple(isa for isa in get_args(Isa) if _FLAGS[isa] <= flags)


def native_level() -> Isa:
    """The cap that no cap amounts to here; `native` where the processor has VNNI, which lies above all."""
    caps = machine_isas()
    return "native" if VNNI in cpu_flags() or len(caps) == 1 else caps[1]


@cache
def cpu_flags() -> frozenset[str]:
    """What the processor says it has. Empty where the system does not tell: then only `native` is offered."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())
