"""The parts of torchao that PT2E is made of, imported in one place: the import itself has to be held."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from torch._inductor import config as inductor_config

from noisefloor_workers.flows.protocol import Unsupported

# Inductor reads it when it is first imported, and starts processes of its own unless it is 1: a runner's
# child is one process, with a limit on its memory.
inductor_config.compile_threads = 1

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*script_method", category=DeprecationWarning)  # torch's own
    from torchao.quantization import pt2e
    from torchao.quantization.pt2e import quantize_pt2e
    from torchao.quantization.pt2e import quantizer as quantizers
    from torchao.quantization.pt2e.constant_fold import constant_fold
    from torchao.quantization.pt2e.quantizer import arm_inductor_quantizer as arm
    from torchao.quantization.pt2e.quantizer import embedding_quantizer as embedding
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

ANNOTATION = quantizers.quantizer.Q_ANNOTATION_KEY
SILENCED = (
    (FutureWarning, ".*LeafSpec"),  # torch copies its own graphs by what it deprecates
    (UserWarning, "must run observer before"),  # an error here: see `pt2e._require_sound`
    (DeprecationWarning, "read_binary"),  # executorch's own, as it writes its schema
    (UserWarning, "dynamo_pgo force disabled"),  # where another flow keeps torch from its caches
    (UserWarning, "To copy construct from a tensor"),  # torch's own, on scales
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch and torchao say of themselves while the flow uses them."""
    with warnings.catch_warnings():
        for category, message in SILENCED:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


def executorch(module: str, needed_by: str) -> Any:
    """A module of executorch, which is an extra; Unsupported where it is missing, saying for what."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of itself while it is imported
            return import_module(f"executorch.{module}")
    except ImportError as error:
        raise Unsupported(
            f"{needed_by} needs executorch: install noisefloor[executorch] ({error})"
        ) from error


__all__ = [
    "ANNOTATION",
    "arm",
    "constant_fold",
    "embedding",
    "executorch",
    "inductor_config",
    "pt2e",
    "quantize_pt2e",
    "quantizers",
    "quiet",
    "x86",
]
