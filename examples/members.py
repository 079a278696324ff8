"""A bot that lists the members of its guilds.

The request goes out as a gateway command, and the answer comes back as a number of events, a thousand members each.
They are told apart by a nonce and put in order by an index. A fixed timeout would be wrong for a guild of unknown
size, so the clock starts anew with each chunk.

    python examples/members.py --local
    DISCORD_TOKEN=… python examples/members.py

The bot needs the Server Members intent, which is switched on in the Developer Portal.
"""

from __future__ import annotations

import math
import secrets

import trio
from _local import run, say, tell

import trioshard
from trioshard import Intents, events
from trioshard.testing import CutAfter, LocalGateway, Scenario, SlowReplay

INTENTS = Intents.GUILDS | Intents.GUILD_MEMBERS


async def member_lister(token: str, api_url: str) -> None:
    async with trioshard.open_shard(token, intents=INTENTS, api_url=api_url) as shard:
        async for guild in shard.subscribe(events.GuildCreate):
            if not guild.unavailable:
                names = await fetch_member_names(shard, guild.id)
                say(f"{guild.name} has {len(names)} members, from {names[0]} to {names[-1]}")


async def fetch_member_names(shard: trioshard.Shard, guild_id: int, *, patience: float = 10.0) -> list[str]:
    """Ask until an answer is complete. `patience`: seconds without a chunk after which to ask again."""
    while True:
        nonce = secrets.token_hex(8)
        chunks: dict[int, events.GuildMembersChunk] = {}
        # Subscribe first: the first chunk could be here before we have asked to see it.
        with shard.subscribe(events.GuildMembersChunk, events.RateLimited, events.Ready) as answers:
            await shard.request_members(guild_id, nonce=nonce)
            with trio.move_on_after(patience) as timer:
                async for event in answers:
                    if isinstance(event, events.Ready):
                        break  # A new session knows nothing of what was asked in the old one.
                    if isinstance(event, events.RateLimited):
                        if event.meta.get("nonce") == nonce:
                            timer.deadline = math.inf
                            await trio.sleep(event.retry_after)
                            break
                    elif event.nonce == nonce:
                        timer.deadline = trio.current_time() + patience
                        chunks[event.chunk_index] = event
                        say(f"chunk {event.chunk_index + 1} of {event.chunk_count}, {len(event.members)} members")
                        if len(chunks) == event.chunk_count:
                            members = [member for _, chunk in sorted(chunks.items()) for member in chunk.members]
                            return [member.user.username for member in members if member.user is not None]
        say("the answer did not come, asking again")


# The first connection ends after so many bytes, in the middle of a chunk. The second replays slowly.
CUT_SHORT = Scenario([[CutAfter(20_000)], [SlowReplay(0.3)]])


async def story(gateway: LocalGateway) -> None:
    await tell("the first connection will break in the middle of the answer")
    await gateway.wait_connected(2)
    await tell("it broke; a new one sends again what did not arrive, slowly")
    await gateway.wait_resumed()
    await tell("the session is resumed")


if __name__ == "__main__":
    run(member_lister, story, scenario=CUT_SHORT)
