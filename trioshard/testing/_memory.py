"""A pair of byte streams in memory that behaves like a connected socket.

Each direction holds a bounded number of bytes. A sender whose peer does not read waits, as it would on a
TCP connection with full buffers: a client that only works because its writes never block is found out.
Unlike the streams of :mod:`trio.testing` these can also be reset.
"""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import ParkingLot, checkpoint

if TYPE_CHECKING:
    from collections.abc import Generator

DEFAULT_CAPACITY: Final = 64 * 1024
"""Bytes that one direction holds before its sender has to wait."""


class _Pipe:
    """One direction: a bounded buffer with one sending and one receiving side."""

    __slots__ = (
        "_capacity",
        "_data",
        "_ended",
        "_readable",
        "_receiving",
        "_sending",
        "_writable",
        "broken",
        "receiver_closed",
        "sender_closed",
    )

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._data = bytearray()
        self._readable = ParkingLot()
        self._writable = ParkingLot()
        self._ended = False
        self._sending = False
        self._receiving = False
        self.broken = False
        self.sender_closed = False
        self.receiver_closed = False

    def wake_all(self) -> None:
        """Let both sides look again at a state that has changed for good."""
        self._readable.unpark_all()
        self._writable.unpark_all()

    def end(self) -> None:
        """No more bytes will come; what is in the buffer can still be read."""
        self._ended = True
        self.wake_all()

    @contextmanager
    def _only_sender(self) -> Generator[None, None, None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def _check_sendable(self) -> None:
        if self.sender_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self.broken or self.receiver_closed:
            raise trio.BrokenResourceError("the other side is gone")

    async def send_all(self, data: memoryview) -> None:
        with self._only_sender():
            if self._ended and not self.sender_closed:
                raise trio.ClosedResourceError("send_eof was called before")
            self._check_sendable()
            await checkpoint()
            self._check_sendable()
            while data:
                room = self._capacity - len(self._data)
                if room > 0:
                    self._data += data[:room]
                    data = data[room:]
                    self._readable.unpark()
                else:
                    await self._writable.park()
                    self._check_sendable()

    async def send_eof(self) -> None:
        with self._only_sender():
            if self.sender_closed:
                raise trio.ClosedResourceError("this stream was closed")
            await checkpoint()
            self.end()

    async def wait_writable(self) -> None:
        with self._only_sender():
            self._check_sendable()
            await checkpoint()
            while len(self._data) >= self._capacity:
                await self._writable.park()
                self._check_sendable()

    async def receive_some(self, max_bytes: int | None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            if self.receiver_closed:
                raise trio.ClosedResourceError("this stream was closed")
            await checkpoint()
            while not (self._data or self._ended or self.broken or self.receiver_closed):
                await self._readable.park()
            if self.receiver_closed:
                raise trio.ClosedResourceError("this stream was closed")
            if self.broken:
                raise trio.BrokenResourceError("the connection was reset")
            chunk = bytes(self._data[:max_bytes])
            del self._data[: len(chunk)]
            self._writable.unpark()
            return chunk
        finally:
            self._receiving = False


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a pair made by :func:`memory_stream_pair`."""

    def __init__(self, outgoing: _Pipe, incoming: _Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting while the peer's buffer is full."""
        await self._outgoing.send_all(memoryview(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the peer's buffer."""
        await self._outgoing.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at most `max_bytes`; ``b""`` means that the peer is done sending."""
        return await self._incoming.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that no more bytes will come from this side."""
        await self._outgoing.send_eof()

    def close(self) -> None:
        """Close both directions. The peer reads what is buffered, then the end."""
        self._outgoing.sender_closed = True
        self._outgoing.end()
        self._incoming.receiver_closed = True
        self._incoming.wake_all()

    async def aclose(self) -> None:
        """Close both directions, see :meth:`close`."""
        self.close()
        await checkpoint()

    def reset(self) -> None:
        """Break the connection as a TCP RST does: what was in flight is lost, both sides get an error."""
        for pipe in (self._outgoing, self._incoming):
            pipe.broken = True
        self.close()


def memory_stream_pair(capacity: int = DEFAULT_CAPACITY) -> tuple[MemoryStream, MemoryStream]:
    """Two connected streams, each direction holding up to `capacity` bytes."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(there, back), MemoryStream(back, there)
