"""One seed: its history played from beginning to end, judged, and summed up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from trioshard._simulation.invariants import judge
from trioshard._simulation.observers import observed
from trioshard._simulation.scheduler import run_seeded
from trioshard._simulation.world import World

if TYPE_CHECKING:
    from trioshard._simulation.records import Dialled

__all__ = ["Result", "run_seed"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one seed.

    Attributes:
        seed: the seed.
        complaints: what must not have happened, in words; empty if every invariant held.
        seconds: how much virtual time passed.
        connections: lines on which the shard got as far as a WebSocket.
        reconnects: attempts to connect after the first.
        commands: that users handed over.
        written: of those, the ones with a receipt.
        events: that the main listener got.
        opened: how often READY and RESUMED were read.
        met: how often each kind of trouble met each phase.
        closes: how often the gateway closed with each code.
        traits: transport, compression and end of the history.
        digest: a fingerprint of the history and of every byte on the wire.
        timeline: the history in words; empty unless it was asked for, or there are complaints.
    """

    seed: int
    complaints: list[str]
    seconds: float
    connections: int
    reconnects: int
    commands: int
    written: int
    events: int
    opened: tuple[int, int]
    met: Counter[tuple[str, str]]
    closes: Counter[int]
    traits: tuple[str, str, str]
    digest: str = ""
    timeline: list[str] = field(default_factory=list[str])


def run_seed(seed: int, *, transport: str | None = None, story: bool = False) -> Result:
    """Play the history of a seed, and judge it.

    Args:
        seed: what to draw it from.
        transport: forces a transport.
        story: whether its timeline and digest are wanted even if all is well.
    """
    world = World(seed, transport=transport)
    records = world.records

    def current() -> Dialled:
        assert world.current is not None
        return world.current

    complaints = records.complaints
    try:
        with observed(records, current, lambda: world.life):
            run_seeded(Random(f"scheduler {seed}"), world.play)
        complaints += judge(world)
    except Exception as exc:
        # Whatever it is, it belongs to this seed, and is told with it.
        complaints.append(f"an error came out: {exc!r}")
    report = world.gateway.report
    tell = story or bool(complaints)
    setup = world.setup
    return Result(
        seed=seed,
        complaints=complaints,
        seconds=world.seconds,
        connections=report.connections,
        reconnects=len(records.dialled) - 1,
        commands=len(records.calls),
        written=sum(call.answer == "receipt" for call in records.calls.values()),
        events=sum(map(len, records.heard.values())),
        opened=(
            sum(not opening.resumed for opening in records.openings),
            sum(opening.resumed for opening in records.openings),
        ),
        met=records.met,
        closes=report.closes_sent,
        traits=(setup.transport, str(setup.compress), setup.end),
        digest=records.digest() if tell else "",
        timeline=records.timeline() if tell else [],
    )
