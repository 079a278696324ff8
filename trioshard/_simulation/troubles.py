"""What can go wrong on a connection: each kind by name, with the phases that it has to be met in, and how it is made.

A kind is a list of steps for the script of a connection (`trioshard.testing`), to be taken when its moment has come.
What needs more than a gateway (the line, the clock) is asked of the `Place` that the trouble is made in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trioshard import Phase
from trioshard.testing import (
    Action,
    BigMessage,
    Close,
    Drop,
    InvalidateSession,
    Publish,
    Reconnect,
    RequestHeartbeat,
    Reset,
    SendBytes,
    SendPayload,
    SendRaw,
    SendText,
    Setting,
    Silence,
    Stall,
    StopAcks,
    TruncatedCompression,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from trioshard._simulation.network import Line
    from trioshard.testing import Powers

    Steps = Sequence[Setting | Action]

__all__ = ["CODES", "ENDS", "Do", "FATAL_CODES", "INTERLUDES", "Place", "Trouble", "Turns"]

GREETED, READY, RESUMING = Phase.GREETED, Phase.READY, Phase.RESUMING
GREETED_ON: Final = frozenset({GREETED, Phase.IDENTIFYING, RESUMING, READY})
ANY: Final = GREETED_ON | {Phase.AWAITING_HELLO}

RESUMABLE_CODES: Final = (4000, 4002, 4006, 4008, 4321, 4900, 1011, 1012)
SUSPECT_CODES: Final = (1000, 1001, 4001, 4005)
"""A session that is closed twice with one of these is given up, and rightly."""
ENDING_CODES: Final = (4003, 4007, 4009)
ODD: Final = ("true", None, 1, [True], {"resumable": True})
"""Only a literal ``true`` resumes."""
FATAL_CODES: Final = (4004, 4010, 4011, 4012, 4013, 4014)

CODES: Final = (*RESUMABLE_CODES, *SUSPECT_CODES, *ENDING_CODES, *FATAL_CODES)
"""Every close code that a shard is sent."""


class Place(Protocol):
    """Where a trouble is made: one connection of one history."""

    @property
    def random(self) -> Random:
        """The source of chance of this connection."""
        ...

    @property
    def line(self) -> Line:
        """The line below it."""
        ...

    @property
    def write_timeout(self) -> float:
        """Seconds that the shard gives a write."""
        ...

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between the shard's heartbeats."""
        ...

    def freeze(self, seconds: float) -> None:
        """Stop the process for so long: everybody finds that time has jumped."""
        ...

    def sleep_host(self, seconds: float) -> None:
        """Let the machine sleep: only the clock on the wall goes on."""
        ...

    def meet(self, kind: str) -> None:
        """Note that a trouble of this kind meets the connection now."""
        ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble.

    Attributes:
        phases: of the shard's connection, in which it has to be met sooner or later.
        steps: how it is made.
        weight: how often it is drawn, in proportion.
        noted: whether somebody else notes when it is met, as it strikes later than it is made.
    """

    phases: frozenset[Phase]
    steps: Callable[[Place], Steps]
    weight: float = 1.0
    noted: bool = False


@dataclass(frozen=True, slots=True)
class Turns(Action):
    """Wait for so many turns of the scheduler: no time passes."""

    count: int

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        for _ in range(self.count):
            await trio.lowlevel.checkpoint()


class Do(Action):
    """Do something that is no business of the gateway's."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    async def perform(self, connection: Powers) -> None:
        """Do it."""
        self._act()


def _close(codes: Sequence[int]) -> Callable[[Place], Steps]:
    return lambda place: [Close(place.random.choice(codes))]


def _cut(kind: str, *, up: bool) -> Callable[[Place], Steps]:
    def steps(place: Place) -> Steps:
        line, random = place.line, place.random
        way = line.up if up else line.down
        nbytes, reset = random.randrange(1, 260), random.random() < 0.5

        def cut() -> None:
            line.cut_after(way, nbytes, reset=reset)
            strike = way.on_cut

            def on_cut() -> None:
                place.meet(kind)
                assert strike is not None
                strike()

            way.on_cut = on_cut

        # Something has to pass for the cut to come.
        passing: Steps = [RequestHeartbeat(random.randint(1, 4)), *([] if up else [Publish("CUT", {"x": "y" * 64}, 4)])]
        return [Do(cut), *passing, _Pass(2.0), Drop()]

    return steps


@dataclass(frozen=True, slots=True)
class _Pass(Action):
    """Let time pass."""

    seconds: float

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        await trio.sleep(self.seconds)


def _garbage(place: Place) -> Steps:
    random = place.random
    kinds: list[Steps] = [
        [SendText("{")],
        [SendText('{"op":"x"}')],
        [SendText("[]")],
        [SendBytes(b"\xff\x00\xff\xff")],
        [SendBytes(random.randbytes(random.randint(1, 40)) + b"\x00\x00\xff\xff")],
        [SendRaw(b"\xf3" + random.randbytes(random.randint(1, 20)))],
        [SendRaw(b"\x81\x05\xc3\x28\xc3\x28\xc3")],
        [TruncatedCompression(), Publish("TRUNCATED", {"n": [random.random() for _ in range(20)]})],
        [SendPayload([])],
    ]
    return [*random.choice(kinds), _Pass(random.uniform(0.0, 3.0)), Drop()]


