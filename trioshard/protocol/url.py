"""Where to connect: the query parameters that every gateway URL carries.

Source: *Gateway*, connecting. The query is always built anew: Discord does not say whether the resume URL
comes with one.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlencode, urlsplit

from trioshard.protocol.compression import TRANSPORT_COMPRESSIONS
from trioshard.protocol.opcodes import API_VERSION

__all__ = ["check_url", "connection_url"]


def connection_url(base: str, *, compress: str | None, encoding: str = "json") -> str:
    """Return ``base`` with version, encoding and transport compression as its query."""
    query = {"v": str(API_VERSION), "encoding": encoding}
    if compress in TRANSPORT_COMPRESSIONS:
        query["compress"] = compress
    return urlsplit(base)._replace(path=urlsplit(base).path or "/", query=urlencode(query), fragment="").geturl()


def is_url(url: str) -> bool:
    """Return whether `check_url` accepts this."""
    try:
        check_url(url)
    except ValueError:
        return False
    return True


def check_url(url: str) -> SplitResult:
    """Return the parts of a gateway URL.

    Raises:
        ValueError: it is not a ``ws://`` or ``wss://`` URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"a gateway URL looks like wss://gateway.discord.gg, not {url!r}")
    _ = parts.port  # raises ValueError itself when it is no number
    return parts
