"""Parts of benchmarks/gate.py."""
