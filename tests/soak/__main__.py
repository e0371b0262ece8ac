"""`make soak` and `make stop`; see docs/operations.md."""

import signal
import sys
from typing import Annotated

import typer
from tests.soak.soak import Wanted, soak
from tests.soak.stops import stops


def main(
    cells: Annotated[int, typer.Argument(help="Cells to measure, at least; or workers to stop.")] = 10_000,
    database: Annotated[str, typer.Option(help="sqlite or postgres")] = "sqlite",
    gap: Annotated[float, typer.Option(help="Mean seconds between two kills.")] = 0.5,
    lease: Annotated[
        float, typer.Option(help="Seconds that a plain worker holds a shard unheard of.")
    ] = 10.0,
    kernels: Annotated[str, typer.Option(help="plain: no torch; real: `noisefloor up`, `worker`.")] = "plain",
    skew: Annotated[float, typer.Option(help="Seconds that clocks are ahead and behind.")] = 0.0,
    stop: Annotated[bool, typer.Option(help="SIGSTOP past the lease, in place of SIGKILL.")] = False,
    without: Annotated[str | None, typer.Option(help="Take a guard out: key, fence.")] = None,
) -> None:
    """Measure cells under random SIGKILL, print what was counted, and exit with 1 if anything is wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left behind
    wanted = Wanted(
        cells=cells,
        database=database,
        gap_s=gap,
        lease_s=lease,
        kernels=kernels,
        skew_s=skew,
        without=without,
    )
    outcome = stops(wanted) if stop else soak(wanted)
    outcome.show()
    sys.exit(1 if outcome.violations else 0)


if __name__ == "__main__":
    typer.run(main)
