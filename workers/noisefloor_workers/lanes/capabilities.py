"""What this machine can measure, found out beforehand. A worker imports no torch: it asks a process."""

import os
import subprocess
import sys

from noisefloor.contract.worker import Capabilities
from noisefloor.errors import UnavailableError
from noisefloor_workers.lanes.isa import VARIABLES

PROBE_S = 120.0


def probe() -> Capabilities:
    """Ask a process that imports torch. `UnavailableError` where it cannot tell."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "noisefloor_workers.tell"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PROBE_S,
            env=environment,
        )
        return Capabilities.model_validate_json(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        raise UnavailableError(f"this machine cannot say what it can measure: {' '.join(said)}") from None


def everything() -> Capabilities:
    """What the only worker there is takes: what it cannot run ends as unsupported, with the reason."""
    try:
        return probe().replace(takes_all=True)
    except UnavailableError:
        # nothing can be measured here: each cell ends with what its runner says of it
        return Capabilities(
            engines=(), isas=("native",), threads=1, memory_gib=1, machine="", torch="0", takes_all=True
        )
