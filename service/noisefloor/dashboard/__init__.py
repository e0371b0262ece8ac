"""Server-rendered pages: they only read, and say everything without JavaScript."""
