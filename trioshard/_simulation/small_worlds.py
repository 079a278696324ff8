"""The smallest scenarios in which the promise could be broken, each with every schedule tried.

`python -m trioshard._simulation.small_worlds` plays them all and prints what it took. What must hold in each of them
is in `small_stage`:

- No byte of a command leaves outside READY, nor begins to leave after the end was read, but for a write that had
  begun and could not be called back in that very turn (these are counted). Nothing follows a frame that was cut.
- Every `send` ends, in one way: a receipt (the command left whole, once; superseded: never), cancelled or closed (it
  never left whole). No write begins after its caller was cancelled.
- One handshake on a connection, in its phase. An end that was read ends the connection without waiting for any clock.
- The books of the queue balance, and every permit was used or given back. Everything ends, in bounded virtual time.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from trioshard._open_shard import run_shard
from trioshard._simulation.exhaustive import Exploration, explore, shorten
from trioshard._simulation.small_stage import BREAKS, HALVES, LINGERS, STALLS, WHOLE, Peer, Stage, must
from trioshard.protocol.commands import Command, UpdatePresence, UpdateVoiceState
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.pacing import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trioshard._simulation.exhaustive import Choices
    from trioshard._simulation.small_stage import Script

__all__ = ["SMALL_WORLDS", "SmallWorld", "main"]

Actor = Callable[[Stage], Awaitable[None]]

LONGEST: Final = 120.0
"""Virtual seconds after which a world has come to a standstill."""

READY: Final = 1.0
"""When a world begins that does not explore the first handshake."""

ONE: Final = UpdateVoiceState(guild_id=1)
TWO: Final = UpdateVoiceState(guild_id=2)
IDLE: Final = UpdatePresence(status="idle")
DND: Final = UpdatePresence(status="dnd")


@dataclass(frozen=True)
class SmallWorld:
    """A world that is small enough.

    Attributes:
        title: what is in it.
        actors: those who act, by name. They start together.
        gateway: what the gateway does on each connection.
        begins: virtual seconds after which the actors start and everything is tried; before it the shard becomes
            ready in one order only. ``None``: from the very beginning, the first handshake included.
        leaves: when the block of the shard is left; ``None``: when all actors have finished.
        settings: see `Stage`.
        judge: what must hold in the end, besides `Stage.judge`.
        large: whether it takes more than a few seconds.
    """

    title: str
    actors: Mapping[str, Actor]
    gateway: Sequence[Script]
    begins: float | None = READY
    leaves: Actor | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    judge: Callable[[Stage], None] | None = None
    large: bool = False

    async def play(self, choices: Choices) -> object:
        """Play one schedule; return what the callers were told, and on how many connections."""
        stage = Stage(choices, scripts=tuple(self.gateway), **self.settings)
        with trio.fail_after(LONGEST):
            async with trio.open_nursery() as servers:
                with stage.connected(servers):
                    await self._play(stage)
                choices.end()
                servers.cancel_scope.cancel()
        stage.judge()
        if self.judge is not None:
            self.judge(stage)
        told = tuple((caller, tuple(answers)) for caller, answers in sorted(stage.answers.items()))
        return told, len(stage.peers), stage.crossed

    async def _play(self, stage: Stage) -> None:
        async with trio.open_nursery() as beyond:
            if self.begins is None:
                self._begin(stage)
            async with run_shard(stage.shard):
                if self.begins is not None:
                    await trio.sleep_until(self.begins)
                    self._begin(stage)
                if self.leaves is not None:
                    self._start(beyond, stage)
                    await self.leaves(stage)
                else:
                    async with trio.open_nursery() as nursery:
                        self._start(nursery, stage)

    def _begin(self, stage: Stage) -> None:
        stage.choices.begin()
        stage.begun.set()

    def _start(self, nursery: trio.Nursery, stage: Stage) -> None:
        for name, actor in self.actors.items():
            nursery.start_soon(actor, stage, name=name)

    def explore(self, *, limit: int = 1_000_000, merge: bool = True) -> Exploration:
        """Play every schedule."""
        product = logging.getLogger("trioshard")
        before, product.level = product.level, logging.CRITICAL
        try:
            return explore(self.play, limit=limit, merge=merge)
        finally:
            product.level = before


# --- who acts ---


def sends(caller: str, *commands: Command, within: int = 0) -> Actor:
    """One after the other; the first at once, or up to so many turns later."""

    async def act(stage: Stage) -> None:
        await stage.sometime(within)
        for command in commands:
            await stage.send(caller, command)

    return act


def hands_over(first: Command, caller: str, second: Command) -> Actor:
    """The first without waiting for it, the second at once after it."""

    async def act(stage: Stage) -> None:
        stage.shard.send_nowait(first)
        await stage.send(caller, second)

    return act


def cancels(caller: str, within: int) -> Actor:
    """At once, or up to so many turns later."""

    async def act(stage: Stage) -> None:
        await stage.sometime(within)
        if caller in stage.scopes:
            stage.scopes[caller].cancel()
            stage.tell(f"{caller} is cancelled")

    return act


# --- what the gateway does ---


async def admits(peer: Peer) -> None:
    """Hello, READY or RESUMED, and nothing more."""
    await peer.admit()


def then(opcode: Opcode, data: object = None, *, within: int, at: float = 0.0) -> Script:
    """Admit, and say something once the story has begun, up to so many turns later."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.stage.begun.wait()
        await trio.sleep_until(at)
        await peer.stage.sometime(within)
        peer.say(opcode, data)

    return script


