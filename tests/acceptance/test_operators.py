"""The example of operators, on the service and on the command line."""

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from tests.service import EXAMPLES, LiveService

from noisefloor import plan
from noisefloor.contract.job import JobSpec


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The first operators of each half of the example, on small tensors."""
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / "operators.yaml").read_text())
    document["subjects"] = [document["subjects"][number] for number in (0, 11, 14)]
    for subject in document["subjects"]:
        subject["operator"] = {
            **subject["operator"],
            "shape": [min(size, 32) for size in subject["operator"]["shape"]],
        }
    return document


def test_the_service_measures_operators_and_shows_each_metric_with_its_unit(
    live_service: LiveService, example: dict[str, Any]
) -> None:
    job = live_service.wait(live_service.submit(example)["id"])
    assert job["verdict"] == "pass"
    headlines = {(row["subject"], row["scheme"], row["edge"]): row["figure"] for row in job["results"]}
    assert len(headlines) == 5
    assert all(figure["kind"] == "exact" or figure["value"] > 40 for figure in headlines.values()), (
        headlines
    )  # a time or a share would be below one
    page = live_service.http.get(f"/projects/default/jobs/{job['id']}").text
    for shown in (" GB/s</td>", " LSB</td>", " s</td>", "median time of a call, s"):
        assert shown in page
    series = live_service.http.get("/v1/projects/default/series", params={"metric": "time_median_s"}).json()
    found = live_service.http.get(f"/projects/default/series/{series['items'][0]['key']}")
    assert found.status_code == 200
    assert "not judged" in found.text


def test_the_command_line_prints_each_metric_with_its_unit(example: dict[str, Any]) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", "run", "-", *arguments],
            input=json.dumps({**example, "subjects": example["subjects"][:1]}),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    table = run()
    assert "quantize_per_tensor 3×32×32 values unit" in table
    for metric, unit in (("bandwidth_gb_per_s", "GB/s"), ("max_lsb", "LSB"), ("time_median_s", "s")):
        assert any(metric in line and f" {unit} " in line for line in table.splitlines())


def test_the_long_configurations_are_a_job_of_the_contract() -> None:
    printed = subprocess.run(
        [sys.executable, EXAMPLES / "operators_long.py"], capture_output=True, text=True, check=True
    ).stdout
    assert plan.count(JobSpec.model_validate_json(printed)) == 592
