"""Container files, held against the service itself: no container engine is at hand to start them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.service import ROOT, LiveService

from noisefloor.settings import Settings

KNOWN = {f"NOISEFLOOR_{name.upper()}" for name in Settings.model_fields}


class Container(NamedTuple):
    """What a file starts."""

    name: str
    arguments: Sequence[str]
    environment: Sequence[str]
    read_only: bool
    paths: Sequence[str]


def composed() -> Iterator[Container]:
    """The services of docker-compose.yml that are ours."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name, service in document["services"].items():
        if "build" in service:
            yield Container(
                name=f"compose {name}",
                arguments=service.get("command", ["serve"]),
                environment=list(service["environment"]),
                read_only=service.get("read_only", False),
                paths=[],
            )


def orchestrated() -> Iterator[Container]:
    """The containers of the example for Kubernetes."""
    for document in yaml.safe_load_all((ROOT / "integrations/kubernetes/noisefloor.yaml").read_text()):
        pod: dict[str, Any] = document["spec"].get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            assert pod["securityContext"]["runAsNonRoot"]
            probes = [container[key] for key in container if key.endswith("Probe")]
            yield Container(
                name=f"kubernetes {document['metadata']['name']}",
                arguments=container["args"],
                environment=[variable["name"] for variable in container["env"]],
                read_only=container["securityContext"]["readOnlyRootFilesystem"],
                paths=[probe["httpGet"]["path"] for probe in probes],
            )


CONTAINERS = [*composed(), *orchestrated()]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda one: one.name)
def test_a_container_starts_a_verb_that_is_there_with_settings_that_are_there(container: Container) -> None:
    command = [sys.executable, "-m", "noisefloor.cli", *container.arguments, "--help"]
    subprocess.run(command, check=True, capture_output=True)
    assert set(container.environment) <= KNOWN
    assert container.read_only


def test_the_probes_ask_for_what_the_service_answers(live_service: LiveService) -> None:
    for path in {path for container in CONTAINERS for path in container.paths}:
        assert live_service.http.get(path).status_code == 200


def test_the_images_health_check_tells_a_service_from_none(tmp_path: Path) -> None:
    (said,) = re.findall(r"HEALTHCHECK [^[]*(\[.*?\])\n", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    _, *arguments = json.loads(said)
    with LiveService(f"sqlite:///{tmp_path}/noisefloor.db") as service:
        check = [
            sys.executable,
            *(part.replace("8642", str(service.http.base_url.port)) for part in arguments),
        ]
        assert subprocess.run(check, check=False, capture_output=True).returncode == 0
    assert subprocess.run(check, check=False, capture_output=True).returncode == 1


def test_the_images_context_is_what_is_copied() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    lines = (ROOT / ".dockerignore").read_text().split()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert {source.removeprefix("./") for source in " ".join(copied).split()} == kept
    assert all((ROOT / name).exists() for name in kept)
