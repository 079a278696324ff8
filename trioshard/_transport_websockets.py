"""The transport on the sans-I/O core of ``websockets``. It hands over every message that one read brought.

Whoever calls `receive_batch` drives it; there is no task in the background. But who reads never writes: a peer that
does not read must not keep us from reading its close frame. What the core has to answer by itself is written by a
task that lives no longer than the write. One frame at most waits for it: a newer pong replaces an older one, as RFC
6455 allows in section 5.5.3, and a close frame replaces any pong. So a flood of pings takes no memory.

Messages of one plain frame pass the core by (`_frames`). So it is given whole frames, one at a time, and what is not
whole yet waits here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from trioshard._frames import MALFORMED, frame_length, skim
from trioshard._locks import Holding
from trioshard._transport import CLOSE_TIMEOUT, NO_CODE, RECEIVE_BUFFER, NoWebSocket, check_status
from trioshard.errors import ConnectFailed, ConnectionClosed, ConnectionLost, GatewayProtocolError

if TYPE_CHECKING:
    from trioshard._transport import Opening, Transport

__all__ = ["upgrade"]

MAX_RESPONSE: Final = 16384
"""Bytes that the header of the answer to the WebSocket request may have."""

_CONTROL: Final = 125
"""Bytes that a control frame may have."""

_LEAST_READ: Final = 4096
"""Bytes that are read at a time while little arrives; in a burst up to `RECEIVE_BUFFER`."""

_HEADER: Final = 10
"""Bytes that the header of a frame from a server may have."""

_END_OF_HEADER: Final = b"\r\n\r\n"
_HTTP: Final = b"HTTP/1."

# At DEBUG the core logs every frame, and so the token. This logger belongs to no name that could be set to DEBUG.
_logger: Final = logging.Logger("trioshard.websockets", logging.INFO)
_logger.parent = logging.getLogger("trioshard")


async def upgrade(opening: Opening) -> Transport:
    """Make a WebSocket of a stream.

    Raises:
        Refused: the server said no.
        NoWebSocket: it does not speak WebSocket.
        ConnectFailed: it hung up.
    """
    url = opening.url
    assert url.hostname is not None
    secure = url.scheme == "wss"
    core = ClientProtocol(
        WebSocketURI(secure, url.hostname, url.port or (443 if secure else 80), url.path, url.query),
        # Not to the byte, for the core counts pings between the fragments of a message as part of it.
        max_size=opening.max_message_size + _CONTROL,
        logger=_logger,
    )
    core.send_request(core.connect())
    try:
        await opening.stream.send_all(b"".join(core.data_to_send()))
        header, rest = await _read_header(opening)
    except trio.BrokenResourceError as exc:
        raise ConnectFailed(f"the connection broke during the WebSocket handshake: {exc}") from exc
    core.receive_data(header)
    if core.handshake_exc is not None:
        raise NoWebSocket(str(core.handshake_exc)) from core.handshake_exc
    core.events_received()
    return _WebsocketsTransport(opening, core, rest)


async def _read_header(opening: Opening) -> tuple[bytes, bytes]:
    """Read the header of the server's answer; return it, and what came after it."""
    buffer = bytearray()
    while (end := buffer.find(_END_OF_HEADER, 0, MAX_RESPONSE)) < 0:
        if not buffer.startswith(_HTTP[: len(buffer)]):
            raise NoWebSocket("the answer is no HTTP")
        if len(buffer) >= MAX_RESPONSE:
            raise NoWebSocket(f"the header of the answer has more than {MAX_RESPONSE} bytes")
        data = await opening.stream.receive_some(RECEIVE_BUFFER)
        if not data:
            raise ConnectFailed("the server hung up during the WebSocket handshake")
        opening.heard()
        buffer += data
        check_status(buffer)
    end += len(_END_OF_HEADER)
    return bytes(buffer[:end]), bytes(buffer[end:])


class _TooLong(Exception):
    """A message has more bytes than it may have."""


