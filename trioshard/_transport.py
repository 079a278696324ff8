"""The WebSocket behind a handful of methods. Foreign errors are translated here, and nowhere else.

A transport hands over *batches* of messages, so that a fast one need not wake the reader for each; this one,
on trio-websocket, has one message at a time to give.

Three things that trio-websocket leaves to its caller are done by `_Tap`, the stream it is given:

- A peer that hangs up in the middle of the opening handshake would be waited for until the time limit.
- When a write breaks, the library stops reading; but the reason, a close frame with a code, may lie unread
  in the socket. The tap notes the broken write and lets the reader find out.
- When a write is cancelled half-way, the stream is poisoned: no further frame may follow, not even a pong.
"""

from __future__ import annotations

import functools
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from trioshard._groups import sole
from trioshard.errors import ConnectFailed, ConnectionClosed, ConnectionLost, GatewayProtocolError
from trioshard.protocol.url import check_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    Dialer = Callable[[str, int], Awaitable[trio.abc.Stream]]

__all__ = ["Dialer", "Transport", "default_ssl_context", "open_transport"]

CONNECT_TIMEOUT: Final = 30.0
"""Seconds for name lookup, TCP, TLS and the WebSocket handshake together."""

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a closing handshake may take. The peer may be gone, and we have what we need."""

RECEIVE_BUFFER: Final = 65536
MESSAGE_QUEUE: Final = 256

_NO_CODE: Final = frozenset({1005, 1006})
_LOCAL_VERDICTS: Final = frozenset({1002, 1007, 1009})
"""What the WebSocket library closes with when it cannot make sense of the stream, or a message is too long."""

_FOREIGN: Final = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class Transport(Protocol):
    """One open WebSocket, as the connection needs it."""

    async def receive_batch(self) -> list[bytes | str]:
        """Wait for messages; return every complete one that is there, at least one.

        Raises:
            ConnectionClosed: the peer sent a close frame.
            ConnectionLost: it ended without one.
            GatewayProtocolError: the stream makes no sense, or a message is too long.
        """
        ...

    async def send(self, document: bytes) -> None:
        """Write one text message, whole. When cancelled half-way, the transport is unusable.

        Raises:
            ConnectionLost: the message did not get through.
        """
        ...

    def close_seen(self) -> ConnectionClosed | None:
        """Return the peer's close frame, if one has been read."""
        ...

    async def aclose(self, code: int) -> None:
        """Say goodbye with this close code, if the stream still allows it. Takes at most `CLOSE_TIMEOUT`."""
        ...


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
    heard: Callable[[], None] = _nobody_listens,
) -> AsyncGenerator[Transport]:
    """Connect to ``url``, and close the stream in the end, whatever happens.

    ``heard`` is called whenever bytes arrive. Use `Transport.aclose` for a goodbye; without it the connection is
    simply dropped.

    Raises:
        ConnectFailed: no WebSocket could be opened.
        ConnectionLost: the WebSocket library failed while the body was running.
    """
    tap: _Tap | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                with _connecting(url):
                    tap = _Tap(await _open_stream(url, dial, ssl_context), heard)
                    websocket = await _upgrade(nursery, tap, url, max_message_size)
                yield _TrioWebsocketTransport(websocket, tap)
            finally:
                if tap is not None:
                    # Shielded: a Cancelled raised in here would take the place of what went wrong.
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(tap.stream)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        foreign, own = group.split(_FOREIGN)
        if own is not None:
            raise sole(own) from None
        assert foreign is not None
        cause = sole(foreign)
        if tap is None or tap.handshaking:
            raise _connect_error(url, cause) from cause
        raise ConnectionLost(f"the WebSocket failed: {cause!r}") from cause


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


async def _open_stream(url: str, dial: Dialer, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    parts = check_url(url)
    assert parts.hostname is not None
    stream = await dial(parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80))
    if parts.scheme == "ws":
        return stream
    tls = trio.SSLStream(
        stream,
        ssl_context or default_ssl_context(),
        server_hostname=parts.hostname,
        https_compatible=True,
    )
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return tls


