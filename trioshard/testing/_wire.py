"""One WebSocket, the server's end of it: bytes to messages, payloads to frames."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from trioshard.testing._rules import PAYLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

_READ_SIZE: Final = 65_536


class Compressor(Protocol):
    """Turns a payload into one message of a compressed transport."""

    def __call__(self, payload: bytes, /) -> bytes:
        """Compress, and flush so far that the peer can read the whole payload."""
        ...


def open_compressor(name: str) -> Compressor:
    """A new compression context. Raises :exc:`ImportError` when the binding for zstd is missing."""
    if name == "zlib-stream":
        deflate = zlib.compressobj()
        return lambda payload: deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    if name == "zstd-stream":
        return _open_zstd()
    raise ValueError(name)


def _open_zstd() -> Compressor:
    from trioshard.testing._zstd import ZstdCompressor

    zstd = ZstdCompressor()
    return lambda payload: zstd.compress(payload, ZstdCompressor.FLUSH_BLOCK)


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, or as much of one as shows that it is too large."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class Pinged:
    """A WebSocket ping; `answer` is the frame to send."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """A close frame came; `answer` is the frame to send, empty when the close was ours."""

    code: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """The peer does not speak WebSocket; `answer` is the frame to send."""

    reason: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer will send no more, and did not say why."""


Incoming = Message | Pinged | Closed | Malformed | Ended


class Wire:
    """The framing of one WebSocket connection; it reads by itself and leaves the writing to others."""

    def __init__(self, stream: trio.abc.Stream, trailing: bytes) -> None:
        self._stream = stream
        self._connection = Connection(ConnectionType.SERVER, trailing_data=trailing)
        self._trailing = bool(trailing)
        self._parts: list[str | bytes] = []
        self._size = 0

    async def receive(self) -> list[Incoming]:
        """Everything that the next bytes bring, in order. Raises what `receive_some` raises."""
        if self._trailing:
            self._trailing = False
        else:
            data = await self._stream.receive_some(_READ_SIZE)
            if not data:
                return [Ended()]
            self._connection.receive_data(bytes(data))
        return list(self._read())

    def message(self, data: str | bytes, fragments: int = 1) -> bytes:
        """The frames of one message, in so many fragments as its length allows."""
        if fragments == 1:
            return self._frame(data, finished=True)
        step = max(1, -(-len(data) // fragments))
        pieces = [data[i : i + step] for i in range(0, len(data), step)] or [data]
        return b"".join(self._frame(piece, finished=number == len(pieces)) for number, piece in enumerate(pieces, 1))

    def close(self, code: int, reason: str) -> bytes:
        """The close frame; empty when one was sent or received before."""
        if self._connection.state is not ConnectionState.OPEN:
            return b""
        return self._connection.send(CloseConnection(code, reason or None))

    def _frame(self, data: str | bytes, *, finished: bool) -> bytes:
        if self._connection.state is not ConnectionState.OPEN:
            return b""
        if isinstance(data, str):
            return self._connection.send(TextMessage(data, message_finished=finished))
        return self._connection.send(BytesMessage(data, message_finished=finished))

    def _read(self) -> Iterator[Incoming]:
        for event in self._connection.events():
            incoming = self._translate(event)
            if incoming is not None:
                yield incoming
            if isinstance(incoming, Closed | Malformed):
                return

    def _translate(self, event: Event) -> Incoming | None:
        match event:
            case TextMessage() | BytesMessage():
                return self._collect(event)
            case Ping():
                if self._connection.state is ConnectionState.OPEN:
                    return Pinged(self._connection.send(event.response()))
            case CloseConnection():
                if self._connection.state is ConnectionState.OPEN:
                    # wsproto reports its own verdict on broken frames in the same form, without a change of state.
                    return Malformed(event.reason or "", self.close(event.code, event.reason or ""))
                answering = self._connection.state is ConnectionState.REMOTE_CLOSING
                return Closed(int(event.code), self._connection.send(event.response()) if answering else b"")
            case _:
                pass
        return None

    def _collect(self, event: TextMessage | BytesMessage) -> Message | None:
        """Put fragments together, up to the first byte that is too much."""
        if self._size > PAYLOAD_LIMIT:
            # Reported already; the rest of the message is thrown away.
            if event.message_finished:
                self._size = 0
            return None
        self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
        self._size += len(event.data)
        if not event.message_finished and self._size <= PAYLOAD_LIMIT:
            return None
        parts, self._parts = self._parts, []
        if event.message_finished:
            self._size = 0
        if isinstance(event.data, str):
            return Message("".join(part for part in parts if isinstance(part, str)))
        return Message(b"".join(part for part in parts if isinstance(part, bytes)))
