"""Beats, asks whether the peer is still there, and notices when time has jumped.

Heartbeats pass the queue and the users' budget, and wait at most for the one write that holds the lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from trioshard.protocol.codec import encode_heartbeat
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.pacing import Lane
from trioshard.protocol.recovery import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard._wire import Wire
    from trioshard.protocol.machine import Machine
    from trioshard.protocol.pacing import SendBudget
    from trioshard.protocol.pulse import Pulse

__all__ = ["Heartbeater"]

CLOCK_CHECK: Final = 10.0
"""Seconds between two looks at the clocks. After a sleep of the machine the timer itself does not wake us: it
stood still as well. All shards of a process look at the same moments, so that it wakes once for all of them; and who is
awake does not wake again for a beat that is due before the next look."""


class Heartbeater:
    """Keeps one connection alive.

    Args:
        wire: where to beat.
        machine: for the sequence that a beat carries.
        pulse: the account of beats and ACKs.
        budget: the 120 payloads a minute of this connection.
        wall_clock: seconds on a clock that goes on while the machine sleeps.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        machine: Machine,
        pulse: Pulse,
        budget: SendBudget,
        wall_clock: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._machine = machine
        self._pulse = pulse
        self._budget = budget
        self._wall_clock = wall_clock
        self._requested = False
        self._wake = trio.lowlevel.ParkingLot()
        self._seen = trio.current_time(), wall_clock()
        """What the two clocks said at the last look."""

    def beat_now(self) -> None:
        """The server asks for a heartbeat. Several requests before the next beat are one."""
        self._requested = True
        self._wake.unpark_all()

    def interval_changed(self) -> None:
        """The next beat may be due earlier than we went to sleep for."""
        self._wake.unpark_all()

    async def run(self) -> tuple[Ending, str]:
        """Beat until the peer is given up, or the connection is; say why.

        Raises:
            ConnectionLost: a write broke.
        """
        while True:
            now = trio.current_time()
            due = self._pulse.next_beat
            if self._pulse.beat_due(now) or self._pulse.may_beat_early(now, CLOCK_CHECK):
                if self._pulse.is_zombie(now):
                    return Ending.ZOMBIE, "no heartbeat was acknowledged, and nothing else arrived"
                due = now + self._budget.wait(now, Lane.SCHEDULED_BEAT)
                if due <= now:
                    if not await self._beat(scheduled=True):
                        return Ending.LEFT, ""
                    continue
            elif self._requested:
                wait = self._budget.wait(now, Lane.REQUESTED_BEAT)
                if wait <= 0.0:
                    if not await self._beat(scheduled=False):
                        return Ending.LEFT, ""
                    continue
                due = min(due, now + wait)
            lost = await self._sleep_until(due)
            if lost > self._pulse.interval:
                return Ending.FROZEN, f"{lost:.0f} s passed unnoticed"

    async def _beat(self, *, scheduled: bool) -> bool:
        self._requested = False
        lane = Lane.SCHEDULED_BEAT if scheduled else Lane.REQUESTED_BEAT
        self._budget.take(lane)
        written = False

        def document() -> bytes:
            # Before the write: its ACK may be read before the write returns.
            now = trio.current_time()
            if scheduled:
                self._pulse.scheduled_beat_sent(now)
            else:
                self._pulse.beat_sent(now)
            return encode_heartbeat(self._machine.sequence)

        try:
            written = await self._wire.write(Opcode.HEARTBEAT, document)
        finally:
            now = trio.current_time()
            if written:
                self._budget.commit(now, lane)
            else:
                self._budget.give_back(lane)
        return written

    async def _sleep_until(self, due: float) -> float:
        """Sleep until ``due``, a request, or the next look at the clocks; return the seconds that got lost.

        Time is lost when we wake much later than we asked for (the process was stopped, or something held
        the event loop), or when the wall clock went on further than the timer's (the machine slept).
        """
        begun = trio.current_time()
        planned = min(due, (begun // CLOCK_CHECK + 1) * CLOCK_CHECK)
        with trio.move_on_at(planned):
            await self._wake.park()
        now, wall = trio.current_time(), self._wall_clock()
        # Since the last look, not since we went to sleep: nor must a jump during a write go unnoticed.
        jumped = (wall - self._seen[1]) - (now - self._seen[0])
        self._seen = now, wall
        return max(now - max(begun, planned), jumped)
