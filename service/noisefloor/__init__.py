"""Noisefloor: a numerical accuracy regression service for quantized PyTorch models."""
