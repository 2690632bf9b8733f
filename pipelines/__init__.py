"""Compositions of components. `python -m pipelines` compiles each to the YAML beside it."""
