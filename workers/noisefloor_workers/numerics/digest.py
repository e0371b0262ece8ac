"""The digest of an output: equal bytes, equal digest."""

import ctypes
import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from noisefloor_workers.numerics.comparable import plain
from noisefloor_workers.numerics.leaves import Leaf

DIGEST_BYTES = 16


def raw_bytes(tensor: Tensor) -> Tensor:
    """The tensor's bytes, in row-major order of its elements: uint8, shape (elements, bytes of one)."""
    dense = plain(tensor).contiguous()
    return dense.reshape(-1).view(torch.uint8).reshape(dense.numel(), dense.element_size())


def output_digest(leaves: Iterable[tuple[str, Leaf]]) -> str:
    """blake2b over path, dtype, shape and raw bytes of every leaf, as 32 hexadecimal digits.

    It tells -0.0 from 0.0, and one NaN from another. A quantized tensor is digested as dequantized.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for place, leaf in leaves:
        if not isinstance(leaf, Tensor):
            digest.update(repr((place, leaf)).encode())
            continue
        digest.update(repr((place, str(plain(leaf).dtype), tuple(leaf.shape))).encode())
        content = raw_bytes(leaf)
        if content.numel():
            # Read in place: torch's own way to bytes needs numpy, which torch does not require.
            digest.update((ctypes.c_char * content.numel()).from_address(content.data_ptr()))
    return digest.hexdigest()
