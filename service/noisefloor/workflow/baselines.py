"""What the series of a job are held against: reads candidates, and lets `gate.baseline` choose."""

from collections.abc import Collection, Mapping
from datetime import date
from functools import cached_property

from sqlalchemy.orm import Session

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import Git
from noisefloor.contract.match import Match, Where
from noisefloor.contract.policy import FIXED, LAST_RELEASE, PINNED, Policy, Source
from noisefloor.contract.verdict import Acknowledgement, Baseline
from noisefloor.gate.acknowledge import Commit, concerns
from noisefloor.gate.baseline import Choice, Search, choose, line, search
from noisefloor.gate.evidence import Level
from noisefloor.store import baselines, jobs, measurements
from noisefloor.store.tables import AcceptedLevel, Job, Mark

KINDS: dict[Source, str] = {"pinned": "pin", "accepted": "accept"}


class Baselines:
    """The baselines of one job under one policy, on a day."""

    def __init__(self, session: Session, job: Job, policy: Policy, today: date) -> None:
        self.session, self.job, self.policy, self.today = session, job, policy, today
        self.rule = policy.baseline
        self.git = Git.model_validate(job.git)
        self.sources: list[Source] = [self.rule.source]
        self.sources += [self.rule.fallback] if self.rule.fallback is not None else []

    @property
    def branch(self) -> str | None:
        """The branch whose results count: the policy's, or the job's own."""
        return self.rule.branch if self.rule.branch is not None else self.job.branch

    def choices(
        self, series: Mapping[str, Where], environments: Mapping[str, str | None]
    ) -> dict[str, Choice]:
        """The baseline of each series, and how it was chosen."""
        found: dict[str, dict[Source, Baseline]] = {key: {} for key in series}
        reasons: dict[Source, str] = {}
        for source in self.sources:
            left = {key: where for key, where in series.items() if self.sources[0] not in found[key]}
            by_key, reasons[source] = self._look(source, left)
            for key, baseline in by_key.items():
                found[key][source] = baseline
        return {
            key: choose(self.rule, found[key], reasons, environment=environments.get(key)) for key in series
        }

    def anchors(self, since: str, series: Mapping[str, Where]) -> dict[str, Baseline]:
        """What creep is measured from: the release, or what was accepted after it; nothing without one."""
        if since == PINNED:
            starts, _ = self._marked("pinned", series)
        else:
            tag = None if since == LAST_RELEASE else since
            starts = baselines.released(self.session, self.job, series, tag)
            starts = {key: b.replace(source="release") for key, b in starts.items()}
        accepted = baselines.accepted_losses(
            self.session, self.job, series, branch=self.branch, ancestors=line(self.git)
        )
        for key, baseline in accepted.items():
            start = starts.get(key)
            if start is not None and _moment(start) < _moment(baseline):
                starts[key] = baseline.replace(source="accepted")
        return starts

    def of_named_job(self) -> Collection[str]:
        """The series that the baseline's job of the same name measured: what the job should have as well."""
        if not self.job.name or set(self.sources) <= FIXED:
            return ()
        for source in self.sources:
            where = self._search(source)
            if where is not None and where.nowhere is not None:
                continue
            named = baselines.named_job(
                self.session,
                self.job,
                distances=where.distances if where is not None else None,
                branch=self.branch,
            )
            if named is not None:
                return measurements.series_of_job(self.session, named)
        return ()

    def levels(
        self,
        series: Mapping[str, Where],
        digests: Mapping[str, Collection[str]],
        chosen: Mapping[str, Baseline],
    ) -> dict[str, list[Level]]:
        """What was accepted of each series and holds for this job.

        An acceptance also holds wherever the output is bit for bit what was accepted.
        """
        marks = {mark.id: mark for mark in baselines.marks(self.session, self.job.project, "accept")}
        head = commit(self.job)
        holds = {
            mark.id
            for mark in marks.values()
            if concerns(marked(self.session, mark, head), head, merged_into=self.rule.branch)
        }
        used_up = spent(self.session, marks, chosen)
        levels: dict[str, list[Level]] = {}
        for row in baselines.levels(self.session, marks, series) if marks else ():
            key = row.series_key
            if row.mark_id in holds or row.output_digest in digests.get(key, ()):
                by = acknowledgement(marks[row.mark_id])
                level = Level(
                    figure=level_figure(row),
                    limits=row.limits,
                    by=by,
                    spent=(key, row.mark_id) in used_up,
                )
                levels.setdefault(key, []).append(level)
        return levels

    def accepted_as_missing(self, chosen: Mapping[str, Baseline]) -> set[str]:
        """The series of which somebody accepted, since their baseline, that they are missing."""
        ancestors = set(line(self.git))
        return {
            key
            for key, job in baselines.accepted_absences(self.session, self.job, chosen)
            if (job.branch == self.branch or job.sha in ancestors)
            and job.measured_at.timestamp() >= _moment(chosen[key])
        }

    def _look(self, source: Source, series: Mapping[str, Where]) -> tuple[dict[str, Baseline], str]:
        """What a source has, and why it has nothing for the others."""
        if source in FIXED:
            return self._marked(source, series)
        where = self._search(source)
        if where is None:
            found = baselines.previous(self.session, self.job, series, self.branch)
            distances = {sha: back for back, sha in enumerate(line(self.git), start=1)}
            said = f"no accepted result of this series earlier on {self.branch or 'jobs without a branch'}"
            return {k: b.replace(distance=distances.get(b.sha or "")) for k, b in found.items()}, said
        if where.nowhere is not None:
            return {}, where.nowhere
        found = baselines.at_commits(self.session, self.job, series, where.distances)
        found = {key: baseline.replace(source=source) for key, baseline in found.items()}
        return found, f"no accepted result of this series at {where.before}"

    def _search(self, source: Source) -> Search | None:
        """Where a source by commits looks; None for one that does not look at commits."""
        if source == "previous":
            return None
        return search(source, self.rule, self.git, self._history)

    @cached_property
    def _history(self) -> set[str]:
        branch = self.rule.branch
        return set() if branch is None else baselines.known_history(self.session, self.job, branch)

    def _marked(self, source: Source, series: Mapping[str, Where]) -> tuple[dict[str, Baseline], str]:
        found: dict[str, Baseline] = {}
        marks, ended = [], ""
        for mark in baselines.marks(self.session, self.job.project, KINDS[source]):
            if mark.until is None or mark.until >= self.today:
                marks.append(mark)
            else:
                ended = ended or f"; that of {mark.marked_by or 'somebody'} ended on {mark.until}"
        left = dict(series)
        marks = baselines.that_measured(self.session, marks, left)
        while marks and left:
            mark = marks.pop(0)
            keys = _fitting(mark, left)
            by_key = baselines.at_mark(self.session, mark, keys, without=self.job.id)
            for key, baseline in by_key.items():
                found[key] = baseline.replace(source=source)
                del left[key]
            if by_key:  # most marks measured what is found by now, and nothing of what is left
                marks = baselines.that_measured(self.session, marks, left)
        return found, f"no result of this series is {source}{ended}"


