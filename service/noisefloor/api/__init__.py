"""The REST front: parse, call one verb, answer."""
