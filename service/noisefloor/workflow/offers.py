"""What the workers that are there offer to a bisection: caps, environments, commits."""

from collections.abc import Sequence
from typing import get_args

from sqlalchemy.orm import Session

from noisefloor.contract.job import JobSpec
from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import Environment
from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.store import workers


def live(session: Session) -> list[Capabilities]:
    """What each worker that takes shards has."""
    return [
        Capabilities.model_validate(row.capabilities)
        for row, _ in workers.live(session)
        if row.state == WorkerState.ACTIVE
    ]


def caps(session: Session, spec: JobSpec) -> tuple[Isa, ...]:
    """The caps on the instruction set under which one class of machine can measure the job, `native` first.

    Of several classes the one with the most.
    """
    of_class: dict[str, set[Isa]] = {}
    for one in _fitting(live(session), spec):
        of_class.setdefault(one.machine, set()).update(one.isas)
    offered = max(of_class.values(), key=len, default=set())
    return tuple(isa for isa in get_args(Isa) if isa in offered)


def environments(session: Session, spec: JobSpec) -> list[Environment]:
    """The environments in which the job can be measured, by torch's version and the instruction set.

    The packages of plugins are left out: which of them a cell uses is not known before it is measured.
    """
    (isa,), (threads,) = spec.lanes.isa, spec.lanes.threads
    found = [
        environment.replace(threads=threads, plugins={})
        for one in _fitting(live(session), spec)
        for environment in one.environments
        if environment.isa_cap == isa
    ]
    distinct = {one.model_dump_json(): one for one in found}
    return sorted(distinct.values(), key=lambda one: (one.torch, one.isa, one.model_dump_json()))


def somebody_has(session: Session, commit: str, environment: Environment | None = None) -> bool:
    """Whether a worker that is there has the commit, in the environment if one is given."""
    return any(
        one.has_commit(commit) and (environment is None or one.offers(environment)) for one in live(session)
    )


def nobody_has(session: Session, commit: str) -> bool:
    """Whether workers are there, and none of them has the commit."""
    return bool(live(session)) and not somebody_has(session, commit)


def _fitting(here: Sequence[Capabilities], spec: JobSpec) -> list[Capabilities]:
    lanes = spec.lanes
    return [
        one
        for one in here
        if (
            one.takes_all
            or (
                {*lanes.engine} <= {*one.engines}
                and {*lanes.device} <= {*one.devices}
                and max(lanes.threads) <= one.threads
            )
        )
        and (spec.torch is None or one.meets(spec.torch))
    ]
