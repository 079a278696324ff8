"""discord.py: ``on_socket_event_type`` for every event, ``on_message`` for messages; as few caches as it allows."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import aiohttp

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

options = parse(__doc__)
if options.compress != "zstd-stream":
    # It takes zstd wherever this package is installed, and has no setting for it: as if it were not.
    sys.modules["zstandard"] = None  # type: ignore[assignment]

import discord  # noqa: E402
import yarl  # noqa: E402
from discord.http import Route  # noqa: E402


class Settings:
    """What is not about the events. Mixed into both kinds of client."""

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Do not wait five seconds for each shard: the gateway allows many at a time."""


class Client(Settings, discord.Client):
    """One shard."""


class ShardedClient(Settings, discord.AutoShardedClient):
    """Several shards in one process."""


def make_client(options: Options) -> Any:
    """Return a client without caches. Call it in a running loop."""
    Route.BASE = options.api_url
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(options.url)
    intents = discord.Intents.none()
    intents.value = INTENTS
    settings: dict[str, Any] = {
        "intents": intents,
        "max_messages": None,
        "member_cache_flags": discord.MemberCacheFlags.none(),
        "chunk_guilds_at_startup": False,
    }
    context = make_ssl_context(options)
    if context is not None:
        settings["connector"] = aiohttp.TCPConnector(ssl=context)
    if options.shards > 1:
        return ShardedClient(shard_count=options.shards, **settings)
    return Client(**settings)


def listen(client: Any, options: Options, finish: Any) -> None:
    """Call the meter from the hook of the mode."""
    meter = Meter(options.start, options.stop, finish)
    if options.mode == "typed":

        @client.event
        async def on_message(message: discord.Message) -> None:
            meter.hit()

    elif options.mode == "raw":

        @client.event
        async def on_socket_event_type(event_type: str) -> None:
            meter.hit()


async def rest(options: Options) -> None:
    """Be idle for the window."""
    await asyncio.sleep(SETTLE)
    idle = Idle()
    await asyncio.sleep(options.window)
    idle.finish()


async def send(client: Any, options: Options) -> None:
    """Send commands that say when they were sent."""
    await asyncio.sleep(SETTLE)
    guild = client.get_guild(options.guild_id)
    begin()
    for _ in range(options.sends):
        await asyncio.sleep(1 / options.send_rate)
        await guild.change_voice_state(channel=discord.Object(time.monotonic_ns()))
    report()


async def main() -> None:
    """Run one mode."""
    finished = asyncio.Event()
    client = make_client(options)
    listen(client, options, finished.set)
    async with client:
        running = asyncio.create_task(client.start(TOKEN))
        resting = options.mode in ("idle", "send")
        waiting = asyncio.create_task(wait_ready(client) if resting else finished.wait())
        await asyncio.wait((waiting, running), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            raise SystemExit("the client has ended by itself")
        if options.mode == "idle":
            await rest(options)
        elif options.mode == "send":
            await send(client, options)
    await running


async def wait_ready(client: Any) -> bool:
    """Wait until all shards are ready; it can be asked only after the login."""
    while True:
        try:
            await client.wait_until_ready()
        except RuntimeError:
            await asyncio.sleep(0.05)
        else:
            return True


if __name__ == "__main__":
    asyncio.run(main())
