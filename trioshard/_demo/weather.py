"""The gateway's part of the demo: heavy weather, and numbered events in the midst of it.

The weather is `trioshard.testing.Churn` with three changes. It can be calmed, so that the books can be closed. The
events that Churn dispatches at the awkward moments (during a replay, right before a cut) are numbered ones. And a *new*
session is not cut before the gateway has read something that belongs to it: a client cannot resume a session whose
READY has never reached it, so nobody could be blamed for its events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from trioshard.testing import Action, After, Churn, Publish, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from trioshard._demo.ledger import Ledger
    from trioshard.testing import LocalGateway, Moment, Powers

__all__ = ["Publisher", "Weather", "heavy_weather", "number_of"]

LIFETIME: Final = (0.02, 0.2)
"""Seconds from READY or RESUMED to the end of a connection, from and to."""

NEW_SESSION_EVERY: Final = 12.0
"""Seconds, at least, between two sessions that the gateway ends for good (op 9 ``false``)."""

PAUSE: Final = 0.02
"""Seconds between two bursts of events, at most."""

BURST: Final = 3
"""Events in one burst, at most."""

_PREFIX: Final = "event "


def heavy_weather(
    seed: int, *, lifetime: tuple[float, float] = LIFETIME, new_session_every: float = NEW_SESSION_EVERY
) -> Weather:
    """Draw a weather that leaves no connection alone for long.

    Args:
        seed: what it is drawn from.
        lifetime: seconds from READY or RESUMED to the end of a connection, from and to.
        new_session_every: seconds, at least, between two sessions that the gateway ends for good.
    """
    return Weather(Churn(seed, lifetime=lifetime, op9_false_every=new_session_every).script_for)


def number_of(content: str) -> int | None:
    """Return the number in the text of a message, or ``None`` if it is not one of these."""
    return int(content.removeprefix(_PREFIX)) if content.startswith(_PREFIX) else None


class Publisher:
    """Publishes numbered messages, and enters in the books which sessions were given them."""

    def __init__(self, gateway: LocalGateway, ledger: Ledger) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._count = 0

    def publish(self) -> int:
        """Publish the next message; its number."""
        self._count += 1
        self._gateway.send_message(f"{_PREFIX}{self._count}")
        # No other task runs between these two lines: what is not over now is what has just been given the message.
        alive = [entry.session_id for entry in self._gateway.report.sessions.values() if entry.ended is None]
        self._ledger.publish(self._count, alive)
        return self._count

    async def run(self, random: Random, *, pause: float = PAUSE) -> None:
        """Publish until cancelled, with at most ``pause`` seconds between two bursts."""
        while True:
            for _ in range(random.randint(1, BURST)):
                self.publish()
            await trio.sleep(random.uniform(0.0, pause))


class Weather:
    """Says what happens to each connection, until it is calmed. Hand it to `open_local_gateway` as the scenario.

    Args:
        source: the scripts that it changes, by the number of the connection.
    """

    def __init__(self, source: Callable[[int], Sequence[Setting | Action]]) -> None:
        self._source = source
        self.calm = False
        """Set it, and nothing goes wrong any more."""
        self.publish: Callable[[], object] = _nothing
        """How to publish an event."""

    def script_for(self, number: int) -> Sequence[Setting | Action]:
        """Say what happens to the connection with this number."""
        return () if self.calm else list(self._change(self._source(number)))

    def _change(self, script: Sequence[Setting | Action]) -> Iterator[Setting | Action]:
        for step in script:
            if isinstance(step, Setting):
                yield step
                continue
            yield _Unless(self, self._instead_of(step))
            if isinstance(step, After) and step.moment == "session":
                yield _TakenUp()

    def _instead_of(self, step: Action) -> Action:
        if isinstance(step, Publish):
            return _PublishNumbered(self)
        return step


def _nothing() -> None:
    """Publish nothing: before there is a gateway."""


class _Unless(Action):
    """Perform an action unless it is calm; then there is nothing more to come."""

    def __init__(self, weather: Weather, action: Action) -> None:
        self._weather = weather
        self._action = action

    async def perform(self, connection: Powers) -> None:
        """Perform it, or wait for ever."""
        if self._weather.calm:
            await trio.sleep_forever()
        await self._action.perform(connection)


class _PublishNumbered(Action):
    """Publish a numbered event right now."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    async def perform(self, connection: Powers) -> None:
        """Publish it."""
        self._weather.publish()


class _TakenUp(Action):
    """Wait until the client has shown that it knows its session: it resumed it, or has sent a command in it."""

    async def perform(self, connection: Powers) -> None:
        """Wait for either."""

        async def wait_for(moment: Moment) -> None:
            await connection.wait_for(moment)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, "resumed")
            nursery.start_soon(wait_for, "command")
