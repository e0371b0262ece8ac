"""What operators see of a process: its log, its metrics, its traces. Knows neither store nor workflow."""
