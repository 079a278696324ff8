"""TCP and TLS: how a stream to one host is opened, and the sentences that say why there is none."""

from __future__ import annotations

import functools
import socket
import ssl
from typing import Final

import trio

from trioshard._tls import TLSStream
from trioshard.errors import ConnectFailed

__all__ = ["connect_failed", "default_ssl_context", "dial_tcp", "drop", "start_tls"]

_NOT_VALID_NOW: Final = (9, 10)
"""What OpenSSL says of a certificate whose time has not come, or is over."""


async def dial_tcp(host: str, port: int) -> trio.abc.Stream:
    """Open a TCP connection, by whichever address family answers first."""
    return await trio.open_tcp_stream(host, port)


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """Return the context that verifies certificates and host names, and speaks TLS 1.2 or newer.

    There is one for all shards: loading the system's trust store takes long enough to be felt at each reconnect.
    """
    return ssl.create_default_context()


async def start_tls(stream: trio.abc.Stream, hostname: str, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    """Speak TLS on a stream, with whom the certificate names ``hostname``. ``None`` is the system's trust store."""
    tls = TLSStream(stream, ssl_context or default_ssl_context(), server_hostname=hostname)
    await tls.do_handshake()
    return tls


async def drop(stream: trio.abc.Stream) -> None:
    """Close a stream at once, also when cancelled: a Cancelled raised in here would hide what went wrong."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


def connect_failed(origin: str, cause: BaseException, *, own_context: bool) -> ConnectFailed:
    """Say in a sentence why there is no stream to ``origin``, and whether waiting can help.

    ``own_context`` tells whether the certificate was to verify against something else than the system's trust store.
    """
    tls_error = cause if isinstance(cause, ssl.SSLError) else cause.__cause__
    if isinstance(tls_error, ssl.SSLCertVerificationError):
        return _unverified(origin, tls_error, own_context=own_context)
    if isinstance(tls_error, ssl.SSLError):
        return ConnectFailed(f"{origin} does not speak TLS as expected: {tls_error}")
    if isinstance(cause, socket.gaierror):
        return ConnectFailed(
            f"{origin} cannot be reached: its name does not resolve ({cause.strerror}). Check how it is spelled, and"
            " this machine's name server"
        )
    return ConnectFailed(f"{origin} cannot be reached: {str(cause) or type(cause).__name__}")


def _unverified(origin: str, error: ssl.SSLCertVerificationError, *, own_context: bool) -> ConnectFailed:
    what = f"the certificate of {origin} does not verify: {error.verify_message}."
    if error.verify_code in _NOT_VALID_NOW:
        return ConnectFailed(f"{what} Check this machine's clock")
    if own_context:
        return ConnectFailed(f"{what} If it is your own, pass an ssl_context= that trusts it", permanent=True)
    return ConnectFailed(
        f"{what} Perhaps somebody else answered: a captive portal, or a proxy that reads along. The token was not sent."
        " Log in to the network; if the certificate is your own, pass an ssl_context= that trusts it"
    )
