"""A job's results in one document, whoever measured them: `--format json` prints it, a gate reads it."""

from pydantic import Field

from noisefloor.contract.attribution import AttributionView
from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.job import Git
from noisefloor.contract.layers import LayerView
from noisefloor.contract.policy import Policy
from noisefloor.contract.resources import CellView
from noisefloor.contract.verdict import Absence, Verdict


class Report(Value):
    """The cells with their findings, the verdict, and the policy that it follows from."""

    name: Text
    verdict: Verdict
    message: LongText
    git: Git = Git()
    policy: Policy = Policy()
    url: Text | None = Field(default=None, description="the job's page, where a service has it")
    cells: tuple[CellView, ...]
    missing: tuple[Absence, ...] = Field(
        default=(), description="series that the baseline had and this job has not"
    )
    layers: tuple[LayerView, ...] = Field(
        default=(), description="of every cell that `run` measured; from a service, of cells with findings"
    )
    attributions: tuple[AttributionView, ...] = Field(
        default=(), description="what losses are put down to; from a service, which has the history for it"
    )
