"""Compound systems that the benchmark programs measure, beside examples/quickstart."""
