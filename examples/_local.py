"""What the examples share: a bot runs against Discord, or with ``--local`` against a gateway in this process.

An example is a bot, an async function of a token and the address of Discord's HTTP API, and a *story*: what happens
to the bot on the local gateway. A story is told in a few seconds, needs no token and no network, and ends the bot.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import trio

from trioshard.errors import ShardFailed
from trioshard.testing import Guild, LocalGateway, Scenario, open_local_gateway

DISCORD: Final = "https://discord.com/api/v10"
GUILD: Final = Guild(1_234_567_890_123_456_789, "Example guild", member_count=2500)
"""The guild that the bot is in, when it runs locally."""

Bot = Callable[[str, str], Awaitable[None]]
Story = Callable[[LocalGateway], Awaitable[None]]


def run(
    bot: Bot,
    story: Story,
    *,
    local_bot: Bot | None = None,
    scenario: Scenario | None = None,
    also_needs: Mapping[str, str] | None = None,
) -> None:
    """Be the main program of an example.

    `local_bot`: the bot with other settings, to suit the story. `scenario`: what goes wrong in it.
    `also_needs`: environment variables beside ``DISCORD_TOKEN``, and what they hold.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", action="store_true", help="play against a gateway in this process, then end")
    if parser.parse_args().local:
        trio.run(partial(_play, local_bot or bot, story, scenario))
        return
    for variable, meaning in {"DISCORD_TOKEN": "the token of your bot", **(also_needs or {})}.items():
        if not os.environ.get(variable):
            parser.error(f"set {variable} to {meaning}, or try --local")
    logging.basicConfig(level=logging.INFO)
    try:
        trio.run(bot, os.environ["DISCORD_TOKEN"], DISCORD)
    except ShardFailed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        pass


async def tell(text: str) -> None:
    """Print what happens next, after a moment for what has just happened."""
    await trio.sleep(0.2)
    print(f"  gateway | {text}", flush=True)


def say(text: str) -> None:
    """Print what the bot does."""
    print(f"      bot | {text}", flush=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has become true that nobody announces."""
    while not condition():  # noqa: ASYNC110 - the report has counters, and no events
        await trio.sleep(0.02)


async def _play(bot: Bot, story: Story, scenario: Scenario | None) -> None:
    with trio.fail_after(30):
        async with open_local_gateway(guilds=[GUILD], scenario=scenario) as gateway, trio.open_nursery() as nursery:
            nursery.start_soon(bot, "a-token-for-the-local-gateway", gateway.api_url)
            await story(gateway)
            nursery.cancel_scope.cancel()
    seen = gateway.report
    await tell(
        f"{seen.connections} connections, {seen.commands_by_op.total()} commands, {len(seen.violations)} violations"
    )
    if seen.violations:
        sys.exit(f"violations: {dict(seen.violations)}")
