"""Each test of a transport runs on both."""

from __future__ import annotations

import ssl

import pytest
import trustme

from tests.transport.peer import Tls


@pytest.fixture(params=["websockets", "trio-websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """The names of both, one after the other."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def certificates() -> Tls:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(client)
    authority.issue_cert("gateway.test").configure_cert(server)
    return Tls(client, server)


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificates: Tls) -> Tls | None:
    """For tests that run without and with TLS."""
    return certificates if request.param == "tls" else None
