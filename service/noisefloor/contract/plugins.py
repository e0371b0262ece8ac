"""Plugins that a cell names: what may be code of the job's own repository beside a model that is imported."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from noisefloor.contract.scheme import Quantization
from noisefloor.contract.subject import Subject

Kind = Literal["subject", "flow", "quantizer", "metric"]


class Plugin(NamedTuple):
    """A name with a dot, of the entry points `noisefloor.<kind>s`."""

    kind: Kind
    name: str


def plugins(subject: Subject, scheme: Quantization, metrics: Iterable[str] = ()) -> Iterator[Plugin]:
    """The plugins among the names of a cell.

    >>> scheme = Quantization.model_validate({"flow": "acme.lowbit", "mode": "static"})
    >>> list(plugins(Subject.model_validate({"conformance": "*"}), scheme, ["sqnr_db"]))
    [Plugin(kind='flow', name='acme.lowbit')]
    """
    named: list[tuple[Kind, str | None]] = [
        ("subject", subject.zoo),
        ("flow", scheme.flow),
        ("quantizer", scheme.quantizer),
    ]
    named += [("metric", name) for name in metrics]
    for kind, name in named:
        if name is not None and "." in name:
            yield Plugin(kind, name)


def changes_with_commits(subject: Subject, scheme: Quantization, metrics: Iterable[str] = ()) -> bool:
    """Whether a commit may change what a cell measures: by its model, its files, or a plugin."""
    return subject.is_of_a_commit or any(plugins(subject, scheme, metrics))
