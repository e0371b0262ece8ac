"""Tensors from safetensors files below the folder that the operator names. Nothing is ever unpickled."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from noisefloor.contract.subject import Inputs, Stage, Weights
from noisefloor_workers.subjects.errors import FileRefusedError, NonfiniteInputsError
from noisefloor_workers.subjects.inputs import ModelInputs

SETTING = "NOISEFLOOR_FILES"
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """What a file holds, and the SHA-256 of its bytes in hex."""

    tensors: dict[str, torch.Tensor]
    sha256: str


def read(source: Inputs | Weights, folder: Path | None) -> TensorFile:
    """The file that `source` names, below `folder`; its content must match the digest, if one is given.

    It is read, not mapped: a mapped file that is cut short meanwhile kills the process, and one read too
    large ends as a failed allocation under the process's limit.
    """
    name = source.safetensors or ""
    path = below(folder, name)
    try:
        before = _version(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, hashlib.sha256).hexdigest()
        if source.sha256 not in {None, sha256}:
            raise FileRefusedError(f"{name} has sha256 {sha256}; the job says {source.sha256}")
        with safe_open(path, framework="pt", backend="pread") as opened:
            tensors: dict[str, torch.Tensor] = opened.get_tensors()
        if _version(path) != before:
            raise FileRefusedError(f"{name} changed while it was read")
    except OSError as error:
        raise FileRefusedError(f"{name} cannot be read: {error}") from error
    except SafetensorError as error:
        raise FileRefusedError(f"{name} is not a safetensors file that torch can hold: {error}") from error
    return TensorFile(tensors=tensors, sha256=sha256)


def _version(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def inputs(source: Inputs, stage: Stage, folder: Path | None) -> ModelInputs:
    """The tensors of a file as a model's inputs: 0, 1, … by position, others by name.

    Floating point comes as float32, integers and bools as they are; the first dimension is the batch.
    """
    name, tensors = source.safetensors, read(source, folder).tensors
    positional = sorted((key for key in tensors if key.isascii() and key.isdigit()), key=int)
    if not tensors or positional != [str(number) for number in range(len(positional))]:
        held = ", ".join(sorted(tensors)[:SHOWN]) or "nothing"
        raise FileRefusedError(f"{name} holds {held}; positional inputs are 0, 1, … without a gap")
    found = {key: _input(f"{name}: {key}", tensors[key], source, stage) for key in sorted(tensors)}
    return ModelInputs(
        args=tuple(found.pop(key) for key in positional),
        kwargs=found,
    )


def _input(place: str, tensor: torch.Tensor, source: Inputs, stage: Stage) -> torch.Tensor:
    if tensor.ndim == 0 or len(tensor) != source.batch:
        raise FileRefusedError(
            f"{place} has shape {list(tensor.shape)}; its first dimension is the batch, {source.batch}"
        )
    if tensor.is_complex():
        raise FileRefusedError(f"{place} is {tensor.dtype}; inputs are floating point, integers or bools")
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.float32)
    if not torch.isfinite(tensor).all():
        raise NonfiniteInputsError(f"{stage} data hold NaN or infinity in float32: {place}")
    return tensor


def below(folder: Path | None, name: str) -> Path:
    """The regular file of this name, after links are followed, if it lies below the folder."""
    if folder is None:
        raise FileRefusedError(f"{name} is a file, and {SETTING} names no folder for files")
    root = folder.resolve()
    if not root.is_dir():
        raise FileRefusedError(f"{SETTING} names {folder}, which is no folder here")
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise FileRefusedError(f"{name} lies outside {folder} ({SETTING})")
    if not path.is_file():
        raise FileRefusedError(f"{name} is no file below {folder} ({SETTING})")
    return path
