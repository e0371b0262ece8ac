import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.measurement import Measurement
from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db
from noisefloor_workers.numerics.compare import compare

FAR, NEAR = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])


@dataclasses.dataclass
class Detection:
    boxes: Tensor
    labels: Tensor


class Unwalkable:
    pass


def measured(ref: object, actual: object, **options: Any) -> dict[str, Measurement]:
    return {m.place: m for m in compare(edge="float32->true", ref=ref, actual=actual, **options)}


def kinds(found: dict[str, Measurement]) -> dict[str, str]:
    return {place: m.figure.kind.value for place, m in found.items()}


def test_a_tensor_gives_one_measurement_with_all_it_carries() -> None:
    found = compare(edge="fake->true", ref=FAR, actual=NEAR)
    assert len(found) == 1
    assert (found[0].edge, found[0].place, found[0].metric) == ("fake->true", "output", "sqnr_db")
    assert found[0].figure == sqnr_db(ref=FAR, actual=NEAR)
    assert found[0].sums == accumulate(ref=FAR, actual=NEAR)
    assert found[0].spread is not None
    assert found[0].output_digest is not None
    assert (found[0].note, found[0].match_rate) == (None, None)


@pytest.mark.parametrize(
    ("wrap", "places"),
    [
        (lambda x: (x, x * 2), ["output", "output[0]", "output[1]"]),
        (lambda x: {"a": x, "b": x * 2}, ["output", "output['a']", "output['b']"]),
        (lambda x: Detection(boxes=x, labels=x * 2), ["output", "output.boxes", "output.labels"]),
        (lambda x: {"a": (x, [x * 2])}, ["output", "output['a'][0]", "output['a'][1][0]"]),
        (lambda x: (x,), ["output", "output[0]"]),
    ],
)
def test_a_tree_gives_the_pooled_one_first_and_one_per_leaf(wrap: Any, places: list[str]) -> None:
    found = compare(edge="float32->true", ref=wrap(FAR), actual=wrap(NEAR))
    assert [m.place for m in found] == places
    assert [m.figure.value for m in found] == pytest.approx([20.0] * len(places))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(-60, 60), st.integers(1, 9))
def test_the_pooled_figure_is_that_of_all_leaves_together(seed: int, exponent: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ref = [torch.randn(size, 2, generator=generator), torch.randn(3, generator=generator) * 2.0**exponent]
    actual = [leaf * (1 + 0.1 * torch.rand(leaf.shape, generator=generator)) for leaf in ref]
    whole = sqnr_db(
        ref=torch.cat([leaf.flatten() for leaf in ref]),
        actual=torch.cat([leaf.flatten() for leaf in actual]),
    )
    assert measured(ref, actual)["output"].figure.value == pytest.approx(whole.value, abs=1e-9)


def test_pooling_leaves_is_not_averaging_their_decibels() -> None:
    found = measured((FAR, FAR), (NEAR, FAR + 5e-4))
    leaf_db = [found[place].figure.value or 0.0 for place in ("output[0]", "output[1]")]
    assert leaf_db[1] > 70
    assert found["output"].figure.value == pytest.approx(23.01, abs=0.01)


def test_one_exact_leaf_does_not_make_the_pool_exact() -> None:
    found = measured({"a": FAR, "b": FAR}, {"a": FAR, "b": NEAR})
    assert kinds(found) == {"output": "finite", "output['a']": "exact", "output['b']": "finite"}


def test_equal_outputs_are_exact_leaf_by_leaf_and_pooled() -> None:
    assert set(kinds(measured((FAR, NEAR), (FAR, NEAR))).values()) == {"exact"}


def test_a_zero_reference_gives_its_largest_error_in_place_of_decibels() -> None:
    found = measured(torch.zeros(2), torch.tensor([0.0, -0.25]))["output"]
    assert found.figure.kind is FigureKind.ZERO_REF
    assert found.sums is not None
    assert found.sums.max_abs_err == 0.25


def test_nonfinite_elements_are_counted_per_side_and_reach_the_pool() -> None:
    ref = (FAR, torch.tensor([math.nan, 1.0, 2.0]))
    actual = (NEAR, torch.tensor([1.0, math.inf, -math.inf]))
    found = measured(ref, actual)
    assert kinds(found) == {"output": "nonfinite", "output[0]": "finite", "output[1]": "nonfinite"}
    pooled = found["output"].sums
    assert pooled is not None
    assert (pooled.n, pooled.nonfinite_ref, pooled.nonfinite_actual) == (2, 1, 2)


def test_a_measurement_of_nan_survives_json() -> None:
    for found in compare(edge="float32->true", ref=(FAR,), actual=(FAR * math.nan,)):
        assert Measurement.model_validate_json(found.model_dump_json()) == found


def test_integers_and_bools_have_a_match_rate_and_no_figure() -> None:
    found = measured(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5]))["output"]
    assert (found.figure.kind, found.match_rate, found.sums) == (FigureKind.NOT_APPLICABLE, 0.75, None)
    assert measured(torch.tensor([True, False]), torch.tensor([True, True]))["output"].match_rate == 0.5


