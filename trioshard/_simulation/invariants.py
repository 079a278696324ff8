"""What must hold in every history. The books of both ends, and of the wire between them, are compared.

==  =================================================================================================================
I1  The gateway saw no payload that was illegal in its phase. No command began to leave outside READY, and nothing left
    after the shard had read that the connection ends.
I2  Every receipt matches one whole frame on the wire of the connection it names, and what arrived is what was written.
    Of what was withdrawn, superseded or failed there is no whole frame. Nothing but the end of a connection cuts a
    frame, and nothing follows one that is cut. Commands of one caller leave in order; the newest presence wins, and a
    new session begins with it. Who is cancelled goes free.
I3  Each event of a session reaches the listener once and in order, over reconnects and a restart. A session is given up
    only for a reason, and not resumed when it is over. A refusal for good is the end.
I4  Never more than 120 payloads in any 60 s, 5 presences in 20 s, one full list for each guild in 30 s. No heartbeat
    is late, and each carries the last sequence.
I5  Identify and Resume leave at most once per connection, in their phase, for the right URL; Identifies are 5 s apart.
I6  The end of a block takes bounded time, and leaves no task, line or waiter behind. No connection that may be resumed
    is closed with 1000 or 1001.
I7  When nothing goes wrong any more, the shard is ready again in bounded time, and everything pending completes. Who
    waits for readiness wakes in the moment in which READY or RESUMED is read. A dead peer is given up in time, and a
    live one is not. There is no hot loop.
==  =================================================================================================================

What can only be seen while a history is played (the rest of I6 and I7) is checked by `trioshard._simulation.world`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trioshard._simulation import check_events, check_sending, check_timing
from trioshard._simulation.books import Books

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trioshard._simulation.world import World

__all__ = ["judge"]

CHECKS: Final[tuple[tuple[str, Callable[[Books], Iterator[str]]], ...]] = (
    ("I1", check_sending.legality),
    ("I2", check_sending.receipts),
    ("I2", check_sending.arrivals),
    ("I2", check_sending.order),
    ("I2", check_sending.presences),
    ("I2", check_sending.identities),
    ("I2", check_sending.interruptions),
    ("I3", check_events.events),
    ("I3", check_events.restart),
    ("I3", check_events.sessions),
    ("I3", check_events.dismissals),
    ("I3", check_events.refusals),
    ("I4", check_timing.limits),
    ("I4", check_timing.heartbeats),
    ("I4", check_timing.first_beats),
    ("I4", check_sending.pulses),
    ("I5", check_sending.handshakes),
    ("I5", check_sending.addresses),
    ("I6", check_sending.goodbyes),
    ("I7", check_timing.waits),
    ("I7", check_timing.recoveries),
    ("I7", check_timing.pauses),
    ("I7", check_timing.verdicts),
    ("I7", check_timing.false_alarms),
)


def judge(world: World) -> list[str]:
    """Return what must not have happened in a history that is over, in words."""
    books = Books(world)
    return [f"{name}: {complaint}" for name, check in CHECKS for complaint in check(books)]
