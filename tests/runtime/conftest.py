"""The runtime on each of the two transports."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(params=["websockets", "trio-websocket"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: with the ``websockets`` package, and as if it were not installed."""
    transport: str = request.param
    if transport == "trio-websocket":
        monkeypatch.setitem(sys.modules, "websockets.client", None)
    return transport
