"""A network in virtual time: lines that are slow, thin, cut at any byte or stuck, and that remember every byte.

A `Line` joins the shard to the gateway. Each of its two ways has a bounded buffer like a socket's, a latency, and a
width: how many bytes pass at once. What a way has taken can no longer be called back by its sender, which is the moment
that matters: `Way.taken` is what "written" means to an operating system.
"""

from __future__ import annotations

import math
from collections import deque
from operator import index
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import ParkingLot, checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["End", "Line", "Way"]

PAUSE: Final = 0.004
"""Seconds between two portions on a way that is not wide enough for all bytes at once."""

ROOMY: Final = 65_536
"""Bytes: a buffer that does not slow anybody down."""


class Way:
    """One direction of a line.

    Args:
        capacity: bytes that it holds before its sender has to wait.
        latency: seconds that bytes take.
        width: bytes that pass at once.
    """

    def __init__(self, *, capacity: int, latency: float, width: float) -> None:
        self.taken = bytearray()
        """Every byte that was ever accepted."""
        self.read = 0
        """How many of them the other side has read."""
        self.cut_at = math.inf
        """Where the line breaks: no byte passes beyond this one."""
        self.on_cut: Callable[[], None] | None = None
        self.clogged = False
        """Nothing is accepted any more, for no reason that the sender could see."""
        self.width = width
        self.latency = latency
        self.broken = False
        self.lost = False
        """Nothing passes any more. What was taken before still arrives, and then the end."""
        self.sender_closed = False
        self.receiver_closed = False
        self._capacity = capacity
        self._under_way: deque[tuple[float, int]] = deque()
        """When what has been taken up to some byte arrives."""
        self._ended = False
        self._readable = ParkingLot()
        self._writable = ParkingLot()
        self._sending = self._receiving = False

    # --- the sender's side ---

    async def send_all(self, data: memoryview) -> None:
        self._begin_sending()
        try:
            await checkpoint()
            self._check_sendable()
            while data:
                room = 0 if self.clogged else min(len(data), self.width, self._capacity - (len(self.taken) - self.read))
                if room > 0:
                    data = data[self._take(data[: int(room)]) :]
                    if data:
                        await trio.sleep(PAUSE)
                        self._check_sendable()
                else:
                    await self._writable.park()
                    self._check_sendable()
        finally:
            self._sending = False

    def _begin_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check_sendable()
        if self._ended:
            raise trio.ClosedResourceError("send_eof was called before")
        self._sending = True

    def _take(self, data: memoryview) -> int:
        room = self.cut_at - len(self.taken)
        if room <= 0:
            raise trio.BrokenResourceError("the line was cut")
        if len(data) >= room:
            data = data[: int(room)]
        self.taken += data
        self._arrives()
        if len(self.taken) == self.cut_at:
            # What was taken is taken: whoever sent the last byte before the cut does not hear of it yet.
            assert self.on_cut is not None
            self.on_cut()
        return len(data)

    def _arrives(self) -> None:
        when = trio.current_time() + self.latency if self.latency else 0.0
        if self._under_way and self._under_way[-1][0] > when:
            when = self._under_way[-1][0]
        self._under_way.append((when, len(self.taken)))
        self._readable.unpark_all()

    def _check_sendable(self) -> None:
        if self.sender_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self.broken or self.lost or self.receiver_closed:
            raise trio.BrokenResourceError("the other side is gone")

    async def wait_writable(self) -> None:
        self._begin_sending()
        try:
            await checkpoint()
            while self.clogged or len(self.taken) - self.read >= self._capacity:
                await self._writable.park()
                self._check_sendable()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self.sender_closed:
            raise trio.ClosedResourceError("this stream was closed")
        await checkpoint()
        self.end()

    @property
    def is_slow(self) -> bool:
        """Whether a large message takes its time on it."""
        return self._capacity < ROOMY or self.width < ROOMY

    def end(self) -> None:
        """Take no more bytes; what is under way still arrives."""
        self._ended = True
        self.wake()

    def wake(self) -> None:
        """Let both sides look again."""
        self._readable.unpark_all()
        self._writable.unpark_all()

    # --- the receiver's side ---

    async def receive_some(self, max_bytes: int | None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if self.receiver_closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._receiving = True
        waited = False
        try:
            while True:
                if self.receiver_closed:
                    raise trio.ClosedResourceError("this stream was closed")
                if self.broken:
                    raise trio.BrokenResourceError("the connection was reset")
                arrived = self._arrived()
                if not waited and (arrived or (self._ended and not self._under_way)):
                    # As with a socket: what is there at once takes a turn, too.
                    waited = True
                    await checkpoint()
                    continue
                waited = True
                if arrived:
                    return self._hand_over(arrived if max_bytes is None else min(arrived, max_bytes))
                if self._under_way:
                    with trio.move_on_at(self._under_way[0][0]):
                        await self._readable.park()
                elif self._ended:
                    return b""
                else:
                    await self._readable.park()
        finally:
            self._receiving = False

    def _arrived(self) -> int:
        """How many bytes can be read now. As with a socket, what arrived apart may be read together."""
        now, through = trio.current_time(), self.read
        for when, end in self._under_way:
            if when > now:
                break
            through = end
        return through - self.read

    def _hand_over(self, count: int) -> bytes:
        chunk = bytes(self.taken[self.read : self.read + count])
        self.read += count
        while self._under_way and self._under_way[0][1] <= self.read:
            self._under_way.popleft()
        self._writable.unpark_all()
        return chunk


class End(trio.abc.HalfCloseableStream):
    """One end of a line."""

    def __init__(self, line: Line, outgoing: Way, incoming: Way) -> None:
        self._line = line
        self._outgoing = outgoing
        self._incoming = incoming
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting while the way is full."""
        await self._outgoing.send_all(memoryview(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the way has room."""
        await self._outgoing.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what has arrived."""
        return await self._incoming.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that no more bytes will come."""
        await self._outgoing.send_eof()

    async def aclose(self) -> None:
        """Close both ways; the peer reads what is under way, then the end."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Do as `aclose` does, without a checkpoint."""
        self.closed = True
        self._outgoing.sender_closed = True
        self._outgoing.end()
        self._incoming.receiver_closed = True
        self._incoming.wake()

    def reset(self) -> None:
        """Break the line as a TCP RST does: what is under way is lost, and both ends get an error."""
        self._line.reset()
        self.close()


class Line:
    """Two ways with an end each.

    Args:
        number: 0-based, in the order of dialling.
        capacity: bytes that each way holds.
        latency: seconds, each way.
        up: bytes that pass at once from the shard to the gateway.
        down: bytes that pass at once from the gateway to the shard.
    """

    def __init__(
        self,
        number: int,
        *,
        capacity: int = ROOMY,
        latency: float = 0.0,
        up: float = math.inf,
        down: float = math.inf,
    ) -> None:
        self.number = number
        self.up = Way(capacity=capacity, latency=latency, width=up)
        self.down = Way(capacity=capacity, latency=latency, width=down)
        self.client = End(self, self.up, self.down)
        self.server = End(self, self.down, self.up)

    def reset(self) -> None:
        """Break both ways."""
        for way in (self.up, self.down):
            way.broken = True
            way.wake()

    def cut_off(self) -> None:
        """End both ways: what has been taken still arrives, then the end."""
        for way in (self.up, self.down):
            way.lost = True
            way.end()

    def cut_after(self, way: Way, nbytes: int, *, reset: bool) -> None:
        """Break the line when so many more bytes, at least one, have passed on this way."""
        way.cut_at = len(way.taken) + max(1, nbytes)
        way.on_cut = self.reset if reset else self.cut_off
