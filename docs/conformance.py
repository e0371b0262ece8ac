"""Writes conformance.md from what `noisefloor conformance --format json` said.

noisefloor conformance --format json > found.json; python docs/conformance.py found.json
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from noisefloor.contract.conformance import CONFORMANCE, Conformance, Verdict
from noisefloor_workers.cli.conformance import summary
from noisefloor_workers.conformance.registry import coverage
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.lanes.isa import VNNI, cpu_flags

PAGE = Path(__file__).with_name("conformance.md")
REASON_CHARS = 200
HEAD = """# Which quantized kernels of torch compute what they should

Written by `docs/conformance.py` from `noisefloor conformance`, which holds every kernel against exact integer
arithmetic, or against float64 within a step where no code is defined, as for a sigmoid. `exact` and
`within_1_lsb` are right: a result at a tie may go either way. Each deviation has the smallest case that was
found to fail, as a script that needs torch alone, and exits with 1 where it shows.

Known deviations stand in `workers/noisefloor_workers/conformance/known.yaml`, and do not fail the suite.
`--known FILE` adds your own. One that has gone away is said to have.
"""
SATURATION = """What saturates depends on the processor. Without VNNI, FBGEMM and oneDNN add two products in
16 bits: that is `wrong` with activations of all 8 bits, and not with 7 (`reduce_range`). With VNNI it is not,
unless a cap takes it away."""


def page(found: Sequence[Conformance]) -> str:
    """Tables by cap, the deviations, and what torch registers."""
    here = environment()
    vnni = "with" if VNNI in cpu_flags() else "without"
    where = (
        f"Measured with torch {torch.__version__}, oneDNN {here.onednn}, on {here.cpu} "
        f"({here.isa}, {vnni} VNNI).\n\n{SATURATION}\n"
    )
    parts = [HEAD, where, *_tables(found), "\n## Deviations\n", *_deviations(found), *_registered()]
    return "\n".join(parts)


def _tables(found: Sequence[Conformance]) -> Iterator[str]:
    for isa in dict.fromkeys(one.isa for one in found):
        under = [one for one in found if one.isa == isa]
        engines = list(dict.fromkeys(one.engine for one in under))
        verdicts = {(one.op, one.engine): one.verdict.value for one in under}
        yield f"\n## ISA cap {isa}\n"
        yield f"| operator | {' | '.join(engines)} |\n|---|{'---|' * len(engines)}"
        for op in dict.fromkeys(one.op for one in under):
            yield f"| {op} | {' | '.join(verdicts[op, engine] for engine in engines)} |"


def _deviations(found: Sequence[Conformance]) -> Iterator[str]:
    """Each fault once: engines and caps that fail in the same smallest case stand together."""
    alike: dict[tuple[str, Verdict, str], list[Conformance]] = {}
    for one in found:
        if one.verdict.is_fault:
            smallest = one.case.model_dump_json() if one.case else ""
            alike.setdefault((one.op, one.verdict, smallest), []).append(one)
    for (op, verdict, _smallest), faults in alike.items():
        engines = list(dict.fromkeys(one.engine for one in faults))
        yield f"### {op}: {verdict} on {', '.join(engines)}\n"
        reasons = dict.fromkeys(one.known or "not known" for one in faults)
        yield "\n".join(f"{reason[:1].upper()}{reason[1:]}.\n" for reason in reasons)
        for engine in engines:
            here = [one for one in faults if one.engine == engine]
            caps = ", ".join(one.isa for one in here)
            yield f"- {engine} under {caps}: {summary(_shortened(here[0]))}"
        yield f"\n```python\n{(faults[0].script or '').rstrip()}\n```\n"


def _shortened(one: Conformance) -> Conformance:
    """Without what a crashing process said at length."""
    return one.replace(reason=one.reason and " ".join(one.reason[:REASON_CHARS].split()))


def _registered() -> Iterator[str]:
    rows = list(coverage())
    held = sum(bool(row.by) for row in rows)
    yield "## What torch registers\n"
    yield (
        f"Of {len(rows)} operators of a quantized namespace, or with a quantized kernel for a CPU, {held} "
        "are held here. The others are left out for the reason that is given.\n"
    )
    yield "| registered | held as, or why not |\n|---|---|"
    for row in rows:
        yield f"| `{row.name}` | {', '.join(f'`{name}`' for name in row.by) or row.reason} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(CONFORMANCE.validate_json(Path(sys.argv[1]).read_text())))
    sys.stdout.write(f"wrote {PAGE}\n")
