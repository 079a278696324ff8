"""A shard and the built-in gateway in one memory, under the virtual clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

import trioshard
from trioshard import Backoff, Intents, Shard
from trioshard.testing import LocalGateway, Scenario, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

INTENTS = Intents.GUILDS | Intents.GUILD_MESSAGES
QUICK = Backoff(base=0.5, cap=2.0)
"""Virtual seconds: quick enough for short histories."""
HOUR = 3600.0


@asynccontextmanager
async def open_world(
    *scripts: list[Any],
    then: list[Any] | None = None,
    gateway: dict[str, Any] | None = None,
    within: float = HOUR,
    **shard: Any,
) -> AsyncGenerator[tuple[LocalGateway, Shard]]:
    """Open a gateway that follows ``scripts``, one for each connection, and a shard that is connected to it.

    When the block ends, the gateway must have seen no payload that was illegal in its phase.
    """
    options: dict[str, Any] = {"intents": INTENTS, "backoff": QUICK} | shard
    scenario = Scenario(scripts, then=then or [])
    async with open_local_gateway(port=None, token="secret", scenario=scenario, **(gateway or {})) as server:
        # A history that stops going on must fail: virtual time costs nothing, but has no end.
        with trio.fail_after(within):
            async with trioshard.open_shard("secret", url=server.url, dial=server.dial, **options) as client:
                yield server, client
        assert not server.report.violations, list(server.report.violation_list)
