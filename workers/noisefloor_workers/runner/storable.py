"""Text that any store takes: no NUL, no lone surrogate, no more than it has room for."""

import traceback

REASON_BYTES = 2048
TAIL_BYTES = 16_384


def storable(text: str, *, keep_tail_bytes: int = TAIL_BYTES) -> str:
    r"""The end of a text, as valid UTF-8 without NUL.

    >>> storable("a\x00b\udc80c", keep_tail_bytes=3)
    'b?c'
    """
    encoded = text.replace("\x00", "").encode("utf-8", "replace")
    return encoded[-keep_tail_bytes:].decode("utf-8", "ignore")


def reason(error: BaseException) -> str:
    """`note: ExcType: message`, cut at its end; an exception without a message is named all the same."""
    try:
        message = str(error)
    except BaseException as unprintable:  # noqa: BLE001 - the exception is a model's own, with its own __str__
        message = f"<its message raises {type(unprintable).__name__}>"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    text = ": ".join([*notes[:1], text])
    return storable(
        storable(text, keep_tail_bytes=len(text) * 4).encode()[:REASON_BYTES].decode("utf-8", "ignore")
    )


def full_traceback(error: BaseException) -> str:
    """The traceback with its causes; the tail where it is too long, which is where the fault is."""
    try:
        return storable("".join(traceback.format_exception(error)))
    except BaseException as unprintable:  # noqa: BLE001 - as above, for causes and notes
        return f"<its traceback raises {type(unprintable).__name__}>"
