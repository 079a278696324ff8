"""One connection through the proxy: bytes go to and fro, unread, until there is trouble."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

import trio

from trioshard._soak.trouble import Cut, Drip, End, HalfClose, Stall, Trouble, Way

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Line", "reset"]

CHUNK: Final = 4096
"""Bytes that are read at a time, at most."""


class Line:
    """Joins two sockets. Both are closed when `run` is over.

    Args:
        client: the side of the bot.
        gateway: the side of the gateway.
    """

    def __init__(self, client: trio.SocketStream, gateway: trio.SocketStream) -> None:
        self._client = client
        self._gateway = gateway
        self._pumps = {Way.UP: _Pump(client, gateway), Way.DOWN: _Pump(gateway, client)}
        self._ending: End | None = None
        self._scope = trio.CancelScope()

    async def run(self, next_trouble: Callable[[], Awaitable[Trouble]]) -> None:
        """Forward until both sides are done, one breaks, or trouble ends it.

        Args:
            next_trouble: waits until it is time for the next trouble, and says which.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._make, next_trouble)
                    await self._forward()
                    nursery.cancel_scope.cancel()
        finally:
            self._close()

    def end(self, how: End) -> None:
        """End the connection. The first end counts; what follows are its echoes."""
        if self._ending is None:
            self._ending = how
        self._scope.cancel()

    async def _forward(self) -> None:
        async with trio.open_nursery() as nursery:
            for pump in self._pumps.values():
                nursery.start_soon(self._run_pump, pump)

    async def _run_pump(self, pump: _Pump) -> None:
        try:
            await pump.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # One side was reset, and the other shall know.
            self.end(End.RESET)

    async def _make(self, next_trouble: Callable[[], Awaitable[Trouble]]) -> None:
        while True:
            await self._make_one(await next_trouble())

    async def _make_one(self, trouble: Trouble) -> None:
        pump = self._pumps[trouble.way]
        match trouble:
            case Cut():
                await pump.pass_only(trouble.after)
                self.end(trouble.end)
            case HalfClose():
                pump.finish()
                await trio.sleep(trouble.linger)
                self.end(End.CLOSE)
            case Drip():
                await pump.drip(trouble.nbytes, trouble.pause)
            case Stall():
                await pump.stall(trouble.seconds)
                if trouble.end is not None:
                    self.end(trouble.end)

    def _close(self) -> None:
        for stream, resets in (
            (self._client, self._ending in (End.RESET, End.RESET_CLIENT)),
            (self._gateway, self._ending in (End.RESET, End.RESET_GATEWAY)),
        ):
            if resets:
                reset(stream)
            else:
                stream.socket.close()


def reset(stream: trio.SocketStream) -> None:
    """Close so that the peer gets RST: what lies in the buffers is thrown away."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


class _Pump:
    """One direction."""

    def __init__(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        self._source = source
        self._sink = sink
        self._reading = trio.CancelScope()
        self._gate: trio.Event | None = None
        """Until it is set, nothing is read."""
        self._finishing = False
        self._left: int | None = None
        """How many bytes may still pass."""
        self._passed = trio.Event()
        self._dripping = 0
        self._pause = 0.0
        self._dripped = trio.Event()

    async def run(self) -> None:
        """Forward until the source ends. Raises what the streams raise."""
        while True:
            if self._finishing:
                await self._sink.send_eof()
                await trio.sleep_forever()
            if self._gate is not None:
                await self._gate.wait()
                continue
            data: bytes | bytearray | None = None
            with trio.CancelScope() as self._reading:
                data = await self._source.receive_some(CHUNK)
            if data is None:
                continue
            if not data:
                await self._sink.send_eof()
                return
            await self._deliver(memoryview(data))

    async def _deliver(self, data: memoryview) -> None:
        while data:
            step = 1 if self._dripping else len(data)
            if self._left is not None:
                step = min(step, self._left)
            await self._sink.send_all(data[:step])
            data = data[step:]
            if self._left is not None:
                self._left -= step
                if not self._left:
                    self._passed.set()
                    await trio.sleep_forever()
            if self._dripping:
                self._dripping -= 1
                await trio.sleep(self._pause)
                if not self._dripping:
                    self._dripped.set()

    async def stall(self, seconds: float) -> None:
        """Read nothing for so many seconds."""
        self._gate = trio.Event()
        # A cancelled read has taken nothing from the socket.
        self._reading.cancel()
        await trio.sleep(seconds)
        self._gate.set()
        self._gate = None

    def finish(self) -> None:
        """Say that nothing more will come this way. What still comes from the source stays unread."""
        self._finishing = True
        self._reading.cancel()

    async def pass_only(self, nbytes: int) -> None:
        """Let so many more bytes pass; return when they have."""
        self._left = nbytes
        await self._passed.wait()

    async def drip(self, nbytes: int, pause: float) -> None:
        """Let the next bytes pass one by one; return when they have."""
        self._dripped = trio.Event()
        self._dripping, self._pause = nbytes, pause
        await self._dripped.wait()
