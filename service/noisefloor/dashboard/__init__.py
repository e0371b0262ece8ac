"""Server-rendered pages: they only read, and need no JavaScript."""
