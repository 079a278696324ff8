"""A gateway that says what was encoded beforehand, on a line that awaits what a socket awaits."""

from __future__ import annotations

import json
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import trio
from trio.testing import wait_all_tasks_blocked

import trioshard
from tests.transport.peer import BINARY, TEXT, Peer, Tls, frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

CAPACITY: Final = 262_144
"""Bytes that each direction of the line holds."""

PIECE: Final = 65536
"""Bytes that a burst is sent in."""

HEARTBEAT_INTERVAL: Final = 41.25
"""Seconds, as at Discord."""

PATIENCE: Final = 30_000.0
"""Virtual seconds that a world may exist: one that hangs must fail."""


class Socket(trio.abc.Stream):
    """One end of a line in memory that gives way exactly as often as a socket of Trio's does."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._ended = False
        self._changed = trio.lowlevel.ParkingLot()
        self.other: Socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._unread or self._ended:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not (self._unread or self._ended):
            await self._changed.park()
        data = bytes(self._unread[: max_bytes or CAPACITY])
        del self._unread[: len(data)]
        self._changed.unpark_all()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        for start in range(0, len(data), PIECE):
            while len(self.other._unread) >= CAPACITY:
                await self.other._changed.park()
            if self.other._ended:
                raise trio.BrokenResourceError
            self.other._unread += data[start : start + PIECE]
            self.other._changed.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        for end in (self, self.other):
            end._ended = True
            end._changed.unpark_all()
        await trio.lowlevel.checkpoint()


def socket_pair() -> tuple[Socket, Socket]:
    """Two ends of one line."""
    near, far = Socket(), Socket()
    near.other, far.other = far, near
    return near, far


def message(number: int) -> dict[str, object]:
    """The data of a MESSAGE_CREATE, of some 900 bytes, half of which no compression takes away."""
    random = Random(number)
    author = {
        "id": str(random.getrandbits(60)), "username": random.randbytes(8).hex(), "discriminator": "0",
        "avatar": random.randbytes(16).hex(), "global_name": "somebody", "bot": False, "public_flags": 0,
    }  # fmt: skip
    return {
        "id": str(number), "channel_id": str(random.getrandbits(60)), "guild_id": "81384788765712384",
        "author": author, "content": random.randbytes(100).hex(), "timestamp": "2026-01-01T00:00:00.000000+00:00",
        "edited_timestamp": None, "tts": False, "mention_everyone": False, "mentions": [], "mention_roles": [],
        "attachments": [], "embeds": [], "pinned": False, "type": 0, "nonce": str(random.getrandbits(60)),
        "member": {"roles": [str(random.getrandbits(60))], "joined_at": "2025-01-01T00:00:00+00:00", "mute": False},
    }  # fmt: skip


class Station:
    """The server of one shard."""

    def __init__(self, tls: Tls | None) -> None:
        self._tls = tls
        self._compressor = zlib.compressobj()
        self._sequence = 0
        self._peer: Peer

    def _encode(self, payload: dict[str, object]) -> bytes:
        document = json.dumps(payload, separators=(",", ":")).encode()
        return frame(BINARY, self._compressor.compress(document) + self._compressor.flush(zlib.Z_SYNC_FLUSH))

    def _dispatch(self, name: str, data: object) -> bytes:
        self._sequence += 1
        return self._encode({"t": name, "s": self._sequence, "op": 0, "d": data})

    def events(self, count: int) -> list[bytes]:
        """Encode the next events. They have to be sent in this order, and before anything else."""
        return [self._dispatch("MESSAGE_CREATE", message(self._sequence)) for _ in range(count)]

    async def serve(self, line: Socket) -> None:
        """Shake hands, and acknowledge heartbeats."""
        tls = self._tls
        self._peer = Peer(trio.SSLStream(line, tls.server, server_side=True, https_compatible=True) if tls else line)
        await self._peer.accept(self._encode({"op": 10, "d": {"heartbeat_interval": HEARTBEAT_INTERVAL * 1000}}))
        while (received := await self._peer.receive()).opcode == TEXT:
            match json.loads(received.payload)["op"]:
                case 1:
                    await self._peer.send(self._encode({"op": 11, "d": None}))
                case 2:
                    ready = {"session_id": "s", "resume_gateway_url": "wss://gateway.test", "user": {"id": "1"}}
                    await self._peer.send(self._dispatch("READY", ready))

    async def burst(self, events: list[bytes]) -> None:
        """Send them as fast as the line takes them."""
        await self._peer.send(*events)

    async def trickle(self, events: list[bytes]) -> None:
        """Send each when everybody has gone to sleep over the one before."""
        for event in events:
            await wait_all_tasks_blocked()
            await self._peer.send(event)


@dataclass(frozen=True)
class World:
    """Some shards that are ready, each with a station of its own. What the stations do runs in ``servers``."""

    pairs: list[tuple[Station, trioshard.Shard]]
    servers: trio.Nursery


@asynccontextmanager
async def open_world(count: int = 1, *, transport: str = "websockets", tls: Tls | None = None) -> AsyncGenerator[World]:
    """Open so many shards, and wait until they are ready."""

    def dialer(station: Station) -> Callable[[str, int], Awaitable[trio.abc.Stream]]:
        async def dial(host: str, port: int) -> trio.abc.Stream:
            near, far = socket_pair()
            servers.start_soon(station.serve, far)
            await trio.lowlevel.checkpoint()
            return near

        return dial

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as servers, AsyncExitStack() as shards:
            world = World([], servers)
            for number in range(count):
                station = Station(tls)
                shard = await shards.enter_async_context(
                    trioshard.open_shard(
                        "token",
                        intents=0,
                        shard=(number, count),
                        url=f"{'wss' if tls else 'ws'}://gateway.test",
                        dial=dialer(station),
                        ssl_context=tls.client if tls else None,
                        transport=transport,
                    )
                )
                world.pairs.append((station, shard))
            for _, shard in world.pairs:
                await shard.wait_ready()
            yield world
            await shards.aclose()
            servers.cancel_scope.cancel()
