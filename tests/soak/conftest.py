"""What several tests of the soak need."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def unused_port():
    """A port at which nobody listens."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]
