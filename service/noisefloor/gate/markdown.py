"""Text and commands in Markdown, as GitHub reads it. Names come from users' models."""

from itertools import groupby

COMMAND_LENGTH = 4_000  # what is longer is no command that anybody copies


def escaped(text: str) -> str:
    r"""Text that Markdown would take for itself, on one line.

    >>> escaped("a|b <c>")
    'a\\|b \\<c\\>'
    """
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|@!&~" else c for c in " ".join(text.split()))


def fenced(command: str) -> str | None:
    """A command as a block that its own backticks do not end; None where it is too long."""
    if len(command) > COMMAND_LENGTH:
        return None
    longest = max((len(list(run)) for character, run in groupby(command) if character == "`"), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{command}\n{fence}"
