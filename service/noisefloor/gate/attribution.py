"""Attribution: a loss between two commits in two environments, split into code and environment. Pure.

The 2×2 of a factorial experiment. With figures y[code, environment] in dB, old 0 and new 1:

    environment = y00 − y01        what the new environment alone costs
    code        = y00 − y10        what the new code alone costs
    interaction = y01 + y10 − y00 − y11

so that the three add up to the loss y00 − y11. Without y10 (the old environment is gone) the code's part is
y01 − y11, with the interaction in it; without y01 the environment's is y10 − y11, likewise. Each says so.
"""

from noisefloor.contract.attribution import Attribution, Cause, Corner, Square
from noisefloor.contract.figure import Figure, FigureKind

NOTICEABLE_DB = 0.05
WORDS = {Cause.CODE: "the code", Cause.ENVIRONMENT: "the environment", Cause.BOTH: "code and environment"}
NO_OLD_ENVIRONMENT = (
    "this commit was not run in the old environment{why}: the code's part includes any interaction"
)
NO_OLD_CODE = "the old commit was not run in this environment{why}: its part includes any interaction"
SAME_CODE = "both commits run the same code"
SAME_ENVIRONMENT = "the environment is the same"
NOTHING_MOVED = "not known: code and environment are the baseline's, and what else moved is not on record"


def attribute(square: Square) -> Attribution:
    """Split the loss from the baseline's corner to this one.

    >>> from noisefloor.contract.attribution import Corner
    >>> def at(db):
    ...     return Corner(sha="", environment=None, how="measured", figure=Figure.finite(db))
    >>> square = Square(old_in_old=at(40), old_in_new=at(37), new_in_old=at(39.5), new_in_new=at(36))
    >>> found = attribute(square)
    >>> found.environment_db, found.code_db, found.interaction_db, found.cause.value
    (3.0, 0.5, 0.5, 'both')
    """
    corners = (square.old_in_old, square.old_in_new, square.new_in_old, square.new_in_new)
    is_same_code = square.old_in_new.how == "same_code"
    was, now = square.old_in_old.environment, square.new_in_new.environment
    is_same_environment = was is not None and was == now
    y00, y01, y10, y11 = (corner.figure.value if corner.figure is not None else None for corner in corners)
    total_db = _less(y00, y11)
    environment_db, code_db, interaction_db, note = _less(y00, y01), _less(y00, y10), None, None
    if y00 is not None and y01 is not None and y10 is not None and y11 is not None:
        interaction_db = (y01 - y11) - (y00 - y10)  # in pairs: equal corners leave no rounding
    elif y01 is not None:
        code_db, note = _less(y01, y11), NO_OLD_ENVIRONMENT.format(why=_why(square.new_in_old))
    elif y10 is not None:
        environment_db, note = _less(y10, y11), NO_OLD_CODE.format(why=_why(square.old_in_new))
    if is_same_code and is_same_environment:
        return Attribution(cause=Cause.UNKNOWN, total_db=total_db, square=square, message=NOTHING_MOVED)
    if is_same_code or is_same_environment:
        note = SAME_CODE if is_same_code else SAME_ENVIRONMENT
    in_db = {"code": code_db, "environment": environment_db, "interaction": interaction_db}
    cause = _cause_in_db(code_db, environment_db, interaction_db) or _cause_by_order(square)
    return Attribution(
        cause=cause,
        total_db=total_db,
        code_db=code_db,
        environment_db=environment_db,
        interaction_db=interaction_db,
        square=square,
        message=_unknown(square)
        if cause is Cause.UNKNOWN
        else _sentence(cause, in_db, note, is_in_db=total_db is not None),
    )


def _less(before: float | None, after: float | None) -> float | None:
    return before - after if before is not None and after is not None else None


def _cause_in_db(
    code_db: float | None, environment_db: float | None, interaction_db: float | None
) -> Cause | None:
    """Whose part is noticeable; of a loss that is none itself, whose part is larger."""
    if code_db is None or environment_db is None:
        return None
    by_code, by_environment = code_db > NOTICEABLE_DB, environment_db > NOTICEABLE_DB
    if by_code != by_environment:
        return Cause.CODE if by_code else Cause.ENVIRONMENT
    if by_code or (interaction_db is not None and interaction_db > NOTICEABLE_DB):
        return Cause.BOTH
    return Cause.CODE if code_db > environment_db else Cause.ENVIRONMENT


def _cause_by_order(square: Square) -> Cause:
    """Where no difference in dB is defined: which change alone takes the baseline's figure to this one."""
    first, last = square.old_in_old.figure, square.new_in_new.figure
    for between, before_it, after_it in (
        (square.old_in_new.figure, Cause.ENVIRONMENT, Cause.CODE),
        (square.new_in_old.figure, Cause.CODE, Cause.ENVIRONMENT),
    ):
        if between is None or first is None or last is None:
            continue
        if _as_good(between, first):
            return after_it
        if _as_good(last, between):
            return before_it
    return Cause.UNKNOWN


def _as_good(figure: Figure, other: Figure) -> bool:
    """Whether a figure is no worse than another: exact is best, and no number is as good as its like."""
    if figure.kind is FigureKind.EXACT:
        return True
    if figure.value is None or other.value is None:
        return figure.kind is other.kind
    return other.value - figure.value <= NOTICEABLE_DB


def _sentence(cause: Cause, in_db: dict[str, float | None], note: str | None, *, is_in_db: bool) -> str:
    parts = [f"{name} {db:z.3f} dB" for name, db in in_db.items() if db is not None and is_in_db]
    said = f"{WORDS[cause]}: {', '.join(parts) or 'no difference in dB is defined'}"
    return f"{said}; {note}" if note else said


def _unknown(square: Square) -> str:
    missing = {"the baseline's commit in this environment": square.old_in_new}
    missing["this commit in the baseline's environment"] = square.new_in_old
    nobody = [what + _why(corner) for what, corner in missing.items() if corner.figure is None]
    if nobody:
        return f"not known: nobody has measured {', nor '.join(nobody)}"
    return "not known: the figures between are worse than either end"


def _why(corner: Corner) -> str:
    return f" ({corner.note})" if corner.note else ""
