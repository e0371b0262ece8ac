"""The typed HTTP client, for the command line and for users."""

from noisefloor.client.http import Client, RefusedError

__all__ = ["Client", "RefusedError"]
