"""No library: a loop over aiohttp's WebSocket, zlib or zstd, and orjson. It is the floor of what asyncio can do."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from benchmarks.clients.common import (
    INTENTS,
    SETTLE,
    TOKEN,
    Idle,
    Meter,
    Options,
    begin,
    make_ssl_context,
    parse,
    report,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Connection:
    """A session that is not resumed."""

    def __init__(self, options: Options, shard: int) -> None:
        self._options = options
        self._shard = shard
        self._sequence: int | None = None
        self.ready = asyncio.Event()
        self._beats: asyncio.Task[None] | None = None

    async def run(self, http: aiohttp.ClientSession, hit: Callable[[], None] | None) -> None:
        """Connect, identify, and call ``hit`` for each dispatch."""
        compress = self._options.compress
        query = f"v=10&encoding=json&compress={compress}" if compress else "v=10&encoding=json"
        context = make_ssl_context(self._options)
        more: dict[str, Any] = {} if context is None else {"ssl": context}
        async with http.ws_connect(f"{self._options.url}?{query}", max_msg_size=0, **more) as self.socket:
            inflate = _inflater(compress)
            async for message in self.socket:
                data = message.data if inflate is None else inflate(message.data)
                payload = orjson.loads(data)
                op = payload["op"]
                if op == 0:
                    self._sequence = payload["s"]
                    if hit is not None:
                        hit()
                    name = payload["t"]
                    if name == "READY":
                        self.ready.set()
                elif op == 10:
                    self._beats = asyncio.create_task(self._beat(payload["d"]["heartbeat_interval"] / 1000))
                    await self._identify()
        if self._beats is not None:
            self._beats.cancel()

    async def send(self, op: int, data: Any) -> None:
        """Send a payload."""
        await self.socket.send_str(orjson.dumps({"op": op, "d": data}).decode())

    async def _beat(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self.send(1, self._sequence)

    async def _identify(self) -> None:
        shard = [self._shard, self._options.shards]
        properties = {"os": "linux", "browser": "bare", "device": "bare"}
        await self.send(2, {"token": TOKEN, "intents": INTENTS, "shard": shard, "properties": properties})


def _inflater(compress: str | None) -> Callable[[bytes], bytes] | None:
    if compress == "zlib-stream":
        return zlib.decompressobj().decompress
    if compress == "zstd-stream":
        from backports import zstd

        return zstd.ZstdDecompressor().decompress
    return None


async def main() -> None:
    """Run one mode."""
    options = parse(__doc__)
    finished = asyncio.Event()
    hit = Meter(options.start, options.stop, finished.set).hit if options.mode == "raw" else None
    connections = [Connection(options, shard) for shard in range(options.shards)]
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        tasks = [group.create_task(connection.run(http, hit)) for connection in connections]
        for connection in connections:
            await connection.ready.wait()
        if options.mode == "idle":
            await asyncio.sleep(SETTLE)
            idle = Idle()
            await asyncio.sleep(options.window)
            idle.finish()
        elif options.mode == "send":
            await asyncio.sleep(SETTLE)
            begin()
            for _ in range(options.sends):
                await asyncio.sleep(1 / options.send_rate)
                state = {"guild_id": str(options.guild_id), "self_mute": False, "self_deaf": False}
                await connections[0].send(4, {**state, "channel_id": str(time.monotonic_ns())})
            report()
        else:
            await finished.wait()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
