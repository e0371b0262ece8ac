"""Every operator on every engine under every ISA cap, in worker processes. No torch here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from noisefloor.contract.conformance import Case, Conformance, Outcome, Verdict
from noisefloor.contract.lane import Engine, Isa
from noisefloor_workers.conformance.messages import (
    Catalogue,
    Examine,
    Examined,
    ListCases,
    Listed,
    Refused,
    Write,
    Written,
)
from noisefloor_workers.conformance.process import COMMAND, Crashed, Process, SuiteError
from noisefloor_workers.conformance.shrink import shrink
from noisefloor_workers.conformance.verdict import settle, to_shrink
from noisefloor_workers.lanes.isa import machine_isas

TRIES = 150
# each costs a new process
CRASH_TRIES = 25


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be tried."""

    op: str
    engines: tuple[Engine, ...]
    isas: tuple[Isa, ...]
    quick: bool


def conform(
    wanted: Wanted, say: Callable[[str], None], *, command: Sequence[str] = COMMAND
) -> Iterator[Conformance]:
    """Each operator × engine × cap as it is done; SuiteError where there is no verdict to give."""
    shrunk: dict[str, Case] = {}
    for isa in wanted.isas:
        here = isa in machine_isas()
        with Process(isa if here else "native", command=command) as process:
            for listed in listing(process, op=wanted.op, quick=wanted.quick):
                for engine in wanted.engines:
                    if not here:
                        has = f"isa {isa} is above this machine; it has: {', '.join(machine_isas())}"
                        yield _unsupported(listed, engine, isa, has)
                        continue
                    for said in examined(process, listed, engine, shrunk):
                        if isinstance(said, Conformance):
                            yield said
                        else:
                            say(said)


def listing(process: Process, *, op: str, quick: bool) -> tuple[Listed, ...]:
    """The operators that a glob means, with their cases."""
    catalogue = process.ask(ListCases(op=op, quick=quick))
    if not isinstance(catalogue, Catalogue):
        raise SuiteError("a worker does not list its operators")
    return catalogue.operators


def examined(
    process: Process, listed: Listed, engine: Engine, shrunk: dict[str, Case]
) -> Iterator[str | Conformance]:
    """One operator on one engine: what is being done, and at last what was found.

    `shrunk` keeps the smallest cases so far, of other engines too: one that fails here is taken as it is.
    """
    if engine not in listed.engines:
        yield _unsupported(listed, engine, process.isa, f"its engines are: {', '.join(listed.engines)}")
        return
    where = f"{listed.op} on {engine}, {process.isa}"
    ran: list[tuple[Case, Outcome]] = []
    for number, case in enumerate(listed.cases, start=1):
        yield f"{where}: case {number} of {len(listed.cases)}"
        outcome = _outcome(process, case, engine)
        if isinstance(outcome, str):
            yield _unsupported(listed, engine, process.isa, outcome)
            return
        if outcome is not None:
            ran.append((case, outcome))
    found = settle(listed.op, engine, process.isa, ran)
    fault = to_shrink(ran)
    if fault is not None:
        yield f"{where}: making a case that is at fault smaller"
        found = _made_small(process, found, fault, shrunk)
    yield found


def _made_small(
    process: Process, found: Conformance, fault: tuple[Case, Outcome], shrunk: dict[str, Case]
) -> Conformance:
    case, failed = fault
    key = f"{found.op} {failed.verdict} {case.values}"

    def fails(smaller: Case) -> bool:
        outcome = _outcome(process, smaller, found.engine)
        return isinstance(outcome, Outcome) and outcome.verdict is failed.verdict

    tries = CRASH_TRIES if failed.verdict is Verdict.CRASHES else TRIES
    # what is smallest on another engine, or under another cap, is taken here too where it fails
    before = shrunk.get(key)
    smallest = before if before is not None and fails(before) else shrink(case, fails, tries=tries)
    shrunk.setdefault(key, smallest)
    written = process.ask(Write(case=smallest, engine=found.engine))
    script = written.script if isinstance(written, Written) else None
    return found.replace(case=smallest, script=script)


def _outcome(process: Process, case: Case, engine: Engine) -> Outcome | str | None:
    """The outcome; the reason where this process cannot have the engine; None where the case is no call."""
    try:
        answer = process.ask(Examine(case=case, engine=engine))
    except Crashed as crash:
        return Outcome(verdict=Verdict.CRASHES, reason=f"{case.model_dump_json()}: {crash}")
    if isinstance(answer, Refused):
        return answer.reason
    if not isinstance(answer, Examined):
        raise SuiteError("a worker answers another question than it was asked")
    return answer.outcome


def _unsupported(listed: Listed, engine: Engine, isa: Isa, reason: str) -> Conformance:
    return Conformance(
        op=listed.op, engine=engine, isa=isa, verdict=Verdict.UNSUPPORTED, cases=0, reason=reason
    )
