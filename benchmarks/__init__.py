"""What measures size, speed and memory; every file is a program: `python -m benchmarks.<name>`."""
