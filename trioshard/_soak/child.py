"""The proxy as the run sees it: a child process that is started, told what to do, killed, and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from trioshard._soak.proxy import HOST, SMALL_BUFFER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from random import Random

__all__ = ["ProxyFailed", "ProxyProcess", "open_proxy"]

LIVES_FOR: Final = (12.0, 35.0)
DEAD_FOR: Final = (0.0, 1.5)
"""Seconds, from and to."""

_QUIET, _STORM, _CALM = "quiet", "storm", "calm"
"""What the proxy is told on stdin. It is quiet by itself."""


class ProxyFailed(Exception):
    """The proxy ended by itself."""


class ProxyProcess:
    """A proxy, through any number of lives. Made by `open_proxy`."""

    def __init__(self, gateway_port: int, random: Random) -> None:
        self._gateway_port = gateway_port
        self._random = random
        self._reserved = socket.socket()
        # Bound and never listened on: while the proxy is dead nobody else is given its port, not even our own
        # attempts to connect to it, which would then be connected to themselves.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, 0))
        self._weather = _QUIET
        self._process: trio.Process | None = None
        self._ordering = trio.Lock()
        self._listens = trio.Event()
        self._stormy = trio.Event()
        self._calmed = trio.Event()
        self.port: Final[int] = self._reserved.getsockname()[1]
        self.done: Counter[str] = Counter()
        """What it did, by kind; ``"kill"`` is what was done to it."""

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to the proxy, wherever one wanted to go: the ``dial`` of `open_shard`. The buffers are small."""
        sock = trio.socket.socket()
        try:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SMALL_BUFFER)
            await sock.connect((HOST, self.port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def storm(self) -> None:
        """Let the trouble begin."""
        self._stormy.set()
        await self._change(_STORM)

    async def calm(self) -> None:
        """End every connection, and all trouble; return when that is done."""
        await self._change(_CALM)
        await self._calmed.wait()

    async def run(self) -> None:
        """Keep a proxy running, and kill it now and then while there is a storm, until cancelled.

        Raises:
            ProxyFailed: it ended by itself.
        """
        with self._reserved:
            while True:
                await self._live()
                await trio.sleep(self._random.uniform(*DEAD_FOR))

    async def wait_listening(self) -> None:
        """Wait until it can be connected to for the first time."""
        await self._listens.wait()

    async def _change(self, weather: str) -> None:
        self._weather = weather
        await self._order()

    async def _order(self) -> None:
        async with self._ordering:
            if self._process is not None and self._process.stdin is not None:
                # One that was killed a moment ago is told when it lives again.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._process.stdin.send_all(f"{self._weather}\n".encode())

    async def _live(self) -> None:
        """One life, from the start to the violent end."""
        seed = str(self._random.getrandbits(32))
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioshard._soak.proxy", str(self.port), str(self._gateway_port), seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C on a terminal is for us alone.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with process.stdin, process.stdout:
                self._process = process
                await self._order()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._kill_in_time, process)
                    await self._listen(process.stdout)
                    nursery.cancel_scope.cancel()
        finally:
            self._process = None
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        if process.returncode != -signal.SIGKILL:
            raise ProxyFailed(f"the proxy ended by itself, with status {process.returncode}")

    async def _listen(self, stdout: trio.abc.ReceiveStream) -> None:
        received = b""
        async for chunk in stdout:
            *words, received = (received + chunk).split(b"\n")
            for word in words:
                if word == b"listening":
                    self._listens.set()
                elif word == b"calmed":
                    self._calmed.set()
                else:
                    self.done[word.decode()] += 1

    async def _kill_in_time(self, process: trio.Process) -> None:
        await self._stormy.wait()
        await trio.sleep(self._random.uniform(*LIVES_FOR))
        if self._weather == _STORM:
            self.done["kill"] += 1
            process.kill()


@asynccontextmanager
async def open_proxy(gateway_port: int, random: Random) -> AsyncGenerator[ProxyProcess, None]:
    """Run a proxy in front of a gateway, in good weather to begin with.

    Args:
        gateway_port: where it forwards to.
        random: draws its lives, and the seed of each.
    """
    proxy = ProxyProcess(gateway_port, random)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        await proxy.wait_listening()
        yield proxy
        nursery.cancel_scope.cancel()
