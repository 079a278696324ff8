"""What every test run has in common: property tests draw the same examples each time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("trioshard", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("trioshard")