async def _upgrade(
    nursery: trio.Nursery, tap: _Tap, url: str, max_message_size: int
) -> trio_websocket.WebSocketConnection:
    parts = check_url(url)
    host = parts.netloc.rpartition("@")[2]
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    websocket = await trio_websocket.wrap_client_stream(
        nursery,
        tap,  # type: ignore[arg-type]  # annotated as sockets only; the docstring says any stream
        host,
        target,
        message_queue_size=MESSAGE_QUEUE,
        max_message_size=max_message_size,
        receive_buffer_size=RECEIVE_BUFFER,
    )
    tap.handshaking = False
    return websocket


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
        case trio_websocket.ConnectionRejected():
            # What a wrong address answers stays as it is; an overloaded gateway recovers.
            permanent = cause.status_code < 500 and cause.status_code not in (408, 425, 429)
            return ConnectFailed(
                f"{origin} is no gateway, or refuses: it answered the WebSocket request with HTTP {cause.status_code}",
                permanent=permanent,
            )
        case ProtocolError() | h11.ProtocolError():
            return ConnectFailed(f"{origin} is no gateway: it does not speak WebSocket ({cause})", permanent=True)
        case _:
            return ConnectFailed(f"{origin} cannot be reached: {str(cause) or type(cause).__name__}")


class _Tap(trio.abc.Stream):
    """The stream below the WebSocket library. See the module's docstring for what it is there for."""

    def __init__(self, stream: trio.abc.Stream, heard: Callable[[], None]) -> None:
        self.stream = stream
        self._heard = heard
        self.handshaking = True
        self.write_broken = False
        self.write_cut = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.write_cut:
            raise trio.BrokenResourceError("a frame was cut short; nothing may follow it")
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Not raised: the library must read on, to the close frame that says why.
            self.write_broken = True
        except trio.Cancelled:
            self.write_cut = True
            raise

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self.stream.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            if self.handshaking:
                raise ConnectFailed(f"the connection broke during the WebSocket handshake: {exc}") from exc
            raise
        if not data and self.handshaking:
            raise ConnectFailed("the server hung up during the WebSocket handshake")
        self._heard()
        return data

    async def aclose(self) -> None:
        if self.handshaking:
            # The library closes only when what it read is not HTTP.
            raise ConnectFailed("the server does not speak WebSocket", permanent=True)
        await self.stream.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()


class _TrioWebsocketTransport:
    def __init__(self, websocket: trio_websocket.WebSocketConnection, tap: _Tap) -> None:
        self._websocket = websocket
        self._tap = tap

    async def receive_batch(self) -> list[bytes | str]:
        try:
            return [await self._websocket.get_message()]
        except trio_websocket.ConnectionClosed as exc:
            raise _closed(exc) from None

    async def send(self, document: bytes) -> None:
        try:
            await self._websocket.send_message(document.decode())
        except (trio_websocket.ConnectionClosed, ProtocolError) as exc:
            raise ConnectionLost("the connection had ended before the write") from exc
        if self._tap.write_broken:
            raise ConnectionLost("the connection broke during the write")

    def close_seen(self) -> ConnectionClosed | None:
        reason = self._websocket.closed
        error = None if reason is None else _closed(trio_websocket.ConnectionClosed(reason))
        return error if isinstance(error, ConnectionClosed) else None

    async def aclose(self, code: int) -> None:
        if self._tap.write_cut or self._tap.write_broken:
            return
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self._websocket.aclose(code)


def _closed(exc: trio_websocket.ConnectionClosed) -> Exception:
    if exc.reason is None or exc.reason.code in _NO_CODE:
        return ConnectionLost("the connection ended without a close frame")
    code, reason = exc.reason.code, exc.reason.reason or ""
    if code in _LOCAL_VERDICTS:
        return GatewayProtocolError(f"the WebSocket stream makes no sense ({code}): {reason}")
    return ConnectionClosed(code, reason)
