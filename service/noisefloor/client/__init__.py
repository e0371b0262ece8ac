"""The typed HTTP client, for the command line and for users."""

from noisefloor.client.http import Client

__all__ = ["Client"]
