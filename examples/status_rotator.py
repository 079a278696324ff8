"""A bot whose status changes for ever.

Timers know nothing of connections. Sooner or later one fires in the middle of a reconnect, and a presence that is
sent between Resume and RESUMED costs the bot its session (close code 4003). Here it waits for its moment instead,
and the receipt tells how long.

    python examples/status_rotator.py --local
    DISCORD_TOKEN=… python examples/status_rotator.py
"""

from __future__ import annotations

from functools import partial
from itertools import cycle

import trio
from _local import run, say, tell

import trioshard
from trioshard import Activity, Intents
from trioshard.testing import After, DelayHello, DelayResumed, LocalGateway, Scenario

STATUSES = (
    Activity.watching("the reconnects"),
    Activity.playing("by the rules"),
    Activity.listening("heartbeats"),
    Activity.custom("one of five in twenty seconds"),
)


async def rotator(token: str, api_url: str, *, every: float = 15.0) -> None:
    # events=False: nobody subscribes here, so nothing has to be kept for a subscriber.
    async with trioshard.open_shard(token, intents=Intents.NONE, api_url=api_url, events=False) as shard:
        for status in cycle(STATUSES):
            receipt = await shard.update_presence(activities=[status])
            say(f"{status.state or status.name!r} on connection {receipt.epoch}, after waiting {receipt.waited:.1f} s")
            await trio.sleep(every)


# The second connection takes its time: Hello comes late, and so does RESUMED.
SLOW_RESUME = Scenario([[], [DelayHello(0.5), After("resume"), DelayResumed(1.0)]])


async def story(gateway: LocalGateway) -> None:
    await gateway.wait_command(2)
    await tell("Discord asks the bot to reconnect, as it does every few hours")
    gateway.connections[0].reconnect()
    await gateway.wait_resumed()
    await tell("the session is resumed, after a slow handshake")
    await gateway.wait_command(4)
    await tell("the connection breaks without a word")
    gateway.connections[-1].reset()
    await gateway.wait_resumed(2)
    await tell("the session is resumed")
    await gateway.wait_command(5)


if __name__ == "__main__":
    run(rotator, story, local_bot=partial(rotator, every=0.4), scenario=SLOW_RESUME)
