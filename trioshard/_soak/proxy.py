"""The process between bot and gateway: ``python -m trioshard._soak.proxy PORT GATEWAY_PORT SEED``.

It forwards TCP connections from one port of this machine to another, never looks into the bytes, and makes trouble.
Now and then it stops listening for a moment, and connections are refused.

On stdout it says what it did, one word a line: ``listening``, the kind of each trouble, ``calmed``. It obeys two
lines on stdin: ``storm`` lets the trouble begin; ``calm`` ends every connection, and from then on bytes are only
forwarded. When stdin ends, so does the process.
"""

from __future__ import annotations

import os
import socket
import sys
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard._soak.line import Line, reset
from trioshard._soak.trouble import End, draw_first_wait, draw_next_wait, draw_trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trioshard._soak.trouble import Trouble

__all__ = ["HOST", "SMALL_BUFFER", "Proxy", "main"]

HOST: Final = "127.0.0.1"

SMALL_BUFFER: Final = 4096
"""Bytes asked for as socket buffers, so that they are full soon. Systems have a minimum of their own."""

LISTENS_FOR: Final = (3.0, 20.0)
REFUSES_FOR: Final = (0.05, 0.8)
"""Seconds, from and to."""


class Proxy:
    """Forwards connections, and makes trouble.

    Args:
        port: where to listen.
        gateway_port: where to forward to.
        random: draws the trouble.
        say: is told what was done.
    """

    def __init__(self, port: int, gateway_port: int, random: Random, say: Callable[[str], object]) -> None:
        self._port = port
        self._gateway_port = gateway_port
        self._random = random
        self._say = say
        self._lines: set[Line] = set()
        self._accepted = 0
        self._listened = False
        self._storm = trio.Event()
        self._calm = trio.Event()

    def storm(self) -> None:
        """Let the trouble begin."""
        self._storm.set()

    def calm(self) -> None:
        """End every connection, and make no more trouble."""
        self._calm.set()
        for line in self._lines:
            line.end(End.RESET)
        self._say("calmed")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, and forward, until cancelled.

        Raises:
            OSError: the port cannot be listened on.
        """
        async with trio.open_nursery() as connections:
            while True:
                listeners = await trio.open_tcp_listeners(self._port, host=HOST)
                for listener in listeners:
                    # What is accepted inherits it.
                    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                self._say("listening")
                if not self._listened:
                    self._listened = True
                    task_status.started()
                async with trio.open_nursery() as listening:
                    listening.start_soon(self._stop_listening, listening.cancel_scope)
                    await trio.serve_listeners(self._serve, listeners, handler_nursery=connections)
                self._say("refusal")
                with trio.move_on_after(self._random.uniform(*REFUSES_FOR)):
                    await self._calm.wait()

    async def _stop_listening(self, listening: trio.CancelScope) -> None:
        await self._storm.wait()
        await trio.sleep(self._random.uniform(*LISTENS_FOR))
        if not self._calm.is_set():
            listening.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        self._accepted += 1
        try:
            gateway = await trio.open_tcp_stream(HOST, self._gateway_port)
        except OSError:
            reset(client)
            return
        except BaseException:
            client.socket.close()
            raise
        line = Line(client, gateway)
        self._lines.add(line)
        try:
            await line.run(self._troubles(spared=self._accepted % 2 == 0))
        finally:
            self._lines.remove(line)

    def _troubles(self, *, spared: bool) -> Callable[[], Awaitable[Trouble]]:
        """Return what waits for the next trouble of one connection."""
        first = True

        async def wait_next() -> Trouble:
            nonlocal first
            await self._storm.wait()
            wait = draw_first_wait(self._random, spared=spared) if first else draw_next_wait(self._random)
            first = False
            await trio.sleep(wait)
            if self._calm.is_set():
                await trio.sleep_forever()
            trouble = draw_trouble(self._random)
            self._say(trouble.kind)
            return trouble

        return wait_next


async def _obey(proxy: Proxy) -> None:
    """Carry out what comes on stdin, until it ends."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as orders:
        received = b""
        async for chunk in orders:
            received += chunk
            while b"\n" in received:
                order, _, received = received.partition(b"\n")
                if order == b"storm":
                    proxy.storm()
                elif order == b"calm":
                    proxy.calm()


async def main(port: int, gateway_port: int, seed: str) -> None:
    """Be the process."""

    def say(word: str) -> None:
        print(word, flush=True)

    proxy = Proxy(port, gateway_port, Random(seed), say)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        await _obey(proxy)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
