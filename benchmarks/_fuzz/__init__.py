"""What benchmarks/fuzz.py is made of: inputs gone wrong, the readers they are given to, and the judge of what came of it."""
