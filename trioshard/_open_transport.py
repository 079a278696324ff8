"""How a transport is opened: the time limit, and the sentences that say why there is no WebSocket.

Foreign errors end here and in the transports themselves.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from trioshard import _transport_trio_websocket
from trioshard._groups import sole
from trioshard._http1 import looks_intercepted, waiting_helps
from trioshard._proxies import origin_of, port_of
from trioshard._streams import connect_failed, dial_tcp, start_tls
from trioshard._transport import Helpers, Line, NoWebSocket, Opening, Refused
from trioshard.errors import ConnectFailed, ConnectionLost, MissingDependency
from trioshard.protocol.url import check_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from websockets.client import ClientProtocol

    from trioshard._dial import Dialer
    from trioshard._transport import Transport

__all__ = ["TRANSPORTS", "open_transport", "require_websockets"]

TRANSPORTS: Final = ("auto", "trio-websocket", "websockets")
"""Which WebSocket library; "auto" is ``websockets`` where it is installed."""

CONNECT_TIMEOUT: Final = 30.0
"""Seconds for name lookup, TCP, a proxy, TLS and the WebSocket handshake together."""

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


def _nobody_listens() -> None:
    pass


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

    ``ssl_context`` says how to verify the gateway; ``None`` is the system's trust store.
    ``transport`` is one of `TRANSPORTS`. ``heard`` is called whenever bytes arrive, ``resting`` when they have been
    made use of. Use `Transport.aclose` for a goodbye; without it the connection is simply dropped.

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
                with _connecting(url, own_context=ssl_context is not None):
                    parts = check_url(url)
                    assert parts.hostname is not None
                    line = Line(await dial(parts.hostname, port_of(parts)))
                    stream = line if parts.scheme == "ws" else await start_tls(line, parts.hostname, ssl_context)
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
            raise _connect_error(url, cause, own_context=ssl_context is not None) from cause
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
def _connecting(url: str, *, own_context: bool) -> Generator[None]:
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            yield
    except trio.TooSlowError:
        raise ConnectFailed(f"{origin_of(url)} did not answer within {CONNECT_TIMEOUT:g} s") from None
    except _FOREIGN as exc:
        raise _connect_error(url, exc, own_context=own_context) from exc
    except ValueError as exc:  # a URL or a host name that is none; UnicodeError is one, too
        raise ConnectFailed(f"cannot connect to {url!r}: {exc}", permanent=True) from exc


def _connect_error(url: str, cause: BaseException, *, own_context: bool) -> ConnectFailed:
    """Say in a sentence why there is no connection, and whether waiting can help."""
    origin = origin_of(url)
    match cause:
        case Refused(status_code=status):
            portal = "; perhaps a captive portal or a proxy answered: log in to the network"
            return ConnectFailed(
                f"{origin} is no gateway, or refuses: it answered the WebSocket request with HTTP {status}"
                + (portal if looks_intercepted(status) else ""),
                permanent=not waiting_helps(status),
            )
        case NoWebSocket() | ProtocolError() | h11.ProtocolError():
            return ConnectFailed(f"{origin} is no gateway: it does not speak WebSocket ({cause})", permanent=True)
        case _:
            return connect_failed(origin, cause, own_context=own_context)
