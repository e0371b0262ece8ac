"""The names that a job may use are those of the worker."""

from noisefloor.contract.operators import OPERATORS as NAMED
from noisefloor_workers.conformance.operators import OPERATORS


def test_the_contract_names_the_operators_of_the_suite_in_their_order() -> None:
    assert tuple(OPERATORS) == NAMED, "write what differs into noisefloor/contract/operators.py"
