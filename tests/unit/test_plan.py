"""Jobs become cells, cells become shards."""

import shlex

from tests.samples import job, small_data, spec

from noisefloor import plan
from noisefloor.contract.job import JobSpec

ENGINES = ["qnnpack", "onednn", "x86", "fbgemm"]


def test_a_job_is_the_product_of_its_axes() -> None:
    job_spec = spec(lanes={"engine": ENGINES, "threads": [1, 2], "isa": ["native", "avx2"]})
    cells = list(plan.cells(job_spec))
    assert len(cells) == plan.count(job_spec) == 16
    assert [cell.ordinal for cell in cells] == list(range(16))
    assert len({(cell.lane.engine, cell.lane.threads, cell.lane.isa) for cell in cells}) == 16


def test_a_shard_has_one_subject_one_isa_and_one_thread_count() -> None:
    subjects = [{"zoo": name, "data": small_data()} for name in ("multiple-ops", "multiple-ops-no-avgpool")]
    job_spec = spec(
        subjects=subjects, lanes={"engine": ENGINES, "threads": [1, 2], "isa": ["native", "avx2"]}
    )
    shards = list(plan.shards(plan.cells(job_spec)))
    assert [(s.isa, s.threads, len(s.cells)) for s in shards[:4]] == [
        ("native", 1, 4),
        ("native", 2, 4),
        ("avx2", 1, 4),
        ("avx2", 2, 4),
    ]
    assert len(shards) == 8
    assert all(len({cell.subject.label for cell in shard.cells}) == 1 for shard in shards)


def test_a_shard_has_one_device() -> None:
    job_spec = spec(lanes={"engine": ["aten", "x86"], "device": ["cpu", "cuda"]})
    shards = list(plan.shards(plan.cells(job_spec)))
    assert [[cell.lane.label for cell in shard.cells] for shard in shards] == [
        ["aten", "x86"],
        ["aten cuda", "x86 cuda"],
    ]


def test_engines_vary_fastest_so_that_a_calibration_is_shared() -> None:
    schemes = [
        {"flow": "eager", "mode": "static", "granularity": granularity, "edge": "float32->true"}
        for granularity in ("per_tensor", "per_channel")
    ]
    cells = list(plan.cells(spec(schemes=schemes, lanes={"engine": ENGINES})))
    assert [cell.scheme.granularity for cell in cells] == ["per_tensor"] * 4 + ["per_channel"] * 4


def test_a_subjects_own_schemes_stand_in_place_of_the_jobs() -> None:
    own = {"flow": "eager", "mode": "qat", "edge": "float32->fake"}
    subjects = [
        {"zoo": "multiple-ops", "data": small_data()},
        {"zoo": "multiple-ops-no-avgpool", "data": small_data(), "schemes": [own]},
    ]
    assert [cell.scheme.mode for cell in plan.cells(spec(subjects=subjects))] == ["static", "qat"]


def test_a_billion_cells_are_counted_without_being_made() -> None:
    subjects = [{"zoo": "multiple-ops", "seeds": {"model": n}, "data": small_data()} for n in range(1000)]
    lanes = {"engine": ENGINES, "isa": ["native", "avx2"], "threads": list(range(1, 1001))}
    assert plan.count(spec(subjects=subjects, lanes=lanes)) == 8_000_000


def test_the_repro_command_carries_a_job_of_the_one_cell() -> None:
    job_spec = spec(name="it's", lanes={"engine": ENGINES}, analysis={"target_db": 50})
    cell = list(plan.cells(job_spec))[2]
    _, _, document, pipe, *command = shlex.split(
        plan.repro(cell, limits=job_spec.limits, analysis=job_spec.analysis)
    )
    assert [pipe, *command] == ["|", "noisefloor", "run", "-"]
    alone = JobSpec.model_validate_json(document)
    assert [c.replace(ordinal=2) for c in plan.cells(alone)] == [cell]
    assert alone.analysis == job_spec.analysis


def test_a_job_without_schemes_has_no_cell() -> None:
    assert plan.count(JobSpec.model_validate(job(schemes=[]))) == 0
