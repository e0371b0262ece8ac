"""The verbs that need torch, contributed to the command line through an entry point group."""
