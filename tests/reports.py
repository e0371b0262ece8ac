"""Reports of jobs, as `noisefloor run` makes them of results."""

from datetime import date
from typing import Any

from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.job import CellStatus
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.report import Report
from noisefloor_workers.cli.run import report

TODAY = date(2026, 1, 1)
DROP = {"rules": {"max_drop_db": 0.5}}
ENGINES = ("x86", "onednn")
NEWER = ENVIRONMENT.replace(torch="2.14.0")


def layers(**own: float) -> tuple[LayerReport, ...]:
    """The layers of the headline's edge, by their own SQNR in dB."""
    noise = {name: 10 ** (-db / 10) for name, db in own.items()}
    found = [
        {
            "name": name,
            "kind": "Linear",
            "cumulative": {"value": db, "kind": "finite"},
            "local": {"value": db, "kind": "finite"},
            "share": noise[name] / sum(noise.values()),
        }
        for name, db in own.items()
    ]
    return (LayerReport(edge="float32->true", layers=tuple(map(Layer.model_validate, found))),)


def reported(*cells: CellResult | float | None, **changes: Any) -> Report:
    """A report of one cell an engine: a result, or a figure in dB, or None for exact."""
    engines = {"engine": ENGINES[: len(cells)]}
    job = spec(**{"policy": DROP, "lanes": engines, "name": "nightly", **changes})
    results = {
        number: cell if isinstance(cell, CellResult) else result(str(number), cell)
        for number, cell in enumerate(cells)
    }
    return report(job, "demo", results)


def failed(ordinal: int, status: CellStatus = CellStatus.FAILED, **changes: Any) -> CellResult:
    """A cell that gave no measurement."""
    return result(str(ordinal), status=status, reason="why", measurements=(), **changes)
