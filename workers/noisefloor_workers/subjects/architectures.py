"""Small real architectures: `transformers` builds them from a config with random weights, without a download.

Attention is transformers' own eager form, which is deterministic, and no cache is given out.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.subjects.errors import SubjectError

MAJOR_VERSION = "5"
EXTRA = "noisefloor[transformers]"
CLASSES = 10
FIXED = {"attn_implementation": "eager", "use_cache": False}


class Architecture(NamedTuple):
    """The classes of transformers, and the config's fields that make the model tiny."""

    config: str
    model: str
    tiny: Mapping[str, Any]


TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(
        "BertConfig",
        "BertForSequenceClassification",
        {"vocab_size": 128, "max_position_embeddings": 64, "num_labels": CLASSES, **TRANSFORMER},
    ),
    "gpt2": Architecture(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": 128,
            "n_positions": 64,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "bos_token_id": None,  # its own is beyond the vocabulary
            "eos_token_id": None,
        },
    ),
    "vit": Architecture(
        "ViTConfig",
        "ViTForImageClassification",
        {"image_size": 32, "patch_size": 8, "num_labels": CLASSES, **TRANSFORMER},
    ),
    "resnet": Architecture(
        "ResNetConfig",
        "ResNetForImageClassification",
        {
            "embedding_size": 16,
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "layer_type": "basic",
            "num_labels": CLASSES,
        },
    ),
    "mobilenet-v2": Architecture(
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        {"image_size": 32, "depth_multiplier": 0.35, "num_labels": CLASSES},
    ),
}


def build(name: str, args: Mapping[str, bool | float | str]) -> nn.Module:
    """The architecture, tiny but for the config fields that `args` gives.

    Raises SubjectError for a field that the config has not, and Unsupported where transformers is missing.
    """
    transformers = _transformers(name)
    architecture = ARCHITECTURES[name]
    config = getattr(transformers, architecture.config)
    # transformers would take any name, and keep it without a use
    accepted = {"num_labels", *(field.name for field in dataclasses.fields(config))} - FIXED.keys()
    for field in args:
        if field not in accepted:
            near = ", ".join(difflib.get_close_matches(field, accepted)) or ", ".join(architecture.tiny)
            raise SubjectError(f"{name}: {architecture.config} has no field {field!r} to set; it has: {near}")
    model: nn.Module = getattr(transformers, architecture.model)(
        config(**{**architecture.tiny, **args, **FIXED})
    )
    return model


def _transformers(name: str) -> Any:
    """The library: it takes seconds to import, and is typed in part only."""
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise Unsupported(f"subject {name} needs transformers: pip install '{EXTRA}'") from error
    if transformers.__version__.partition(".")[0] != MAJOR_VERSION:
        raise Unsupported(
            f"subject {name} needs transformers {MAJOR_VERSION}, not {transformers.__version__}: "
            f"pip install '{EXTRA}'"
        )
    return transformers