def test_integers_equal_in_some_bytes_do_not_match() -> None:
    assert measured(torch.tensor([256, 7]), torch.tensor([512, 7]))["output"].match_rate == 0.5


def test_integer_leaves_stay_out_of_the_pooled_sums() -> None:
    ref = Detection(boxes=FAR, labels=torch.tensor([1, 1000]))
    found = measured(ref, Detection(boxes=NEAR, labels=torch.tensor([1, 0])))
    assert found["output"].sums == found["output.boxes"].sums
    assert found["output"].match_rate is None
    assert found["output.labels"].match_rate == 0.5


def test_an_output_of_integers_alone_has_the_share_over_all_elements() -> None:
    ref = (torch.tensor([1, 2, 3]), torch.tensor([True]))
    found = measured(ref, (torch.tensor([1, 2, 3]), torch.tensor([False])))
    assert found["output"].figure.kind is FigureKind.NOT_APPLICABLE
    assert [found[p].match_rate for p in ("output", "output[0]", "output[1]")] == [0.75, 1.0, 0.0]


@pytest.mark.parametrize("output", [torch.empty(0, 4), torch.empty(0, dtype=torch.int64), (), None, "text"])
def test_an_output_without_elements_is_no_agreement(output: object) -> None:
    found = measured(output, output)
    assert kinds(found) == {"output": "not_applicable"}
    assert found["output"].match_rate is None


def test_what_cannot_be_walked_is_shown_and_not_skipped() -> None:
    found = measured((FAR, Unwalkable()), (NEAR, Unwalkable()))
    assert kinds(found) == {"output": "finite", "output[0]": "finite", "output[1]": "not_applicable"}


@pytest.mark.parametrize(
    ("ref", "actual", "note"),
    [
        ((FAR, FAR), (FAR,), "output[1] is a Tensor in ref, missing in actual"),
        ({"a": FAR}, {"b": FAR}, "output['a'] is a Tensor in ref, missing in actual"),
        ((FAR,), [FAR], "output is a tuple in ref, a list in actual"),
        ((FAR, None), (FAR, FAR), "output[1] is None in ref, a Tensor in actual"),
    ],
)
def test_another_structure_is_one_mismatch_that_says_where(ref: object, actual: object, note: str) -> None:
    found = measured(ref, actual)
    assert kinds(found) == {"output": "mismatch"}
    assert found["output"].note == note
    assert found["output"].output_digest is not None


@pytest.mark.parametrize(
    ("ref", "actual", "note"),
    [
        (torch.ones(3, 1), torch.ones(3), "shape (3, 1) in ref, (3,) in actual"),
        (torch.ones(3), torch.ones(1), "shape (3,) in ref, (1,) in actual"),
        (torch.ones(2, 3), torch.ones(3), "shape (2, 3) in ref, (3,) in actual"),
        (torch.ones(2), torch.ones(2).half(), "dtype torch.float32 in ref, torch.float16 in actual"),
        (torch.ones(2), torch.ones(2).double(), "dtype torch.float32 in ref, torch.float64 in actual"),
        (torch.ones(2), torch.ones(2).long(), "dtype torch.float32 in ref, torch.int64 in actual"),
        (torch.ones(2).int(), torch.ones(2).long(), "dtype torch.int32 in ref, torch.int64 in actual"),
    ],
)
def test_another_shape_or_dtype_is_a_mismatch_with_a_note(ref: Tensor, actual: Tensor, note: str) -> None:
    found = measured(ref, actual)["output"]
    assert (found.figure.kind, found.note, found.sums) == (FigureKind.MISMATCH, note, None)


