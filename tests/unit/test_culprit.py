"""The layer to look at first."""

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.gate.culprit import culprit


def report(**local_db: float | None) -> LayerReport:
    """Layers with these errors of their own; None is exact. All have the same share."""
    layers = tuple(
        Layer(
            name=name,
            kind="Linear",
            cumulative=Figure.finite(20.0),
            local=Figure.finite(db) if db is not None else Figure.of(FigureKind.EXACT),
            share=None if db is None else 10 ** (-db / 10),
        )
        for name, db in local_db.items()
    )
    return LayerReport(edge="float32->true", layers=layers)


def test_the_layer_that_lost_most_comes_before_the_noisiest() -> None:
    found = culprit(report(a=20.0, b=38.0, c=41.0), report(a=20.0, b=41.0, c=42.0))
    assert found is not None
    assert (found.layer.name, found.drop_db) == ("b", 3.0)
    assert found.was is not None
    assert str(found.was.local) == "41.000"


def test_without_a_loss_it_is_the_noisiest() -> None:
    for before in (None, report(a=20.0, b=30.0), report(other=50.0), report(a=20.04, b=30.0)):
        found = culprit(report(a=20.0, b=30.0), before)
        assert found is not None
        assert (found.layer.name, found.drop_db) == ("a", None)


def test_the_layer_at_which_no_numbers_begin_comes_before_any_loss() -> None:
    whole = report(a=20.0, b=38.0, c=30.0)
    broken = whole.layers[1].replace(local=Figure.of(FigureKind.NONFINITE), share=None)
    found = culprit(
        whole.replace(layers=(whole.layers[0], broken, whole.layers[2])), report(a=40.0, b=41.0, c=42.0)
    )
    assert found is not None
    assert str(found) == "b (Linear) is the first layer whose output has NaN or infinite elements"


def test_there_is_none_where_nothing_is_known_or_nothing_is_wrong() -> None:
    assert culprit(report(), report(a=30.0)) is None
    assert culprit(report(a=None), None) is None