def spent(
    session: Session, mark_ids: Collection[str], chosen: Mapping[str, Baseline]
) -> set[tuple[str, str]]:
    """By series, the acceptances that its baseline has behind it: what is lost from there is another loss."""
    if not mark_ids or not chosen:
        return set()
    rows = jobs.by_ids(session, {baseline.job_id for baseline in chosen.values()})
    at = {row.id: commit(row) for row in rows}
    return {
        (key, mark_id)
        for key, mark_id, job in baselines.let_through_by(session, mark_ids, chosen)
        if concerns(commit(job), at[chosen[key].job_id], merged_into=None)
    }


def commit(job: Job) -> Commit:
    """The commit that a job measured."""
    return Commit(
        job_id=job.id,
        sha=job.sha,
        branch=job.branch,
        ancestors=tuple(job.git.get("ancestors") or ()),
        at=job.measured_at.timestamp(),
    )


def acknowledgement(mark: Mark) -> Acknowledgement:
    """Who accepted, why, and until when."""
    return Acknowledgement(
        kind="acceptance", id=mark.id, reason=mark.reason, by=mark.marked_by, until=mark.until
    )


def marked(session: Session, mark: Mark, head: Commit) -> Commit:
    """The commit that was accepted or pinned; with its ancestors where one that is as old asks."""
    at = mark.measured_at.timestamp()
    job = jobs.find(session, mark.project, mark.job_id) if at == head.at else None
    if job is not None:
        return commit(job)
    return Commit(job_id=mark.job_id, sha=mark.sha, branch=mark.branch, at=mark.measured_at.timestamp())


def level_figure(row: AcceptedLevel) -> Figure | None:
    """The figure that was accepted; None where it is that the series is missing."""
    return Figure(value=row.value, kind=FigureKind(row.kind)) if row.kind is not None else None


def _fitting(mark: Mark, series: Mapping[str, Where]) -> list[str]:
    match = Match.model_validate(mark.matches)
    return [key for key, where in series.items() if match.fits(where)]


def _moment(baseline: Baseline) -> float:
    return baseline.measured_at.timestamp() if baseline.measured_at is not None else 0.0
