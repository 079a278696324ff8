"""No test goes through a proxy of the machine it runs on."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import pytest
import trustme


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Certificates:
    """``client`` trusts what ``server`` shows: a certificate for gateway.test, api.test and localhost."""

    client: ssl.SSLContext
    server: ssl.SSLContext
    proxy: ssl.SSLContext
    """One for 127.0.0.1, of the same authority."""


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server, proxy = (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) for _ in range(2))
    authority.issue_cert("gateway.test", "api.test", "localhost").configure_cert(server)
    authority.issue_cert("127.0.0.1").configure_cert(proxy)
    return Certificates(client, server, proxy)
