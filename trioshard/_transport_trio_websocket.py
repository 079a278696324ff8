"""The transport on trio-websocket, which is always installed. It has one message at a time to give.

Three things that the library leaves to its caller are done by `_Tap`, the stream it is given:

- A server that refuses would be listened to until the end of its answer, which may have none.
- A peer that hangs up in the middle of the opening handshake would be waited for until the time limit.
- When a write is cancelled half-way, the stream is poisoned: no further frame may follow, not even a pong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from trioshard._transport import CLOSE_TIMEOUT, NO_CODE, RECEIVE_BUFFER, check_status
from trioshard.errors import ConnectFailed, ConnectionClosed, ConnectionLost, GatewayProtocolError

if TYPE_CHECKING:
    from trioshard._transport import Line, Opening, Transport

__all__ = ["upgrade"]

MESSAGE_QUEUE: Final = 256

_LOCAL_VERDICTS: Final = frozenset({1002, 1007, 1009})
"""What the library closes with when it cannot make sense of the stream, or a message is too long.

It does not tell whether the code is its own or came from the peer, to whom these codes hardly ever belong.
"""


async def upgrade(opening: Opening) -> Transport:
    """Make a WebSocket of a stream. What the library's task raises comes out of the nursery."""
    url = opening.url
    tap = _Tap(opening)
    websocket = await trio_websocket.wrap_client_stream(
        opening.helpers,  # type: ignore[arg-type]  # of a nursery it takes nothing but start_soon
        tap,  # type: ignore[arg-type]  # annotated as sockets only; the docstring says any stream
        url.netloc.rpartition("@")[2],
        f"{url.path or '/'}?{url.query}" if url.query else url.path or "/",
        message_queue_size=MESSAGE_QUEUE,
        max_message_size=opening.max_message_size,
        receive_buffer_size=RECEIVE_BUFFER,
    )
    tap.handshaking = False
    return _TrioWebsocketTransport(websocket, tap, opening.line)


class _Tap(trio.abc.Stream):
    """The stream below the WebSocket library. See the module's docstring for what it is there for."""

    def __init__(self, opening: Opening) -> None:
        self.stream = opening.stream
        self._heard = opening.heard
        self._resting = opening.resting
        self.reading = False
        self.handshaking = True
        self._answered = False
        self._answer = bytearray()
        self.write_cut = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.write_cut:
            raise trio.BrokenResourceError("a frame was cut short; nothing may follow it")
        try:
            await self.stream.send_all(data)
        except trio.Cancelled:
            self.write_cut = True
            raise

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._answered:
            # The library has read the answer, and comes for more. The task that opens may not have run since.
            self.handshaking = False
        self.reading = True
        self._resting()
        try:
            data = await self.stream.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            if self.handshaking:
                raise ConnectFailed(f"the connection broke during the WebSocket handshake: {exc}") from exc
            raise
        finally:
            self.reading = False
        if not data and self.handshaking:
            raise ConnectFailed("the server hung up during the WebSocket handshake")
        self._heard()
        if self.handshaking:
            self._answer += data  # the library takes 16 KiB at most, and then hangs up
            check_status(self._answer)
            self._answered = b"\r\n\r\n" in self._answer
        return data

    async def aclose(self) -> None:
        if self.handshaking:
            # The library closes only when what it read is not HTTP.
            raise ConnectFailed("the server does not speak WebSocket", permanent=True)
        await self.stream.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()


class _TrioWebsocketTransport:
    def __init__(self, websocket: trio_websocket.WebSocketConnection, tap: _Tap, line: Line) -> None:
        self._websocket = websocket
        self._tap = tap
        self._line = line

    @property
    def is_resting(self) -> bool:
        # The library comes for more when it has handed over all that it could make of the last bytes.
        return self._tap.reading

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
        if self._line.write_broken:
            raise ConnectionLost("the connection broke during the write")

    def close_seen(self) -> ConnectionClosed | None:
        reason = self._websocket.closed
        error = None if reason is None else _closed(trio_websocket.ConnectionClosed(reason))
        return error if isinstance(error, ConnectionClosed) else None

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        if self._tap.write_cut or self._line.write_broken:
            return
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self._websocket.aclose(code)


def _closed(exc: trio_websocket.ConnectionClosed) -> Exception:
    if exc.reason is None or exc.reason.code in NO_CODE:
        return ConnectionLost("the connection ended without a close frame")
    code, reason = exc.reason.code, exc.reason.reason or ""
    if code in _LOCAL_VERDICTS:
        return GatewayProtocolError(f"the WebSocket stream makes no sense ({code}): {reason}")
    return ConnectionClosed(code, reason)
