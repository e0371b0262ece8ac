"""docs/support.md says what running gives: a sample of its cells, run again."""

import importlib.util
import re
from typing import Any

import pytest
import torch
from tests.service import ROOT

SCRIPT = ROOT / "docs" / "support.py"
ANOTHER_MACHINE_DB = 1.0  # rounding differs with the instruction set, and saturation is not in the sample
SAMPLE = [
    ("eager", "x86", ["multiple-ops", "vit"]),
    ("fx", "x86", ["multiple-ops", "vit"]),
    ("minmax_fx", "x86", ["multiple-ops"]),
    ("torchao", "aten", ["multiple-ops", "vit"]),
    ("pt2e", "inductor", ["multiple-ops"]),
]


@pytest.fixture(scope="module")
def support() -> Any:
    """The script, imported from where it lies."""
    found = importlib.util.spec_from_file_location("support", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def entries(part: str) -> dict[tuple[str, str, str], str]:
    """What a flow's part of the page says, by subject, mode and engine; a reason stands for its number."""
    notes = dict(re.findall(r"^(\d+)\. (.*)$", part, re.MULTILINE))
    table = [
        [field.strip() for field in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("|")
    ]
    (_, _, *engines), _, *rows = table
    return {
        (subject, mode, engine): notes[field.strip("[]")] if field.startswith("[") else field
        for subject, mode, *fields in rows
        for engine, field in zip(engines, fields, strict=True)
    }


def test_every_flow_mode_subject_and_engine_has_a_figure_or_a_reason(support: Any) -> None:
    written = support.sections(support.PAGE.read_text())
    assert set(written) == set(support.MODES)
    for flow, part in written.items():
        found = entries(part)
        assert {subject for subject, _, _ in found} == set(support.SUBJECTS)
        assert {mode for _, mode, _ in found} == set(support.MODES[flow])
        assert {engine for _, _, engine in found} == set(support.ENGINES[flow])
        assert all(found.values())


@pytest.mark.parametrize(("flow", "engine", "subjects"), SAMPLE)
def test_a_sample_of_what_is_written_is_found_again(
    support: Any, flow: str, engine: str, subjects: list[str]
) -> None:
    if engine == "x86" and engine not in torch.backends.quantized.supported_engines:
        pytest.skip("this build of torch has no engine x86")
    written = entries(support.sections(support.PAGE.read_text())[flow])
    found = entries(support.section(flow, support.run(flow, subjects, (engine,))))

    assert found
    for place, said in found.items():
        if re.fullmatch(r"-?\d+\.\d", said):
            assert float(said) == pytest.approx(float(written[place]), abs=ANOTHER_MACHINE_DB), place
        else:
            assert said == written[place], place