class _WebsocketsTransport:
    def __init__(self, opening: Opening, core: ClientProtocol, unread: bytes) -> None:
        self._helpers = opening.helpers
        self._line = opening.line
        self._stream = opening.stream
        self._max_message_size = opening.max_message_size
        self._heard = opening.heard
        self._core = core
        self._unread = unread
        self._read_size = _LEAST_READ
        self._partial = bytearray()
        """The beginning of a frame, of which ``_needed`` bytes are to be waited for."""
        self._needed = 0
        self._is_broken = False
        """Whether the core has been given something that is no whole frame. From then on it gets everything."""
        self._fragments: bytearray | None = None
        self._is_text = False
        self._verdict: Exception | None = None
        # From here on the way out.
        self._lock = trio.Lock()
        self._answer: bytes | None = None
        self._answering = False
        self._write_cut = False

    # --- what arrives ---

    is_resting = True
    """Whenever somebody else runs: a batch is all that one read brought."""

    async def receive_batch(self) -> list[bytes | str]:
        while self._verdict is None:
            batch = self._take(await self._read())
            if batch:
                return batch
        raise self._verdict

    async def _read(self) -> bytes | bytearray:
        if self._unread:
            unread, self._unread = self._unread, b""
            return unread
        try:
            data = await self._stream.receive_some(self._read_size)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ConnectionLost("the connection ended without a close frame") from exc
        # A buffer is allocated for each read: a large one for a burst, a small one for a quiet shard.
        if len(data) == self._read_size:
            self._read_size = min(4 * self._read_size, RECEIVE_BUFFER)
        elif len(data) < self._read_size // 4:
            self._read_size = max(self._read_size // 2, _LEAST_READ)
        if data:
            self._heard()
        return data

    def _take(self, data: bytes | bytearray) -> list[bytes | str]:
        """Return the messages that are whole, and note what ends the connection after them."""
        batch: list[bytes | str] = []
        if not data:
            self._core.receive_eof()
            self._hear_core(batch)
        elif not self._partial:
            self._walk(bytes(data), batch)
        else:
            self._partial += data
            if len(self._partial) >= self._needed:
                self._walk(self._take_partial(), batch)
        return batch

    def _walk(self, data: bytes, batch: list[bytes | str]) -> None:
        """Go through the bytes frame by frame. The first begins where they begin."""
        position, end = 0, len(data)
        while True:
            if self._fragments is None and not self._is_broken:
                position = skim(data, position, batch, self._max_message_size)
            if position == end:
                return
            length = frame_length(data, position)
            if self._is_broken or length == MALFORMED or length > self._max_message_size + _CONTROL + _HEADER:
                self._is_broken = True
                length = end
            elif length > end - position:
                self._partial += data[position:]
                self._needed = length
                return
            self._core.receive_data(data[position : position + length])
            self._hear_core(batch)
            if self._verdict is not None:
                return
            position = min(end, position + length)

    def _take_partial(self) -> bytes:
        partial, self._partial = bytes(self._partial), bytearray()
        return partial

    def _hear_core(self, batch: list[bytes | str]) -> None:
        """Take what the core makes of what it was given."""
        core = self._core
        try:
            for frame in core.events_received():
                assert isinstance(frame, Frame)
                if frame.opcode <= Opcode.BINARY:
                    self._take_frame(frame, batch)
        except UnicodeDecodeError as exc:
            core.fail(1007, f"{exc.reason} at position {exc.start}")
        except _TooLong:
            core.fail(1009, f"more than {self._max_message_size} bytes")
        frames = list(filter(None, core.data_to_send()))
        if frames:
            self._say(frames[-1])
        self._verdict = self._judge()

    def _take_frame(self, frame: Frame, batch: list[bytes | str]) -> None:
        data = frame.data
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if not frame.fin:
                self._fragments = bytearray()
        if self._fragments is not None:
            self._fragments += data
            data = self._fragments
        if len(data) > self._max_message_size:
            raise _TooLong
        if frame.fin:
            self._fragments = None
            batch.append(str(data, "utf-8") if self._is_text else bytes(data))

    def _judge(self) -> Exception | None:
        """Return what `receive_batch` raises when there are no more messages, if the connection is over."""
        core = self._core
        if core.close_rcvd is not None:
            if core.close_rcvd.code in NO_CODE:
                return ConnectionLost("the connection ended without a close code")
            return ConnectionClosed(core.close_rcvd.code, core.close_rcvd.reason)
        if core.close_sent is not None:
            return GatewayProtocolError(
                f"the WebSocket stream makes no sense ({int(core.close_sent.code)}): {core.close_sent.reason}"
            )
        if core.state is State.CLOSED:
            return ConnectionLost("the connection ended without a close frame")
        return None

    def close_seen(self) -> ConnectionClosed | None:
        return self._verdict if isinstance(self._verdict, ConnectionClosed) else None

    # --- what leaves ---

    async def send(self, document: bytes) -> None:
        async with Holding(self._lock):
            if self._core.state is not State.OPEN or self._line.write_broken or self._write_cut:
                raise ConnectionLost("the connection had ended before the write")
            self._core.send_text(document)
            await self._write(b"".join(self._core.data_to_send()))
        if self._line.write_broken:
            raise ConnectionLost("the connection broke during the write")

    async def _write(self, frame: bytes) -> None:
        """Write a frame, holding the lock."""
        try:
            await self._stream.send_all(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._line.write_broken = True  # the line tells this by itself, but TLS can break, too
        except BaseException:
            self._write_cut = True
            raise

    def _say(self, frame: bytes) -> None:
        self._answer = frame
        if not self._answering:
            self._answering = True
            self._helpers.start_soon(self._write_answers)

    async def _write_answers(self) -> None:
        try:
            while self._answer is not None:
                async with Holding(self._lock):
                    await self._write_answer()
        finally:
            self._answering = False

    async def _write_answer(self) -> None:
        frame, self._answer = self._answer, None
        if frame is not None and not (self._line.write_broken or self._write_cut):
            await self._write(frame)

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        if self._write_cut or self._line.write_broken:
            return
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            async with Holding(self._lock):
                if self._core.state is State.OPEN:
                    self._core.send_close(code)
                    self._answer = b"".join(self._core.data_to_send())
                await self._write_answer()
            if self._verdict is None:
                self._verdict = ConnectionLost("the connection was closed by this side")
                if not wait:
                    return
                self._core.receive_data(self._take_partial())
                await self._wait_closed()

    async def _wait_closed(self) -> None:
        """Read on until the peer's close frame, or the end. Nobody wants what comes before it, or an answer."""
        while self._core.close_rcvd is None and self._core.state is not State.CLOSED:
            try:
                data = await self._read()
            except ConnectionLost:
                return
            if not data:
                return
            self._core.receive_data(data)
            self._core.events_received()
            self._core.data_to_send()
