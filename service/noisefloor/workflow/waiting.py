"""Why queued cells do not move: what they ask for, held against the workers that are there."""

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy.orm import Session

from noisefloor.contract.measurement import Environment
from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.identity import environment_key
from noisefloor.store import cells, workers
from noisefloor.store.cells import Asked

NOBODY = "a worker: none is there; `noisefloor up` or `noisefloor worker` starts one"
SHOWN = 3
SHORT = 7
Has = Callable[[Capabilities], bool]


def waiting_for(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """For each job with queued cells that nobody can run: what is missing."""
    queued = {job_id: asked for job_id, asked in cells.queued(session, job_ids).items() if asked}
    if not queued:
        return {}
    here = capabilities_here(session)
    if not here:
        return dict.fromkeys(queued, NOBODY)
    said = {job_id: _sentence(asked, here) for job_id, asked in queued.items()}
    return {job_id: sentence for job_id, sentence in said.items() if sentence is not None}


def capabilities_here(session: Session) -> list[Capabilities]:
    """What the workers have that are there and stay."""
    return [
        Capabilities.model_validate(row.capabilities)
        for row, _ in workers.live(session)
        if row.state == WorkerState.ACTIVE
    ]


def missing(asked: Asked, here: Sequence[Capabilities]) -> str | None:
    """What no worker has, or none together with the rest; None where one has everything."""
    left, narrowing = list(here), []
    for what, has in _needs(asked):
        kept = [one for one in left if has(one)]
        if len(kept) < len(left):
            narrowing.append(what)
        if not kept:
            nobody_has_it = not any(has(one) for one in here)
            return what if nobody_has_it else " with ".join(narrowing)
        left = kept
    return None


def _needs(asked: Asked) -> Iterator[tuple[str, Has]]:
    lane: tuple[tuple[str, Has], ...] = (
        (f"engine {asked.engine}", lambda one: asked.engine in one.engines),
        (f"device {asked.device}", lambda one: asked.device in one.devices),
        (f"isa {asked.isa}", lambda one: asked.isa in one.isas),
        (f"{asked.threads} threads", lambda one: asked.threads <= one.threads),
        (f"torch {asked.torch}", lambda one: asked.torch is None or one.meets(asked.torch)),
        (
            f"{asked.memory_gib or 0:g} GiB of memory a slot",
            lambda one: asked.memory_gib is None or asked.memory_gib <= one.memory_gib,
        ),
    )
    for what, has in lane:
        yield what, lambda one, has=has: one.takes_all or has(one)  # type: ignore[misc]
    environment, commit = asked.environment, asked.commit
    if environment is not None:
        yield _named(environment), lambda one: one.offers(environment)
    if commit is not None:
        yield f"commit {commit[:SHORT]}", lambda one: one.has_commit(commit)


def _named(environment: Environment) -> str:
    key = environment_key(environment)
    return f"environment {key[:SHORT]} (torch {environment.torch}, {environment.isa})"


def _sentence(asked: Sequence[Asked], here: Sequence[Capabilities]) -> str | None:
    lacking = list(dict.fromkeys(what for one in asked if (what := missing(one, here)) is not None))
    if not lacking:
        return None
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    number = f"{len(here)} worker is" if len(here) == 1 else f"{len(here)} workers are"
    return f"a worker that has {', '.join(lacking[:SHOWN])}{more}; {number} there without it"
