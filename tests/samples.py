"""Jobs and results that tests start from."""

from typing import Any

from noisefloor.contract.conformance import Conformance
from noisefloor.contract.conformance import Verdict as KernelVerdict
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.measurement import CellResult, Environment, Measurement
from noisefloor.contract.sums import Sums

ENVIRONMENT = Environment(
    torch="2.13.0", python="3.11.7", cpu="test", isa="AVX2", threads=1, os="linux", machine="x86_64"
)


def small_data() -> dict[str, Any]:
    """Eight calibration samples, two to evaluate."""
    return {"calibration": {"shape": [8, 3, 15, 15]}, "evaluation": {"shape": [2, 3, 15, 15]}}


def job(**changes: Any) -> dict[str, Any]:
    """A job of one cell with a floor of 30 dB."""
    document: dict[str, Any] = {
        "version": 1,
        "subjects": [{"zoo": "multiple-ops", "data": small_data()}],
        "schemes": [{"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 30}],
        "lanes": {"engine": ["x86"]},
    }
    return {**document, **changes}


def imported(factory: str, **changes: Any) -> dict[str, Any]:
    """A job on a model that is imported from the tests."""
    subject = {"import": f"subjects_under_test.{factory}", "data": small_data()}
    return job(subjects=[subject], **changes)


def operators(*globs: str, mode: str = "quick", **changes: Any) -> dict[str, Any]:
    """A job on operators that the conformance suite knows."""
    document = {
        "subjects": [{"conformance": glob} for glob in globs],
        "schemes": [{"flow": "conformance", "mode": mode}],
    }
    return job(**{**document, **changes})


def spec(**changes: Any) -> JobSpec:
    """The same, validated."""
    return JobSpec.model_validate(job(**changes))


def result(cell: str, sqnr_db: float | None = 41.5, **changes: Any) -> CellResult:
    """A finished cell whose figure is the given one, or exact."""
    ratio = 10 ** (-(sqnr_db or 0) / 10)
    sums = Sums(n=4, ref_sq=1.0, actual_sq=1.0, ref_actual=1.0, err_sq=ratio if sqnr_db is not None else 0.0)
    figure = Figure.finite(sqnr_db) if sqnr_db is not None else sums.sqnr_db()
    measurement = Measurement(edge="float32->true", figure=figure, sums=sums)
    values: dict[str, Any] = {
        "cell": cell,
        "status": CellStatus.DONE,
        "environment": ENVIRONMENT,
        "executed_engine": "x86",
        "duration_s": 0.5,
        "measurements": (measurement,),
    }
    return CellResult(**{**values, **changes})


def kernel(**changes: Any) -> Conformance:
    """What was found of a kernel: exact on every case."""
    values: dict[str, Any] = {
        "op": "quantized::linear",
        "engine": "x86",
        "isa": "native",
        "verdict": "exact",
        "cases": 9,
    }
    return Conformance(**{**values, **changes})


def found(cell: str, **changes: Any) -> CellResult:
    """An operator's cell with what was found of its kernel."""
    what = kernel(**changes)
    measurement = Measurement(
        edge="reference->true", metric="wrong_cases", figure=Figure.finite(what.wrong_cases)
    )
    refused = what.verdict is KernelVerdict.UNSUPPORTED
    return CellResult(
        cell=cell,
        status=CellStatus.UNSUPPORTED if refused else CellStatus.DONE,
        reason=what.reason if refused else None,
        environment=ENVIRONMENT,
        measurements=() if refused else (measurement,),
        conformance=what,
    )
