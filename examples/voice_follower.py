"""A bot that follows one user through the voice channels of a guild.

It does not listen or speak, that is another protocol. It shows gateway commands that answer events: when the user
moves while the connection is down, the bot hears of it after the resume, and moves then.

    python examples/voice_follower.py --local
    DISCORD_TOKEN=… FOLLOW_USER=… python examples/voice_follower.py

FOLLOW_USER is the id of the user.
"""

from __future__ import annotations

import os
from functools import partial

from _local import GUILD, run, say, tell

import trioshard
from trioshard import Intents, events
from trioshard.testing import DelayHello, LocalGateway, Scenario

INTENTS = Intents.GUILDS | Intents.GUILD_VOICE_STATES


async def follower(token: str, api_url: str, *, user_id: int | None = None) -> None:
    followed = int(os.environ["FOLLOW_USER"]) if user_id is None else user_id
    async with trioshard.open_shard(token, intents=INTENTS, api_url=api_url) as shard:
        async for event in shard.subscribe(events.VoiceStateUpdate, events.GuildCreate):
            if isinstance(event, events.GuildCreate):
                # Where everybody is when the session starts. Later only changes are told.
                for state in event.voice_states:
                    if state.user_id == followed:
                        await follow(shard, event.id, state.channel_id)
            elif event.user_id == followed and event.guild_id is not None:
                await follow(shard, event.guild_id, event.channel_id)


async def follow(shard: trioshard.Shard, guild_id: int, channel_id: int | None) -> None:
    receipt = await shard.update_voice_state(guild_id, channel_id, self_deaf=True)
    where = "left voice" if channel_id is None else f"went to channel {channel_id}"
    say(f"{where}, on connection {receipt.epoch}")


LEADER = 42
LOBBY, STAGE, GARDEN = 1001, 1002, 1003


async def story(gateway: LocalGateway) -> None:
    async def leader_goes(channel_id: int | None) -> None:
        await tell("the user leaves voice" if channel_id is None else f"the user goes to channel {channel_id}")
        state = {"guild_id": GUILD.id, "channel_id": channel_id, "user_id": LEADER, "session_id": "voice"}
        gateway.publish("VOICE_STATE_UPDATE", state, guild_id=GUILD.id)

    await gateway.wait_ready()
    await leader_goes(LOBBY)
    await gateway.wait_command(1)

    await tell("Discord closes the connection")
    gateway.connections[0].close(4000)
    await leader_goes(STAGE)
    await leader_goes(GARDEN)
    await gateway.wait_resumed()
    await tell("the session is resumed")
    await gateway.wait_command(3)

    await leader_goes(None)
    await gateway.wait_command(4)


if __name__ == "__main__":
    run(
        follower,
        story,
        local_bot=partial(follower, user_id=LEADER),
        scenario=Scenario([[], [DelayHello(1.0)]]),
        also_needs={"FOLLOW_USER": "the id of the user to follow"},
    )
