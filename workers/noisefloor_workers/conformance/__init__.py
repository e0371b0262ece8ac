"""Quantized kernels of torch, held against exact integer arithmetic."""
