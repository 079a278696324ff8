"""A bot that answers "!ping".

Events come through the gateway, answers go out over HTTP: Discord takes messages nowhere else. A message that is
sent while the connection is down is not missed: the session is resumed, and Discord sends it after all.

    python examples/ping.py --local
    DISCORD_TOKEN=… python examples/ping.py

The bot needs the Message Content intent, which is switched on in the Developer Portal.
"""

from __future__ import annotations

import httpx
import trio
from _local import run, say, tell, until

import trioshard
from trioshard import Intents, events
from trioshard.testing import LocalGateway

INTENTS = Intents.GUILD_MESSAGES | Intents.MESSAGE_CONTENT


async def ping_bot(token: str, api_url: str) -> None:
    headers = {
        "Authorization": f"Bot {token}",
        # Discord asks every program for a User-Agent of this form: whose it is, and which version.
        "User-Agent": "DiscordBot (https://example.com/ping-bot, 1.0)",
    }
    async with (
        httpx.AsyncClient(base_url=api_url, headers=headers) as http,
        trioshard.open_shard(token, intents=INTENTS, api_url=api_url) as shard,
    ):
        async for message in shard.subscribe(events.MessageCreate):
            if message.content.startswith("!ping") and not message.author.bot:
                await answer(http, message, "pong!")


async def answer(http: httpx.AsyncClient, message: events.MessageCreate, content: str) -> None:
    body = {"content": content, "message_reference": {"message_id": str(message.id)}}
    while True:
        response = await http.post(f"/channels/{message.channel_id}/messages", json=body)
        if response.status_code != 429:
            break
        # HTTP has limits of its own, and says when to come back.
        await trio.sleep(float(response.headers.get("Retry-After", "1")))
    if response.is_success:
        say(f"answered {message.content!r} of {message.author.username}")
    else:
        say(f"Discord did not take the answer: {response.status_code} {response.text}")


async def story(gateway: LocalGateway) -> None:
    await gateway.wait_ready()
    await tell('somebody writes "!ping"')
    gateway.send_message("!ping")
    await until(lambda: answers(gateway) == 1)

    await tell("the connection is cut, and while it is down somebody writes again")
    gateway.connections[0].drop()
    gateway.send_message("!ping again")
    await gateway.wait_resumed()
    await tell("the session is resumed")
    await until(lambda: answers(gateway) == 2)


def answers(gateway: LocalGateway) -> int:
    return gateway.report.http_requests["POST /channels/{channel}/messages"]


if __name__ == "__main__":
    run(ping_bot, story)
