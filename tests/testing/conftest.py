"""Every test of the gateway has a time limit of its own, in real seconds."""

import faulthandler

import pytest


@pytest.fixture(autouse=True)
def time_limit():
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
