"""Writes conformance.md from what `noisefloor conformance --format json` said.

noisefloor conformance --format json > found.json; python docs/conformance.py found.json
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from noisefloor.contract.conformance import CONFORMANCE, Conformance
from noisefloor_workers.cli.conformance import summary
from noisefloor_workers.lanes.environment import environment

PAGE = Path(__file__).with_name("conformance.md")
REASON_CHARS = 200
HEAD = """# Which quantized kernels of torch compute what they should

Written by `docs/conformance.py` from `noisefloor conformance`, which holds every kernel against exact integer
arithmetic. `exact` and `within_1_lsb` are right: a result at a tie may go either way. Each deviation has the
smallest case that was found to fail, as a script that needs torch alone.

The saturation of sums to 16 bits, where a processor has no VNNI, is a known limit of FBGEMM and oneDNN: it is
`wrong` with activations of all 8 bits, and not with 7 (`reduce_range`).
"""


def page(found: Sequence[Conformance]) -> str:
    """Tables by cap, and then the deviations."""
    here = environment()
    where = f"Measured with torch {torch.__version__}, oneDNN {here.onednn}, on {here.cpu} ({here.isa}).\n"
    parts = [HEAD, where, *_tables(found), "\n## Deviations\n", *_deviations(found)]
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
    """Each fault once: under the first cap that shows it."""
    seen: set[tuple[str, str]] = set()
    for one in found:
        if one.verdict.is_fault and (one.op, one.engine) not in seen:
            seen.add((one.op, one.engine))
            caps = [f.isa for f in found if (f.op, f.engine, f.verdict) == (one.op, one.engine, one.verdict)]
            yield f"### {one.op} on {one.engine}\n\nUnder {', '.join(caps)}: {summary(_shortened(one))}.\n"
            yield f"```python\n{(one.script or '').rstrip()}\n```\n"


def _shortened(one: Conformance) -> Conformance:
    """Without what a crashing process said at length."""
    return one.replace(reason=one.reason and " ".join(one.reason[:REASON_CHARS].split()))


if __name__ == "__main__":
    PAGE.write_text(page(CONFORMANCE.validate_json(Path(sys.argv[1]).read_text())))
    sys.stdout.write(f"wrote {PAGE}\n")
