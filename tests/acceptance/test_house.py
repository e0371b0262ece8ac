"""Facts about the house: what is imported by what, and what starts without torch."""

import json
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
import yaml
from tests.samples import job
from tests.service import ROOT, LiveService

from noisefloor.contract.job import JobSpec

WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchao", "numpy"}:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refuse())
"""


def test_the_command_line_says_its_version() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"noisefloor {metadata.version('noisefloor')}\n"


def test_the_api_imports_no_torch() -> None:
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import noisefloor.api.app"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in traced.stderr.splitlines()}
    assert "noisefloor" in imported
    assert not imported & {"torch", "torchao", "numpy", "noisefloor_workers"}


def test_the_service_starts_and_accepts_jobs_without_torch(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    database = f"sqlite:///{tmp_path}/noisefloor.db"
    environment = {"PYTHONPATH": str(tmp_path)}
    cli = [sys.executable, "-m", "noisefloor.cli"]
    subprocess.run(
        [*cli, "db", "upgrade", "--database", database], check=True, env={**environment, "PATH": ""}
    )
    with LiveService(database, verb="serve", **environment) as service:
        posted = service.submit(str(ROOT / "examples" / "seed_matrix.yaml"))
        assert "noisefloor up" in posted["progress"]["waiting_for"]


def test_a_verb_that_needs_torch_says_so_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    ran = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "run", str(ROOT / "examples" / "seed_matrix.yaml")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert ran.returncode == 2
    assert "noisefloor[worker]" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_schema_of_a_job_is_printed() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "schema", "job"], capture_output=True, text=True, check=True
    )
    assert set(json.loads(printed.stdout)["required"]) == {"version", "subjects", "lanes"}


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")))
def test_the_schema_accepts_what_the_service_accepts(example: Path) -> None:
    schema = JobSpec.model_json_schema(by_alias=True)
    validator = jsonschema.Draft202012Validator(schema)
    document = yaml.safe_load(example.read_text())
    assert list(validator.iter_errors(document)) == []
    schemes = document.get("schemes") or document["subjects"][0]["schemes"]
    schemes[0]["edgee"] = "float32->true"
    assert list(validator.iter_errors(document)) != []


def test_an_answer_that_is_not_the_services_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().rpartition("(")[2].split(")")[0]
        asked = subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", "show", "../../..", "--url", address],
            capture_output=True,
            text=True,
            check=False,
        )
        server.terminate()
    assert asked.returncode == 2
    assert "Traceback" not in asked.stderr


def test_a_stopped_service_lets_go_of_whoever_listens(tmp_path: Path) -> None:
    with LiveService(f"sqlite:///{tmp_path}/noisefloor.db", verb="up") as service:
        job_id = service.submit(job(lanes={"engine": ["x86"], "threads": list(range(1, 60))}))["id"]
        with service.http.stream("GET", f"/v1/projects/default/jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            service.process.send_signal(signal.SIGINT)
            list(lines)
        service.process.wait()
    assert not [line for line in service.log if "Traceback" in line or "ERROR" in line]


def test_serve_refuses_a_database_without_the_schema(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "serve", "--database", f"sqlite:///{tmp_path}/new.db"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "noisefloor db upgrade" in refused.stderr


def test_a_second_service_on_one_file_is_refused(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/noisefloor.db"
    with LiveService(database):
        second = subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", "up", "--port", "0", "--database", database],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == 2
    assert "in use by process" in second.stderr


@pytest.mark.parametrize("verb", ["up", "serve", "db upgrade"])
@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("sqlite:///{folder}/noise.db", "file is not a database"),
        ("sqlite:///{folder}/noise.db/below.db", "cannot be written|is not there"),
        ("postgresql://nobody@127.0.0.1:9/none", "Connection refused"),
        ("mysql://host/db", "sqlite:///path or postgresql://"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, verb: str, database: str, said: str
) -> None:
    (tmp_path / "noise.db").write_bytes(bytes(range(1, 256)) * 20)
    options = ["--database", database.format(folder=tmp_path)]
    options += [] if verb == "db upgrade" else ["--port", "0"]
    refused = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", *verb.split(), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert re.search(said, refused.stderr)
    assert "Traceback" not in refused.stderr
