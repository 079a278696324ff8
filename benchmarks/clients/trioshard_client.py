"""trioshard: ``open_shard``, and ``async for`` over a subscription."""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import trio

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
if options.transport == "trio-websocket":
    # Whoever has this transport has no extras, and so not this package, which comes with trioshard[speed].
    sys.modules["zlib_ng"] = None  # type: ignore[assignment]

import trioshard  # noqa: E402

if TYPE_CHECKING:
    from trioshard import Shard, Subscription


async def count(subscription: Subscription[Any], meter: Meter) -> None:
    """Call the meter for each event."""
    async for _event in subscription:
        meter.hit()


async def ignore(subscription: Subscription[Any]) -> None:
    """Take every event."""
    async for _event in subscription:
        pass


async def rest(shards: list[Shard], options: Options) -> None:
    """Be idle for the window."""
    for shard in shards:
        await shard.wait_ready()
    await trio.sleep(SETTLE)
    idle = Idle()
    await trio.sleep(options.window)
    idle.finish()


async def send(shard: Shard, options: Options) -> None:
    """Send commands that say when they were sent."""
    await shard.wait_ready()
    await trio.sleep(SETTLE)
    begin()
    for _ in range(options.sends):
        await trio.sleep(1 / options.send_rate)
        await shard.update_voice_state(options.guild_id, time.monotonic_ns())
    report()


async def main() -> None:
    """Run one mode."""
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        shards = [
            await stack.enter_async_context(
                trioshard.open_shard(
                    TOKEN,
                    intents=INTENTS,
                    shard=(number, options.shards),
                    url=options.url,
                    compress=options.compress,
                    transport=options.transport,
                    ssl_context=make_ssl_context(options),
                )
            )
            for number in range(options.shards)
        ]
        kinds = (trioshard.events.MessageCreate,) if options.mode == "typed" else ()
        subscriptions = [shard.subscribe(*kinds) for shard in shards for _ in range(options.subscribers)]
        if options.mode in ("raw", "typed"):
            meter = Meter(options.start, options.stop, nursery.cancel_scope.cancel)
            for subscription in subscriptions:
                nursery.start_soon(count, subscription, meter)
            await trio.sleep_forever()
        for subscription in subscriptions:
            nursery.start_soon(ignore, subscription)
        if options.mode == "idle":
            await rest(shards, options)
        elif options.mode == "send":
            await send(shards[0], options)
        else:
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
