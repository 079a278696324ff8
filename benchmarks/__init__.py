"""Measure trioshard beside other gateway clients: ``python -m benchmarks --help``."""
