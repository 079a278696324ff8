"""A certificate made for the run, and the two ends that trust each other by it."""

from __future__ import annotations

import ssl

from trioshard._soak.proxy import HOST

__all__ = ["make_contexts"]


def make_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the gateway's context and the bot's.

    Raises:
        ImportError: ``trustme`` is not installed.
    """
    import trustme  # an extra

    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority = trustme.CA()
    authority.issue_cert(HOST).configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client
