"""The steps of a bisection: each is entered in the transaction that settles the one before."""

from collections.abc import Sequence

from pydantic import Field, ValidationError
from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.base import Identifier, Text, Value
from noisefloor.contract.bisection import Bisection, BisectionStatus, Over, Step
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import JobSpec, JobStatus
from noisefloor.contract.measurement import Environment
from noisefloor.contract.resources import CellView
from noisefloor.contract.worker import Wants
from noisefloor.errors import InvalidRequestError, NoisefloorError
from noisefloor.gate.bisect import Measured, Search, Steps, called
from noisefloor.gate.environments import Environments
from noisefloor.gate.steps import NO_LAYERS, at_step, label_of, layer_names, over_layers, told
from noisefloor.identity import environment_key
from noisefloor.problems import invalid_request
from noisefloor.store import bisections, cells, clock, tables
from noisefloor.workflow.losses import only
from noisefloor.workflow.offers import nobody_has, somebody_has
from noisefloor.workflow.submit import enter
from noisefloor.workflow.views import cell_views, layer_view

NAME_LENGTH = 200
WHOLE = "all layers"
BEING_MEASURED = "being measured"
HAVE_IT = (
    "start `noisefloor worker --checkout …`, or run "
    "`noisefloor bisect job.yaml --good {} -- git checkout -q {{sha}}` in a checkout"
)


class State(Value):
    """What a bisection keeps between its steps."""

    title: Text = Field(description="what its steps are called after")
    spec: JobSpec = Field(description="what each step measures")
    over: Over
    sha: Text | None = Field(default=None, description="whose files the steps measure, unless over commits")
    below_db: float | None = None
    had: Figure | None = Field(default=None, description="the figure of the measured job that is looked into")
    search: Environments | Search | None = Field(
        default=None, description="over layers there is none until the whole job has told their names"
    )
    jobs: dict[int, Identifier] = Field(default_factory=dict, description="by step; without a search: 0")

    @property
    def measuring(self) -> tuple[int, ...]:
        """The steps that are being measured."""
        measured = self.search.measured if self.search is not None else {}
        return tuple(at for at in self.jobs if at not in measured)

    def name(self, at: int) -> str:
        """What a step is called."""
        return WHOLE if self.search is None else called(self.search.names[at], self.over)

    def shown(self) -> tuple[Step, ...]:
        """The steps that were measured or are being measured, in order."""
        if self.search is None:
            return tuple(Step(name=WHOLE, note=BEING_MEASURED, job=job) for job in self.jobs.values())
        steps = {at: self.search.step(at) for at in {*self.search.measured, *self.jobs}}
        return tuple(
            step.replace(job=self.jobs.get(at), note=BEING_MEASURED if at in self.measuring else step.note)
            for at, step in sorted(steps.items())
        )

    def result(self) -> Bisection | None:
        """What was found, with the jobs that measured it."""
        if self.search is None:
            return None
        found, steps = self.search.result(), self.shown()
        first = next((step for step in steps if found.first_bad and step.name == found.first_bad.name), None)
        return found.replace(steps=steps, first_bad=first)


def advance(session: Session, job: tables.Job) -> None:
    """Take in what a step gave, and enter what follows from it. The caller has settled the job, and holds it.

    A bisection that was ended meanwhile stays as it is.
    """
    row = bisections.lock(session, job.bisection_id or "")
    if row is None or BisectionStatus(row.status).settled:
        return
    state = State.model_validate(row.state)
    try:
        proceed(session, row, _taken_in(session, state, job))
    except NoisefloorError as error:
        # what cannot be measured ends the bisection; the job that led to it is settled all the same
        conclude(row, BisectionStatus.FAILED, error.detail)
    except ValidationError as error:
        conclude(row, BisectionStatus.FAILED, invalid_request(error.errors()).detail)