OP_7 = Opcode.RECONNECT
OP_9 = Opcode.INVALID_SESSION


async def invalidates_the_handshake(peer: Peer) -> None:
    """Hello, and op 9 at once, while Identify is on its way, or after it."""
    peer.say(Opcode.HELLO, {"heartbeat_interval": peer.stage.interval * 1000})
    await peer.stage.sometime(9)
    peer.say(OP_9, False)


async def asks_for_a_beat_and_invalidates(peer: Peer) -> None:
    """Admit, ask for a heartbeat within some turns, and say op 9 within some more."""
    await peer.admit()
    await peer.stage.begun.wait()
    await peer.stage.sometime(5)
    peer.say(Opcode.HEARTBEAT)
    await peer.stage.sometime(5)
    peer.say(OP_9, True)


def hangs_up(*, within: int) -> Script:
    """Admit, and end the line without a word."""

    async def script(peer: Peer) -> None:
        await peer.admit()
        await peer.stage.begun.wait()
        await peer.stage.sometime(within)
        peer.hang_up()

    return script


# --- when the block is left, and what else must hold ---


async def during_the_write(stage: Stage) -> None:
    """Leave at any moment from the begin of a write on."""
    await stage.wait_writing("voice state 1")
    await stage.sometime(6)


async def spends_the_budget(stage: Stage) -> None:
    """Nothing is left for users in this minute."""
    budget = stage.connections[-1].budget
    while budget.left(trio.current_time(), Lane.USER):
        budget.take()
        budget.commit(trio.current_time())


def beats_on_time(stage: Stage) -> None:
    """While a sender waits for the budget, heartbeats leave when they are due."""
    first, second = stage.peers[0].beats[:2]
    # From the second on, a beat may come up to ten seconds before its time.
    latest = stage.first_beat + stage.interval
    must(first == stage.first_beat and latest - 10.0 <= second <= latest, f"heartbeats left at {first}, {second}")


def whole_frames(stage: Stage) -> None:
    """No caller's cancellation cuts a frame."""
    must(not any(peer.cut for peer in stage.peers), "a cancellation has cut a frame")


def in_order(*labels: str) -> Callable[[Stage], None]:
    """What left, left in this order."""

    def check(stage: Stage) -> None:
        left = [label for peer in stage.peers for label in peer.left]
        must(left == [label for label in labels if label in left], f"the order was {left}")

    return check


ALL_AT_ONCE_OR_NOT: Final = {"writes": (WHOLE, HALVES)}

