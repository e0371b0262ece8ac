"""A subject as the flows take it: the float model and its data."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from noisefloor.contract.subject import Stage, Subject
from noisefloor_workers.subjects import data, imported
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.zoo import ZOO


@dataclass(frozen=True, kw_only=True)
class LoadedSubject:
    """A float32 model in eval mode, what its observers will see, and what it is measured on."""

    model: nn.Module
    calibration: ModelInputs
    evaluation: ModelInputs
    inputs_digest: str


def load(subject: Subject, import_allow: Iterable[str] = ()) -> LoadedSubject:
    """Build the model and draw the data, each stage under its own seed or all from one stream in turn."""
    model: nn.Module | None = None
    drawn: dict[Stage, ModelInputs] = {}
    for stage in subject.seeds.order:
        data.enter_stage(subject.seeds, stage)
        if stage == "model":
            model = _build(subject, import_allow)
        else:
            drawn[stage] = data.draw(getattr(subject.data, stage), stage)
    if model is None:
        raise AssertionError("the contract names each stage once")
    return LoadedSubject(
        model=model.to(torch.float32).eval(),
        calibration=drawn["calibration"],
        evaluation=drawn["evaluation"],
        inputs_digest=data.digest(*drawn["calibration"], *drawn["evaluation"]),
    )


def _build(subject: Subject, import_allow: Iterable[str]) -> nn.Module:
    if subject.zoo is not None:
        return ZOO[subject.zoo](**subject.args)
    return imported.build(subject.import_ or "", subject.args, import_allow)