def proceed(session: Session, row: tables.Bisection, state: State) -> State:
    """Enter what is due, or conclude."""
    if state.search is None:
        whole = state.spec.replace(analysis=state.spec.analysis.replace(layers=True))
        state = _entered(session, row, state, 0, whole)
    while state.search is not None and (due := [at for at in state.search.due() if at not in state.jobs]):
        for at in due:
            state = _stepped(session, row, state, state.search, at)
    row.state = state.model_dump(mode="json", by_alias=True)
    if state.measuring or state.search is None:
        row.message = f"measuring {', '.join(map(state.name, state.measuring))}"
    elif (trouble := state.search.trouble()) is not None:
        conclude(row, BisectionStatus.FAILED, trouble)
    else:
        conclude(row, BisectionStatus.DONE, state.search.result().conclusion)
    return state


def _stepped(session: Session, row: tables.Bisection, state: State, search: Steps, at: int) -> State:
    """The state with a step's job; or with why there is none."""
    if state.over == "commits" and nobody_has(session, search.names[at]):
        found = Measured(note=f"no worker that is there has this commit: {HAVE_IT.format(search.names[0])}")
        return state.replace(search=search.with_step(at, found))
    return _entered(session, row, state, at, at_step(state.spec, search, at))


def _entered(session: Session, row: tables.Bisection, state: State, at: int, spec: JobSpec) -> State:
    name = f"bisection of {state.title}: {state.name(at)}"[:NAME_LENGTH]
    job, _ = enter(
        session,
        project=row.project,
        spec=spec.replace(name=name),
        wants=_wants(session, state, at),
        bisection=row.id,
    )
    return state.replace(jobs={**state.jobs, at: job.id})


def _wants(session: Session, state: State, at: int) -> Wants:
    """What a step asks of its worker. Files of the job's commit, where one of those says that it has them."""
    search = state.search
    if state.over == "commits" and search is not None:
        return Wants(commit=search.names[at])
    inside = Environment.model_validate(search.documents[at]) if isinstance(search, Environments) else None
    commit = state.sha if state.sha is not None and somebody_has(session, state.sha, inside) else None
    return Wants(commit=commit, environment=environment_key(inside) if inside is not None else None)


def conclude(row: tables.Bisection, status: BisectionStatus, message: str) -> None:
    """End a bisection, for a reason or with its answer."""
    row.status, row.message, row.finished_at = status, message, clock.now()


def _taken_in(session: Session, state: State, job: tables.Job) -> State:
    """The state with what the job of a step gave. A step that was told already stays as it was told."""
    at = next((at for at in state.measuring if state.jobs[at] == job.id), None)
    if at is None:
        return state
    measured = cell_views(session, job, cells.page(session, job.id))
    found = _measured(job, measured, state.over)
    if state.search is None:
        names = layer_names(layer_view(session, cell) for cell in cells.page(session, job.id))
        if not names or not found.figures:
            raise InvalidRequestError(found.note or NO_LAYERS)
        search = over_layers(names, found.figures).replace(below_db=state.below_db, had=state.had)
        return _narrowed(state.replace(search=search, jobs={search.last: job.id}), measured)
    return _narrowed(state.replace(search=state.search.with_step(at, found)), measured)


def _measured(job: tables.Job, measured: Sequence[CellView], over: Over) -> Measured:
    found = told(measured, over)
    if not found.figures and job.status == JobStatus.CANCELLED:
        return Measured(note="its job was cancelled")
    return found


def _narrowed(state: State, measured: Sequence[CellView]) -> State:
    """When the ends have told what loses most, the steps between them measure that alone."""
    search = state.search
    if not isinstance(search, Search) or not search.at_ends:
        return state
    for cell in measured:
        for edge in cell.scheme.edges:
            if label_of(cell, edge, search.over) == search.series:
                facts = {name: getattr(cell, name) for name in plan.Cell.model_fields}
                return state.replace(spec=only(state.spec, plan.Cell(**facts), edge))
    return state
