"""hikari: a listener for ``ShardPayloadEvent``, or for ``MessageCreateEvent``; no caches."""

from __future__ import annotations

import asyncio
import sys
import time

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
    # A bot takes zstd wherever this package is installed, and has no setting for it: as if it were not.
    sys.modules["backports.zstd"] = None  # type: ignore[assignment]

import hikari  # noqa: E402


def make_bot(options: Options) -> hikari.GatewayBot:
    """Return a bot without caches."""
    context = make_ssl_context(options)
    http = hikari.impl.HTTPSettings() if context is None else hikari.impl.HTTPSettings(ssl=context)
    return hikari.GatewayBot(
        TOKEN,
        rest_url=options.api_url,
        intents=hikari.Intents(INTENTS),
        cache_settings=hikari.impl.CacheSettings(components=hikari.api.CacheComponents.NONE),
        http_settings=http,
        auto_chunk_members=False,
        banner=None,
        logs=None,
    )


def listen(bot: hikari.GatewayBot, options: Options, finished: asyncio.Event) -> None:
    """Call the meter from the hook of the mode."""
    meter = Meter(options.start, options.stop, finished.set)
    if options.mode == "typed":

        @bot.listen()
        async def on_message(event: hikari.MessageCreateEvent) -> None:
            meter.hit()

    elif options.mode == "raw":

        @bot.listen()
        async def on_payload(event: hikari.ShardPayloadEvent) -> None:
            meter.hit()


async def rest(options: Options) -> None:
    """Be idle for the window."""
    await asyncio.sleep(SETTLE)
    idle = Idle()
    await asyncio.sleep(options.window)
    idle.finish()


async def send(bot: hikari.GatewayBot, options: Options) -> None:
    """Send commands that say when they were sent."""
    await asyncio.sleep(SETTLE)
    begin()
    for _ in range(options.sends):
        await asyncio.sleep(1 / options.send_rate)
        await bot.update_voice_state(options.guild_id, time.monotonic_ns())
    report()


async def main() -> None:
    """Run one mode."""
    bot = make_bot(options)
    finished = asyncio.Event()
    listen(bot, options, finished)
    await bot.start(check_for_updates=False, shard_count=options.shards)
    if options.mode == "idle":
        await rest(options)
    elif options.mode == "send":
        await send(bot, options)
    else:
        await finished.wait()
    await bot.close()


if __name__ == "__main__":
    asyncio.run(main())
