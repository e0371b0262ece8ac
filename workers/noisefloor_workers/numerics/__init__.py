"""The measuring instrument: sums, spread and typed comparisons of model outputs."""