def _stall(place: Place) -> Steps:
    seconds = place.write_timeout * place.random.uniform(1.1, 3.0) + 3.0 * place.heartbeat_interval
    return [Stall(seconds), Drop()]


def _silence(place: Place) -> Steps:
    return [Silence(), _Pass(40.0 * place.heartbeat_interval), Drop()]


def _stop_acks(place: Place) -> Steps:
    return [StopAcks(), _Pass(40.0 * place.heartbeat_interval), Drop()]


def _deaf(place: Place) -> Steps:
    def clog() -> None:
        place.line.up.clogged = True

    ends: list[Steps] = [[Reconnect()], [InvalidateSession(True)], [Close(4000)]]
    return [Do(clog), _Pass(place.random.uniform(0.0, 2.0)), *place.random.choice(ends)]


def _freeze(place: Place) -> Steps:
    seconds = place.heartbeat_interval * place.random.uniform(1.2, 8.0)
    return [Do(lambda: place.freeze(seconds)), _Pass(15.0), Reconnect()]


def _sleep_host(place: Place) -> Steps:
    seconds = place.heartbeat_interval * place.random.uniform(1.5, 500.0)
    return [Do(lambda: place.sleep_host(seconds)), _Pass(15.0), Reconnect()]


ENDS: Final[Mapping[str, Trouble]] = {
    "op 7": Trouble(ANY, lambda _: [Reconnect()], 6.0),
    "op 9 true": Trouble(GREETED_ON, lambda _: [InvalidateSession(True)], 3.0),
    "op 9 false": Trouble(GREETED_ON, lambda _: [InvalidateSession(False)], 1.3),
    "op 9, neither": Trouble(GREETED_ON, lambda place: [SendPayload({"op": 9, "d": place.random.choice(ODD)})], 0.5),
    "close, resumable": Trouble(ANY, _close(RESUMABLE_CODES), 3.2),
    "close without a code": Trouble(ANY, lambda _: [SendRaw(b"\x88\x00"), Drop()], 0.6),
    "close, suspect": Trouble(ANY, _close(SUSPECT_CODES), 0.9),
    "close, session over": Trouble(ANY, _close(ENDING_CODES), 0.9),
    "end of stream": Trouble(ANY, lambda _: [Drop()], 2.5),
    "reset": Trouble(ANY, lambda _: [Reset()], 2.5),
    "cut on the way down": Trouble(ANY - {GREETED}, _cut("cut on the way down", up=False), 2.5, noted=True),
    "cut on the way up": Trouble(GREETED_ON - {GREETED}, _cut("cut on the way up", up=True), 2.5, noted=True),
    "garbage": Trouble(ANY, _garbage, 1.2),
    "stall": Trouble(ANY, _stall, 0.7),
    "deaf peer": Trouble(ANY - {GREETED}, _deaf, 0.7),
    "silence": Trouble(ANY, _silence, 0.6),
    "no ACKs": Trouble(GREETED_ON, _stop_acks, 0.5),
    "frozen process": Trouble(ANY, _freeze, 0.8),
    "sleeping machine": Trouble(GREETED_ON, _sleep_host, 0.5),
}
"""What ends a connection."""


def _short_stall(place: Place) -> Steps:
    return [Stall(place.random.uniform(0.1, 0.8) * place.write_timeout)]


def _short_freeze(place: Place) -> Steps:
    seconds = place.heartbeat_interval * place.random.uniform(0.05, 0.6)
    return [Do(lambda: place.freeze(seconds))]


def _second_hello(place: Place) -> Steps:
    milliseconds = round(place.heartbeat_interval * 1000)
    return [SendPayload({"op": 10, "d": {"heartbeat_interval": milliseconds}})]


def _pings(place: Place) -> Steps:
    count = place.random.choice((1, 2, 30))
    return [SendRaw(b"".join(b"\x89\x04" + number.to_bytes(4) for number in range(count)))]


INTERLUDES: Final[Mapping[str, Trouble]] = {
    "heartbeat requests": Trouble(GREETED_ON, lambda place: [RequestHeartbeat(place.random.choice((1, 2, 5)))], 2.0),
    "second Hello": Trouble(GREETED_ON, _second_hello),
    "unknown opcode": Trouble(ANY, lambda place: [SendPayload({"op": place.random.choice((5, 12, 99)), "d": None})]),
    "pings": Trouble(ANY, _pings),
    "large event": Trouble(
        frozenset({RESUMING, READY}), lambda place: [BigMessage(place.random.randint(2_000, 150_000))], 0.6
    ),
    "short stall": Trouble(ANY, _short_stall, 0.8),
    "short freeze": Trouble(ANY, _short_freeze, 0.6),
}
"""What a connection can live through."""
