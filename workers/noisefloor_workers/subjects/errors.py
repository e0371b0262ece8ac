"""What can be wrong with a subject before anything is measured."""


class SubjectError(Exception):
    """The subject cannot be loaded as it is described."""


class ImportRefusedError(SubjectError):
    """The import path lies outside the prefixes that this worker allows."""


class NonfiniteInputsError(SubjectError):
    """The generated inputs hold NaN or infinity: no figure could come of them."""
