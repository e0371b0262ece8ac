"""A subject as the flows take it: the float model and its data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from noisefloor.contract.lane import Device
from noisefloor.contract.subject import Inputs, Stage, Subject
from noisefloor_workers.plugins import plugin
from noisefloor_workers.subjects import architectures, data, imported, tensors, weights
from noisefloor_workers.subjects.architectures import ARCHITECTURES
from noisefloor_workers.subjects.errors import require_module
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.zoo import ZOO


@dataclass(frozen=True, kw_only=True)
class LoadedSubject:
    """A float32 model in eval mode, what its observers will see, and what it is measured on.

    `inputs_digest` is of the data's bytes, and of the weights' file where there is one.
    """

    model: nn.Module
    calibration: ModelInputs
    evaluation: ModelInputs
    inputs_digest: str

    def on(self, device: Device) -> "LoadedSubject":
        """The same with model and data on a device."""
        if device == "cpu":
            return self
        return replace(
            self,
            model=self.model.to(device),
            calibration=self.calibration.on(device),
            evaluation=self.evaluation.on(device),
        )


def load(subject: Subject, import_allow: Iterable[str] = (), files: Path | None = None) -> LoadedSubject:
    """Build the model and draw the data, each stage under its own seed or all from one stream in turn.

    What a file below `files` gives is not drawn, and moves nothing in the stream.
    """
    if subject.data is None:
        raise AssertionError("the contract gives each model its data")
    model: nn.Module | None = None
    given: dict[Stage, ModelInputs] = {}
    weights_sha256 = ""
    for stage in subject.seeds.order:
        data.enter_stage(subject.seeds, stage)
        if stage == "model":
            model = _build(subject, import_allow).to(torch.float32)
            if subject.weights is not None:
                held = tensors.read(subject.weights, files)
                weights.put(model, held.tensors)
                weights_sha256 = held.sha256
        else:
            source: Inputs = getattr(subject.data, stage)
            drawn = source.safetensors is None
            given[stage] = data.draw(source, stage) if drawn else tensors.inputs(source, stage, files)
    if model is None:
        raise AssertionError("the contract names each stage once")
    model.eval()  # an exported graph gives nothing back
    return LoadedSubject(
        model=model,
        calibration=given["calibration"],
        evaluation=given["evaluation"],
        inputs_digest=data.digest(*given["calibration"], *given["evaluation"], also=weights_sha256),
    )


def _build(subject: Subject, import_allow: Iterable[str]) -> nn.Module:
    name = subject.zoo
    if name is None:
        return imported.build(subject.import_ or "", subject.args, import_allow)
    if name in ZOO:
        return ZOO[name](**subject.args)
    if name in ARCHITECTURES:
        return architectures.build(name, subject.args)
    made = plugin("subject", name, [*ZOO, *ARCHITECTURES])(**subject.args)
    return require_module(name, made)
