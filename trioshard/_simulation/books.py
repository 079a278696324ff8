"""The account of a history put in order: by line, by command, by session, with what is on the wires."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from trioshard._simulation.wiretap import read_client

if TYPE_CHECKING:
    from trioshard._simulation.records import Dialled, Records, Write
    from trioshard._simulation.wiretap import Transcript
    from trioshard._simulation.world import World

__all__ = ["HANDSHAKES", "HEARTBEAT", "IDENTIFY", "PRESENCE", "RESUME", "SLACK", "Books"]

HEARTBEAT, IDENTIFY, PRESENCE, RESUME = 1, 2, 3, 6
HANDSHAKES: Final = (IDENTIFY, RESUME)

SLACK: Final = 1e-6
"""Virtual seconds: nothing but rounding."""


class Books:
    """What the invariants are judged from.

    Attributes:
        world: the history, which is over.
        records: its account.
        report: the gateway's account.
        lines: the connection attempt on each line, by its number.
        transcripts: what the shard wrote to each line.
        whole: by tag, the lines on which a whole frame of a command was written.
        brief: when READY or RESUMED came on connections that were over in the same moment.
        writes: by line, the payloads that the shard began to write.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.records: Records = world.records
        self.report = world.gateway.report
        self.lines: dict[int, Dialled] = {
            dialled.line.number: dialled for dialled in self.records.dialled if dialled.line is not None
        }
        self.transcripts: dict[int, Transcript] = {
            number: read_client(dialled.line.up.taken)
            for number, dialled in self.lines.items()
            if dialled.line is not None
        }
        self.whole: dict[int, list[int]] = defaultdict(list)
        for number, transcript in self.transcripts.items():
            for frame in transcript.frames:
                if frame.tag is not None:
                    self.whole[frame.tag].append(number)
        self.brief = {d.opened for d in self.records.dialled if d.opened is not None and d.ended == d.opened}
        self.writes: dict[int, list[Write]] = defaultdict(list)
        for write in self.records.writes:
            self.writes[write.line].append(write)

    def jumped(self, at: float) -> bool:
        """Return whether time jumped at this moment."""
        return any(abs(time - at) < SLACK for time, _ in self.records.jumps)

    def lost_between(self, start: float, end: float) -> float:
        """Return how many seconds were lost in jumps."""
        return sum(seconds for at, seconds in self.records.jumps if start - SLACK <= at <= end + SLACK)

    def dawdled_between(self, start: float, end: float) -> float:
        """Return for how long the listener may have kept the reader from reading."""
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in self.records.dawdles)

    def was_known(self, session_id: str) -> bool:
        """Return whether READY ever reached the shard. What it never heard of it cannot resume."""
        return any(opening.session_id == session_id for opening in self.records.openings)
