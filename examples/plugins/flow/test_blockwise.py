"""The package's own test: what its job says of it, measured by the worker that is installed beside it."""

import subprocess
from pathlib import Path


def test_blocks_of_four_stay_above_the_floor() -> None:
    job = Path(__file__).with_name("job.yaml")
    ran = subprocess.run(["noisefloor", "run", str(job)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
