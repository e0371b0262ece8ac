"""The process that runs kernels: questions come in on standard input, answers go out on standard output."""

import os
import sys
import traceback
from collections.abc import Mapping

import torch

from noisefloor.contract.lane import Lane
from noisefloor.contract.operators import matches
from noisefloor_workers.conformance.examine import examine
from noisefloor_workers.conformance.messages import (
    QUESTION,
    Answer,
    Broken,
    Catalogue,
    Examine,
    Examined,
    ListCases,
    Listed,
    Question,
    Refused,
    Written,
    line,
)
from noisefloor_workers.conformance.operators import OPERATORS, Operator
from noisefloor_workers.conformance.script import script
from noisefloor_workers.lanes.engine import Unsupported, bound
from noisefloor_workers.lanes.isa import isa_in_force


def answer(question: Question, operators: Mapping[str, Operator] = OPERATORS) -> Answer:
    """What there is to say; `Broken` only where the suite itself fails."""
    if isinstance(question, ListCases):
        listed = (
            Listed(op=name, engines=operator.engines, cases=tuple(operator.cases(question.quick)))
            for name, operator in operators.items()
            if matches(name, question.op)
        )
        return Catalogue(operators=tuple(listed))
    operator, isa = operators[question.case.op], isa_in_force()
    if isa is None:
        return Refused(reason="variables are set that cap the instruction set, and are no cap of ours")
    if not isinstance(question, Examine):
        return Written(script=script(operator, question.case, engine=question.engine, isa=isa))
    try:
        with bound(Lane(engine=question.engine, isa=isa)):
            return Examined(outcome=examine(operator, question.case))
    except Unsupported as error:
        return Refused(reason=error.reason)


def serve(operators: Mapping[str, Operator] = OPERATORS) -> None:
    """Answer until standard input ends. What libraries print to standard output goes to standard error."""
    torch.set_num_threads(1)
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)
        for asked in sys.stdin.buffer:
            try:
                said = answer(QUESTION.validate_json(asked), operators)
            except Exception:  # noqa: BLE001 - told to the suite, which gives up
                said = Broken(reason=traceback.format_exc()[-20_000:].replace("\0", ""))
            out.write(line(said))


if __name__ == "__main__":
    serve()
