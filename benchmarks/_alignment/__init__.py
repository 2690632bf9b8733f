"""The parts of benchmarks/alignment.py: the measured matrix, fits on it, orders of an iteration played on it, tables."""
