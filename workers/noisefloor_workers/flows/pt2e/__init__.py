"""PT2E on torchao: `flow` is the way through; what it needs stands beside it."""
