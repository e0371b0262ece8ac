"""Models from the user's own code, by import path, where the worker allows it."""

import importlib
from collections.abc import Iterable, Mapping

from torch import nn

from noisefloor_workers.subjects.errors import ImportRefusedError, SubjectError, require_module


def build(path: str, args: Mapping[str, bool | float | str], import_allow: Iterable[str]) -> nn.Module:
    """Call `package.module:factory(**args)`, if the module equals or lies below an allowed prefix.

    What the module or the factory raises is the user's own and comes out as it is.
    """
    module_name, _, factory_name = path.partition(":")
    allowed = tuple(import_allow)
    if not any(module_name == prefix or module_name.startswith(f"{prefix}.") for prefix in allowed):
        raise ImportRefusedError(
            f"{module_name!r} is not at or below an allowed prefix; allowed: {', '.join(allowed) or 'none'}"
        )
    factory = getattr(importlib.import_module(module_name), factory_name, None)
    if not callable(factory):
        raise SubjectError(f"module {module_name!r} has no callable {factory_name!r}")
    return require_module(path, factory(**args))
