import pytest

from noisefloor.contract.comparison import Move
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.history.comparison import gravity, move

EXACT, NONE, MISMATCH = (
    Figure.of(kind) for kind in (FigureKind.EXACT, FigureKind.NONFINITE, FigureKind.MISMATCH)
)


def db(value: float) -> Figure:
    return Figure.finite(value)


@pytest.mark.parametrize(
    ("base", "head", "metric", "expected"),
    [
        (db(40), db(39), "sqnr_db", Move.WORSE),
        (db(39), db(40), "sqnr_db", Move.BETTER),
        (db(40), db(40), "sqnr_db", Move.SAME),
        (EXACT, db(90), "sqnr_db", Move.WORSE),
        (db(90), EXACT, "sqnr_db", Move.BETTER),
        (EXACT, EXACT, "sqnr_db", Move.SAME),
        (db(40), NONE, "sqnr_db", Move.WORSE),
        (EXACT, MISMATCH, "sqnr_db", Move.WORSE),
        (NONE, db(-40), "sqnr_db", Move.BETTER),
        (NONE, MISMATCH, "sqnr_db", Move.CHANGED),
        (db(-1), db(0), "sqnr_db", Move.BETTER),
        (db(0.9), db(0.8), "coverage", Move.WORSE),
        (db(1.0), db(2.0), "prepare_s", Move.CHANGED),
        (db(1.0), db(2.0), "acme.entropy", Move.CHANGED),
    ],
)
def test_a_move_is_worse_better_or_neither(base: Figure, head: Figure, metric: str, expected: Move) -> None:
    assert move(base, head, metric) is expected


def test_losses_are_sorted_by_gravity() -> None:
    pairs = [
        (db(40), NONE),
        (EXACT, db(90)),
        (db(40), db(30)),
        (db(40), db(39)),
        (NONE, MISMATCH),
        (db(1), db(2)),
    ]
    shuffled = pairs[::-1]
    assert sorted(shuffled, key=lambda pair: gravity(*pair, "sqnr_db")) == pairs
