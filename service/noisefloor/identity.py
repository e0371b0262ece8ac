"""Public identities: how series, environments and requests are told apart. Versioned; pinned by golden tests.

Keys are BLAKE2b-128 in hex over canonical JSON. Fields that have their default value are left out of the
JSON, so that a field added later, with a default that means what was done before, moves no key.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Environment, Metric
from noisefloor.contract.scheme import Edge, Quantization
from noisefloor.contract.subject import Subject

SERIES_VERSION = 1
CELL_PARTS = ("v", "project", "subject", "quantization", "engine", "device", "isa")


def digest(data: bytes) -> str:
    """BLAKE2b-128 in hex: 32 characters."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def derived_id(project: str, given: str) -> str:
    """The id under which something of another project is kept in this one; it sorts as the given one does."""
    return given[:14] + digest(f"{project}/{given}".encode())[:12]


def canonical(value: Any) -> bytes:
    r"""JSON with sorted keys and no spaces, in UTF-8.

    >>> canonical({"b": 1, "a": "é"})
    b'{"a":"\xc3\xa9","b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _identifying(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def series_identity(
    *,
    project: str,
    subject: Subject,
    quantization: Quantization,
    edge: Edge,
    lane: Lane,
    metric: Metric,
    place: str,
) -> dict[str, Any]:
    """What makes measurements comparable over time.

    Threads are part of the environment, and the commit is what a series runs over: neither is in it.
    """
    return {
        **cell_identity(project=project, subject=subject, quantization=quantization, lane=lane),
        "edge": edge,
        "batch": subject.batch,
        "metric": metric,
        "place": place,
    }


def cell_identity(
    *, project: str, subject: Subject, quantization: Quantization, lane: Lane
) -> dict[str, Any]:
    """What the series of one cell share: cells of other jobs that have it continue the same lines."""
    return {
        "v": SERIES_VERSION,
        "project": project,
        "subject": _identifying(subject),
        "quantization": _identifying(quantization),
        "engine": lane.engine,
        "device": lane.device,
        "isa": lane.isa,
    }


def series_key(identity: dict[str, Any]) -> str:
    """The key of a series."""
    return digest(canonical(identity))


def cell_key(identity: dict[str, Any]) -> str:
    """The key of what the series of a cell share, of the cell's identity or of that of any of its series."""
    return digest(canonical({name: identity[name] for name in CELL_PARTS}))


def environment_key(environment: Environment) -> str:
    """The key of an environment."""
    return digest(canonical(_identifying(environment)))
