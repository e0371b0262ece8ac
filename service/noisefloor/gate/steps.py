"""The steps of a bisection as jobs: what each measures, and what its cells gave. Pure."""

from collections.abc import Iterable, Sequence

from noisefloor.contract.bisection import Over
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus, JobSpec, JobSubject
from noisefloor.contract.layers import LayerView
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView
from noisefloor.contract.scheme import Scheme
from noisefloor.gate.bisect import EXACT, Figures, Measured, Search, Steps
from noisefloor.gate.saved import label

NO_LAYERS = "the layers of this flow are not known, so none can be left out"


def figures(cells: Iterable[CellView], over: Over) -> dict[str, Figure]:
    """The figure of each output, by what it is called at every step."""
    return {
        label_of(cell, m.edge, over): m.figure
        for cell in cells
        for m in cell.measurements
        if (m.place, m.metric) == (OUTPUT, SQNR)
    }


def told(cells: Sequence[CellView], over: Over) -> Measured:
    """What the cells of a step gave; without any figure, how they ended."""
    found = figures(cells, over)
    if found:
        return Measured(figures=found)
    reasons = dict.fromkeys(f"{cell.status.value}: {cell.reason}" for cell in cells if cell.reason)
    unsupported = all(cell.status is CellStatus.UNSUPPORTED for cell in cells)
    return Measured(note="; ".join(reasons) or None, unsupported=unsupported)


def label_of(cell: CellView, edge: str, over: Over) -> str:
    """Subject, scheme, lane and edge, without what differs between steps."""
    if over == "isa":
        cell = cell.replace(lane=cell.lane.replace(isa="native"))
    if over == "layers":
        cell = cell.replace(scheme=cell.scheme.replace(float_layers=()))
    return f"{label(cell)} · {edge}"


def at_step(spec: JobSpec, search: Steps, step: int) -> JobSpec:
    """The job that measures a step; over commits and environments it is the same job, elsewhere."""
    if search.over == "isa":
        return spec.replace(lanes=spec.lanes.replace(isa=(search.names[step],)))
    if search.over == "layers":
        kept = search.names[step + 1 :]
        schemes = tuple(
            scheme.replace(float_layers=(*scheme.float_layers, *kept)) for scheme in _schemes(spec)
        )
        subject: JobSubject = spec.subjects[0].replace(schemes=schemes)
        return spec.replace(subjects=(subject,), schemes=())
    return spec


def layer_names(views: Iterable[LayerView]) -> tuple[str, ...]:
    """The steps over layers: none quantized, and then one more at a time, in the model's order.

    Empty where the layers of the flow are not known.
    """
    named = (layer.name for view in views for report in view.reports[:1] for layer in report.layers)
    layers = tuple(dict.fromkeys(named))
    return ("", *layers) if layers else ()


def over_layers(names: tuple[str, ...], whole: Figures) -> Search:
    """The search over layers once all of them are measured: where none is quantized all is exact."""
    measured = {0: Measured(figures=dict.fromkeys(whole, EXACT)), len(names) - 1: Measured(figures=whole)}
    return Search(over="layers", names=names, measured=measured)


def without_layers(spec: JobSpec) -> str | None:
    """Why the layers of a job cannot be gone through; None where they can."""
    if len(spec.subjects) != 1 or len(_schemes(spec)) != 1:
        return "over layers takes a job of one subject and one scheme"
    subject = spec.subjects[0]
    if subject.operator is not None or subject.conformance is not None:
        return f"{subject.label} is an operator: it has no layers"
    return None


def _schemes(spec: JobSpec) -> tuple[Scheme, ...]:
    return spec.subjects[0].schemes or spec.schemes
