"""Measurements of size, speed and memory; each file a program: `python -m benchmarks.<name>`."""
