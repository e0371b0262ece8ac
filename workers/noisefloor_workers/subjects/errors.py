"""What can be wrong with a subject before anything is measured."""

from torch import nn


class SubjectError(Exception):
    """The subject cannot be loaded as it is described."""


class ImportRefusedError(SubjectError):
    """The import path lies outside the prefixes that this worker allows."""


class NonfiniteInputsError(SubjectError):
    """The inputs hold NaN or infinity: no figure could come of them."""


class FileRefusedError(SubjectError):
    """A file of tensors is not there, not below the folder, not what its digest says, or not readable."""


class OtherFilesError(SubjectError):
    """The worker's own files are of another commit than the job's: no figure of them is that commit's."""


def require_module(source: str, model: object) -> nn.Module:
    """What a source returned, if it is a model."""
    if not isinstance(model, nn.Module):
        raise SubjectError(f"{source} returned {type(model).__name__}, not a torch.nn.Module")
    return model
