"""From a job to its cells, and from cells to shards: pure."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.base import Value
from noisefloor.contract.job import Git, JobSpec, JobSubject, Limits
from noisefloor.contract.lane import Device, Isa, Lane, Lanes
from noisefloor.contract.policy import Policy
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject

NO_COMMIT = Git()
LANE_AXES = ("engine", "device", "isa", "threads")


class Cell(Value):
    """Subject × scheme × lane: the smallest thing that is run."""

    ordinal: int
    subject: Subject
    scheme: Scheme
    lane: Lane

    @property
    def label(self) -> str:
        return f"{self.subject.label} · {self.scheme.label} · {self.lane.label}"


class Shard(Value):
    """The cells of a job that share a process: same subject, device, ISA cap and threads."""

    isa: Isa
    threads: int
    cells: tuple[Cell, ...]


def count(spec: JobSpec) -> int:
    """How many cells a job has, without making them: a job of 10⁹ costs nothing to refuse."""
    each = (len(schemes(spec, subject)) * len(subject.each) for subject in spec.subjects)
    return sum(each) * spec.lanes.count


def cells(spec: JobSpec) -> Iterator[Cell]:
    """Every cell. Lanes vary fastest, so that neighbours share a calibration."""
    ordinal = 0
    lanes = spec.lanes.each()
    each = ((subject, schemes(spec, given)) for given in spec.subjects for subject in given.each)
    for subject, of_subject in each:
        for process in dict.fromkeys(map(_process, lanes)):
            together = [lane for lane in lanes if _process(lane) == process]
            for scheme in of_subject:
                for lane in together:
                    yield Cell(ordinal=ordinal, subject=subject, scheme=scheme, lane=lane)
                    ordinal += 1


def shards(planned: Iterable[Cell]) -> Iterator[Shard]:
    """Neighbouring cells that can share a process."""
    for (_, (isa, threads, _device)), group in groupby(planned, key=lambda c: (c.subject, _process(c.lane))):
        yield Shard(isa=isa, threads=threads, cells=tuple(group))


def alone(cell: Cell, *, limits: Limits, analysis: Analysis) -> JobSpec:
    """The job that consists of one cell."""
    lane = cell.lane
    return JobSpec(
        version=1,
        subjects=(JobSubject(**{**dict(cell.subject), "schemes": (cell.scheme,)}),),
        lanes=Lanes(engine=(lane.engine,), device=(lane.device,), isa=(lane.isa,), threads=(lane.threads,)),
        limits=limits,
        analysis=analysis,
    )


def again(
    spec: JobSpec, wanted: Sequence[Cell], *, name: str, policy: Policy, git: Git = NO_COMMIT
) -> JobSpec:
    """The job once more, without subjects, schemes and lanes that no wanted cell has.

    It decides no suite, a name of its own keeps it apart from what a job of the old name should have, and
    what a waiver let through is not its business. Which torch it takes is for the caller to say.
    """
    lanes = {axis: tuple(dict.fromkeys(getattr(cell.lane, axis) for cell in wanted)) for axis in LANE_AXES}
    subjects = []
    for subject in spec.subjects:
        of_subject = [cell.scheme for cell in wanted if cell.subject in subject.each]
        own = tuple(scheme for scheme in schemes(spec, subject) if scheme in of_subject)
        if own:
            subjects.append(subject.replace(schemes=own))
    return spec.replace(
        name=name,
        project=None,
        subjects=tuple(subjects),
        schemes=(),
        lanes=spec.lanes.replace(**lanes),
        policy=policy.replace(waivers=()),
        git=git,
        suite=None,
        torch=None,
    )


def repro(cell: Cell, *, limits: Limits, analysis: Analysis) -> str:
    """One shell line that measures the cell again without the service."""
    spec = alone(cell, limits=limits, analysis=analysis).model_dump_json(exclude_defaults=True, by_alias=True)
    return f"printf %s {shlex.quote(spec)} | noisefloor run -"


def schemes(spec: JobSpec, subject: JobSubject) -> tuple[Scheme, ...]:
    """The subject's own schemes, or else the job's."""
    return spec.schemes if subject.schemes is None else subject.schemes


def _process(lane: Lane) -> tuple[Isa, int, Device]:
    """What cells have in common that share a process."""
    return lane.isa, lane.threads, lane.device