SMALL_WORLDS: Final = (
    SmallWorld(
        "one sender, op 7",
        {"a": sends("a", ONE)},
        [then(OP_7, within=12), admits],
        settings=ALL_AT_ONCE_OR_NOT,
    ),
    SmallWorld(
        "one sender, op 9",
        {"a": sends("a", ONE)},
        [then(OP_9, False, within=12), admits],
        settings=ALL_AT_ONCE_OR_NOT,
    ),
    SmallWorld(
        "two senders, op 7",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [then(OP_7, within=16), admits],
        settings=ALL_AT_ONCE_OR_NOT,
        large=True,
    ),
    SmallWorld(
        "two senders, op 9",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [then(OP_9, True, within=16), admits],
        settings=ALL_AT_ONCE_OR_NOT,
        large=True,
    ),
    SmallWorld(
        "sender, canceller",
        {"a": sends("a", ONE), "canceller": cancels("a", 12)},
        [admits],
        settings=ALL_AT_ONCE_OR_NOT,
        judge=whole_frames,
    ),
    SmallWorld(
        "sender, canceller, op 7",
        {"a": sends("a", ONE), "canceller": cancels("a", 12)},
        [then(OP_7, within=12), admits],
        settings=ALL_AT_ONCE_OR_NOT,
        large=True,
    ),
    SmallWorld(
        "sender, heartbeat, op 9",
        {"a": sends("a", ONE, within=4)},
        [asks_for_a_beat_and_invalidates, admits],
        # Whoever stands in line behind a write that lingers comes before the reader.
        settings={"writes": (WHOLE, LINGERS)},
    ),
    SmallWorld(
        "two presences, canceller of the newer",
        {"a": sends("a", IDLE), "b": sends("b", DND), "canceller": cancels("b", 14)},
        [admits],
        settings=ALL_AT_ONCE_OR_NOT,
        large=True,
    ),
    SmallWorld(
        "sender waits for READY, and for RESUMED",
        {"a": sends("a", ONE)},
        [then(OP_7, within=30), admits],
        begins=None,
        settings={"handshakes": (WHOLE, LINGERS)},
    ),
    SmallWorld(
        "two senders wait for READY, and for RESUMED",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [then(OP_7, within=30), admits],
        begins=None,
        settings={"handshakes": (HALVES, LINGERS)},
        large=True,
    ),
    SmallWorld(
        "a write that breaks, canceller",
        {"a": sends("a", ONE), "canceller": cancels("a", 12)},
        [admits],
        settings={"writes": (BREAKS, HALVES)},
    ),
    SmallWorld(
        "a write that breaks, a heartbeat is asked for",
        {"a": sends("a", ONE)},
        [then(Opcode.HEARTBEAT, within=12), admits],
        settings={"writes": (BREAKS, HALVES)},
    ),
    SmallWorld(
        "a write that breaks, two senders, op 7",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [then(OP_7, within=12), admits],
        settings={"writes": (WHOLE, BREAKS)},
        large=True,
    ),
    SmallWorld(
        "a line that ends, two senders",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [hangs_up(within=12), admits],
        large=True,
    ),
    SmallWorld(
        "a queue of one, two senders, canceller",
        {"a": sends("a", ONE), "b": sends("b", TWO), "canceller": cancels("a", 18)},
        [admits],
        settings={**ALL_AT_ONCE_OR_NOT, "capacity": 1},
    ),
    SmallWorld(
        "the block is left during a write, two senders",
        {"a": sends("a", ONE), "b": sends("b", TWO)},
        [admits],
        leaves=during_the_write,
        settings={"writes": (HALVES, STALLS)},
    ),
    SmallWorld(
        "Identify in flight, op 9",
        {"a": sends("a", ONE)},
        [invalidates_the_handshake, admits],
        begins=None,
        settings={"handshakes": (WHOLE, HALVES)},
    ),
    SmallWorld(
        "a write that stands still, op 7 at once",
        {"a": sends("a", ONE)},
        [then(OP_7, within=9), admits],
        settings={"writes": (STALLS, WHOLE)},
    ),
    SmallWorld(
        "a write that stands still, op 7 when its time is over",
        {"a": sends("a", ONE)},
        [then(OP_7, within=6, at=READY + 10.0), admits],
        settings={"writes": (STALLS, WHOLE)},
    ),
    SmallWorld(
        "a sender without budget, heartbeat",
        {"spender": spends_the_budget, "a": sends("a", ONE)},
        [admits],
        begins=5.0,
        settings={"first_beat": 5.0},
        judge=beats_on_time,
    ),
    SmallWorld(
        "two commands of one caller, op 7",
        {"a": hands_over(ONE, "a", TWO)},
        [then(OP_7, within=18), admits],
        settings=ALL_AT_ONCE_OR_NOT,
        judge=in_order("voice state 1", "voice state 2"),
    ),
)


def main() -> int:
    """Play all small worlds, print a table, and the first broken rule if there is one; return an exit status."""
    print(f"{'world':<56}{'ready':>6}{'turns':>6}{'states':>8}{'runs':>7}{'schedules':>18}{'seconds':>9}")
    for world in SMALL_WORLDS:
        found = world.explore()
        print(
            f"{world.title:<56}{found.most_ready:>6}{found.turns:>6}{found.states:>8}{found.runs:>7}"
            f"{found.schedules:>18,}{found.seconds:>9.1f}",
            flush=True,
        )
        if found.failure is not None:
            print(shorten(world.play, found.failure))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
