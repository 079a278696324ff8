"""hikari against a local gateway: identify, a message, op 7, resume. Prints JSON lines, exits 0 when all was seen.

Runs in an environment of its own, with nothing but hikari in it.
"""

import argparse
import asyncio
import json
import sys

import hikari

# hikari reads the id of the bot out of its token.
TOKEN = "MTEwMDAwMDAwMDAwMDAwMDAwMQ.peer.token"


def show(what, **more):
    print(json.dumps({"saw": what, **more}), flush=True)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="ws://… of the gateway; hikari asks the API for it")
    parser.add_argument("--api-url", required=True, help="http://… of its REST API, with the version")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds")
    options = parser.parse_args()
    wanted = {"ready", "message", "resumed"}
    done = asyncio.Event()

    def saw(what, **more):
        show(what, **more)
        wanted.discard(what)
        if not wanted:
            done.set()

    bot = hikari.GatewayBot(
        TOKEN,
        rest_url=options.api_url,
        intents=hikari.Intents.ALL_MESSAGES | hikari.Intents.GUILDS | hikari.Intents.MESSAGE_CONTENT,
        banner=None,
        logs=None,
    )

    @bot.listen()
    async def on_ready(event: hikari.ShardReadyEvent) -> None:
        saw("ready", user=event.my_user.username, guilds=len(event.unavailable_guilds))

    @bot.listen()
    async def on_message(event: hikari.MessageCreateEvent) -> None:
        saw("message", content=event.content)

    @bot.listen()
    async def on_resumed(_event: hikari.ShardResumedEvent) -> None:
        saw("resumed")

    try:
        async with asyncio.timeout(options.timeout):
            await bot.start(check_for_updates=False)
            await done.wait()
    except TimeoutError:
        show("timeout", missing=sorted(wanted))
    if bot.is_alive:
        await bot.close()
    return 1 if wanted else 0


sys.exit(asyncio.run(main()))
