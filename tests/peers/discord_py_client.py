"""discord.py against a local gateway: identify, a message, op 7, resume. Prints JSON lines, exits 0 when all was seen.

Runs in an environment of its own, with nothing but discord.py in it.
"""

import argparse
import asyncio
import json
import sys

import discord
import yarl
from discord.http import Route


def show(what, **more):
    print(json.dumps({"saw": what, **more}), flush=True)


class Client(discord.Client):
    def __init__(self):
        super().__init__(intents=discord.Intents.default() | discord.Intents(message_content=True))
        self.wanted = {"ready", "message", "resumed"}

    async def saw(self, what, **more):
        show(what, **more)
        self.wanted.discard(what)
        if not self.wanted:
            await self.close()

    async def on_ready(self):
        await self.saw("ready", user=self.user.name, guilds=len(self.guilds))

    async def on_message(self, message):
        await self.saw("message", content=message.content)

    async def on_resumed(self):
        await self.saw("resumed")


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="ws://… of the gateway")
    parser.add_argument("--api-url", required=True, help="http://… of its REST API, with the version")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds")
    options = parser.parse_args()
    Route.BASE = options.api_url
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(options.url)
    client = Client()
    try:
        async with asyncio.timeout(options.timeout), client:
            await client.start("peer.test.token")
    except TimeoutError:
        show("timeout", missing=sorted(client.wanted))
    return 1 if client.wanted else 0


sys.exit(asyncio.run(main()))