def test_one_mismatched_leaf_makes_the_pool_a_mismatch() -> None:
    found = measured({"a": FAR, "b": torch.ones(3)}, {"a": NEAR, "b": torch.ones(1)})
    assert kinds(found) == {"output": "mismatch", "output['a']": "finite", "output['b']": "mismatch"}
    assert found["output"].note == "output['b']: shape (3,) in ref, (1,) in actual"


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_output_counts_as_float32() -> None:
    quantized = torch.quantize_per_tensor(NEAR, 0.5, 0, torch.quint8)
    found = measured((FAR,), (quantized,))
    assert found["output[0]"].figure.value == pytest.approx(20.0)
    assert found["output[0]"].output_digest == measured((FAR,), (NEAR,))["output[0]"].output_digest
    assert measured(FAR.double(), quantized)["output"].figure.kind is FigureKind.MISMATCH


def test_python_numbers_are_measured_as_scalars() -> None:
    found = measured({"loss": 10.0, "steps": 3}, {"loss": 9.0, "steps": 3})
    assert found["output['loss']"].figure.value == pytest.approx(20.0)
    assert found["output['steps']"].match_rate == 1.0


def test_a_zero_output_is_flagged_beside_its_decibels() -> None:
    sums = measured(torch.full((2, 3), 1e-4), torch.zeros(2, 3))["output"].sums
    assert sums is not None
    assert sums.zero_output
    assert sums.sqnr_db().value == pytest.approx(0.0, abs=1e-12)


def test_two_zero_outputs_are_exact_and_flagged() -> None:
    found = measured((torch.zeros(2), torch.zeros(3)), (torch.zeros(2), torch.zeros(3)))["output"]
    assert found.figure.kind is FigureKind.EXACT
    assert found.sums is not None
    assert found.sums.zero_output


def test_the_step_serves_the_only_measurable_leaf() -> None:
    ref, actual = torch.zeros(2), torch.tensor([0.0, 0.5])
    counts = torch.tensor([1])
    only = measured((ref, counts), (actual, counts), step=0.5)["output[0]"].spread
    assert only is not None
    assert only.lsb == {0: 1, 1: 1}
    several = measured((ref, ref), (actual, actual), step=0.5)["output[0]"].spread
    assert several is not None
    assert several.lsb is None


def test_the_batch_tells_samples_from_other_axes() -> None:
    ref, actual = (torch.ones(4, 2), torch.ones(7, 2)), (torch.zeros(4, 2), torch.zeros(7, 2))
    found = measured(ref, actual, batch=4)
    by_place = {place: m.spread.worst_sample is not None for place, m in found.items() if m.spread}
    assert by_place == {"output[0]": True, "output[1]": False}


def test_long_paths_fit_their_field_and_stay_apart() -> None:
    output = {"k" * 600 + suffix: FAR for suffix in "ab"}
    places = [m.place for m in compare(edge="float32->true", ref=output, actual=output)]
    assert len(set(places)) == 3
    assert max(len(place) for place in places) == 512


def test_a_note_about_many_leaves_fits_its_field() -> None:
    ref, actual = [torch.ones(2)] * 40, [torch.ones(3)] * 40
    note = measured(ref, actual)["output"].note
    assert note is not None
    assert len(note) == 512


def test_across_precisions_the_narrower_side_is_widened_and_nowhere_else() -> None:
    ref = FAR.double() / 3
    actual = (FAR / 3).float()
    (found,) = compare(edge="float64->float32", ref=ref, actual=actual)
    noise = torch.linalg.vector_norm(ref - actual.double())
    expected = 20 * torch.log10(torch.linalg.vector_norm(ref) / noise)
    assert found.figure.value == pytest.approx(float(expected), rel=1e-12)
    for edge, narrow in (("float32->true", actual), ("float64->float32", actual.half())):
        (other,) = compare(edge=edge, ref=ref, actual=narrow)  # type: ignore[arg-type]
        assert other.figure.kind is FigureKind.MISMATCH
