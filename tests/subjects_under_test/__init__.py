"""Models that tests import by path, in this process and in runners' children."""
