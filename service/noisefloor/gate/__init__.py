"""Judging: values in, verdict out. No clock, no database, no settings."""
