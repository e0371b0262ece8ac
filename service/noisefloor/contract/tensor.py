"""What is said of a tensor wherever one is described."""

from typing import Annotated

from pydantic import Field

Size = Annotated[int, Field(ge=1, le=2**40)]
Shape = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]

FLOAT32_BYTES, INT64_BYTES = 4, 8
