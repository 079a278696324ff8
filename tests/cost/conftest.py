"""The transports, and TLS, as the tests of the transports have them."""

from __future__ import annotations

from tests.transport.conftest import certificates, tls, transport

__all__ = ["certificates", "tls", "transport"]
