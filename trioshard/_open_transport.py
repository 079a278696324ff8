"""How a transport is opened: dialling, TLS, the time limit, and the sentences that say why there is no connection.

Foreign errors end here and in the transports themselves.
"""

from __future__ import annotations

import functools
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from trioshard import _transport_trio_websocket
from trioshard._groups import sole
from trioshard._tls import TLSStream
from trioshard._transport import Helpers, Line, NoWebSocket, Opening, Refused
from trioshard.errors import ConnectFailed, ConnectionLost, MissingDependency
from trioshard.protocol.url import check_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from websockets.client import ClientProtocol

    from trioshard._transport import Transport

    Dialer = Callable[[str, int], Awaitable[trio.abc.Stream]]

__all__ = ["TRANSPORTS", "Dialer", "default_ssl_context", "dial_tcp", "open_transport", "require_websockets"]

TRANSPORTS: Final = ("auto", "trio-websocket", "websockets")
"""Which WebSocket library; "auto" is ``websockets`` where it is installed."""

CONNECT_TIMEOUT: Final = 30.0
"""Seconds for name lookup, TCP, TLS and the WebSocket handshake together."""

_FOREIGN: Final = (
    Refused,
    NoWebSocket,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


async def dial_tcp(host: str, port: int) -> trio.abc.Stream:
    """Open a TCP connection, by whichever address family answers first."""
    return await trio.open_tcp_stream(host, port)


def _nobody_listens() -> None:
    pass


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """Return the context that verifies certificates and host names, and speaks TLS 1.2 or newer.

    There is one for all shards: loading the system's trust store takes long enough to be felt at each reconnect.
    """
    return ssl.create_default_context()


@asynccontextmanager
async def open_transport(
    url: str,
    *,
    dial: Dialer = dial_tcp,
    ssl_context: ssl.SSLContext | None = None,
    max_message_size: int,
    transport: str = "auto",
    heard: Callable[[], None] = _nobody_listens,
    resting: Callable[[], None] = _nobody_listens,
) -> AsyncGenerator[Transport]:
    """Connect to ``url``, and close the stream in the end, whatever happens.

    ``transport`` is one of `TRANSPORTS`. ``heard`` is called whenever bytes arrive, ``resting`` when they have been made
    use of. Use `Transport.aclose` for a
    goodbye; without it the connection is simply dropped.

    Raises:
        MissingDependency: ``transport="websockets"``, and the package is not installed.
        ConnectFailed: no WebSocket could be opened.
        ConnectionLost: the WebSocket library failed while the body was running.
    """
    upgrade = _find_upgrade(transport)
    line: Line | None = None
    connected = False
    try:
        async with trio.open_nursery() as nursery:
            helpers = Helpers(nursery)
            try:
                with _connecting(url):
                    parts = check_url(url)
                    assert parts.hostname is not None
                    port = parts.port or (443 if parts.scheme == "wss" else 80)
                    line = Line(await dial(parts.hostname, port))
                    stream = line if parts.scheme == "ws" else await _start_tls(line, parts.hostname, ssl_context)
                    line.tolerant = True
                    opened = await upgrade(Opening(helpers, line, stream, parts, max_message_size, heard, resting))
                connected = True
                yield opened
            finally:
                if line is not None:
                    # Shielded: a Cancelled raised in here would take the place of what went wrong.
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(line)
                helpers.end()
    except BaseExceptionGroup as group:
        foreign, own = group.split(_FOREIGN)
        if own is not None:
            raise sole(own) from None
        assert foreign is not None
        cause = sole(foreign)
        if not connected:
            raise _connect_error(url, cause) from cause
        raise ConnectionLost(f"the WebSocket failed: {cause!r}") from cause


def require_websockets() -> type[ClientProtocol]:
    """Import the sans-I/O core of the ``websockets`` package.

    Raises:
        MissingDependency: it is not installed, or too old to have one.
    """
    try:
        from websockets.client import ClientProtocol
    except ImportError as exc:
        raise MissingDependency(
            "transport='websockets' needs the websockets package: pip install 'trioshard[speed]', or choose 'auto'"
        ) from exc
    return ClientProtocol


def _find_upgrade(transport: str) -> Callable[[Opening], Awaitable[Transport]]:
    """Return what makes a WebSocket of a stream."""
    if transport == "trio-websocket":
        return _transport_trio_websocket.upgrade
    try:
        require_websockets()
    except MissingDependency:
        if transport == "auto":
            return _transport_trio_websocket.upgrade
        raise
    # Imported here: it needs a package that is not always there.
    from trioshard._transport_websockets import upgrade

    return upgrade


@contextmanager
def _connecting(url: str) -> Generator[None]:
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            yield
    except trio.TooSlowError:
        raise ConnectFailed(f"{_origin(url)} did not answer within {CONNECT_TIMEOUT:g} s") from None
    except _FOREIGN as exc:
        raise _connect_error(url, exc) from exc
    except ValueError as exc:  # a URL or a host name that is none; UnicodeError is one, too
        raise ConnectFailed(f"cannot connect to {url!r}: {exc}", permanent=True) from exc


async def _start_tls(line: Line, hostname: str, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    stream = TLSStream(line, ssl_context or default_ssl_context(), server_hostname=hostname)
    await stream.do_handshake()
    return stream


def _origin(url: str) -> str:
    parts = check_url(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _connect_error(url: str, cause: BaseException) -> ConnectFailed:
    """Say in a sentence why there is no connection, and whether waiting can help."""
    origin = _origin(url)
    tls_error = cause if isinstance(cause, ssl.SSLError) else cause.__cause__
    match cause:
        case _ if isinstance(tls_error, ssl.SSLCertVerificationError):
            return ConnectFailed(
                f"the certificate of {origin} does not verify: {tls_error.verify_message}."
                " If it is your own, pass an ssl_context= that trusts it",
                permanent=True,
            )
        case _ if isinstance(tls_error, ssl.SSLError):
            return ConnectFailed(f"{origin} does not speak TLS as expected: {tls_error}")
        case Refused():
            # What a wrong address answers stays as it is; an overloaded gateway recovers.
            permanent = cause.status_code < 500 and cause.status_code not in (408, 425, 429)
            return ConnectFailed(
                f"{origin} is no gateway, or refuses: it answered the WebSocket request with HTTP {cause.status_code}",
                permanent=permanent,
            )
        case NoWebSocket() | ProtocolError() | h11.ProtocolError():
            return ConnectFailed(f"{origin} is no gateway: it does not speak WebSocket ({cause})", permanent=True)
        case _:
            return ConnectFailed(f"{origin} cannot be reached: {str(cause) or type(cause).__name__}")
