"""I4 and I7: limits, heartbeats, and how long things took."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trioshard._simulation.books import HEARTBEAT, PRESENCE, RESUME, SLACK
from trioshard._simulation.setup import PROMPT_RECONNECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trioshard._simulation.books import Books
    from trioshard._simulation.records import Dialled, Write

__all__ = [
    "false_alarms",
    "first_beats",
    "heartbeats",
    "limits",
    "most_in_any",
    "pauses",
    "recoveries",
    "verdicts",
    "waits",
]

PAYLOADS: Final = (120, 60.0)
PRESENCES: Final = (5, 20.0)
FULL_LISTS: Final = (1, 30.0)
"""So many, in any so many seconds."""

PROMPT: Final = 5.1
"""Seconds from the end of a connection to the next: at most 2 of backoff, 1 of goodbye, 2 to find a close code behind
a broken write."""

RATE_LIMITED: Final = 3.0
"""Seconds more after close code 4008."""

ASKS: Final = frozenset({"heartbeat requests", "cut on the way up", "cut on the way down"})
"""Troubles in which the gateway asks for heartbeats."""

ALIKE: Final = 4
"""So many of the connections of a history do not draw the same five digits by chance."""

HURRIED: Final = 0.1
"""Seconds. With full jitter up to 2 s, one pause in twenty is shorter."""

PAUSES: Final = 15
"""Of so many pauses or more, two in three are never that short by chance: it would take 3,000 million histories."""

STABLE: Final = 60.0
"""Seconds in READY after which earlier failures are forgotten."""

HELD: Final = 1.0
PROMPT_MEMORY: Final = 600.0
"""Seconds in READY after which they are forgotten `PROMPT_RECONNECTS` times in so many seconds."""

RAMP: Final = 4
"""Failures in a row after which the backoff no longer grows."""

CLOCK_CHECK: Final = 10.0
"""Seconds between two looks at the clock on the wall."""

ALARMS: Final = (
    "the gateway stopped answering",
    "a write did not get through in time",
    "the handshake made no progress",
    "time jumped",
)
"""How the shard says that it has given a peer up by its own judgement."""

HARMLESS: Final = frozenset({"heartbeat requests", "second Hello", "unknown opcode", "pings", "large event"})
"""Troubles that are no reason to."""

NO_HELLO: Final = 20.0
NO_ANSWER: Final = 1_000.0
"""Seconds that a shard waits for Hello, and at most for READY or RESUMED while ACKs come."""


def limits(books: Books) -> Iterator[str]:
    """Discord's limits, in any window."""
    for number, writes in books.writes.items():
        yield from _exceeded(f"line {number}: payloads", _finished(writes), *PAYLOADS)
    presences = [write for write in books.records.writes if write.opcode == PRESENCE]
    yield from _exceeded("presences", _finished(presences), *PRESENCES)
    lists: dict[int, list[float]] = defaultdict(list)
    for call in books.records.calls.values():
        if call.guild is not None and call.receipt is not None:
            lists[call.guild].append(call.receipt.written)
    for guild, times in lists.items():
        yield from _exceeded(f"full lists of guild {guild}", sorted(times), *FULL_LISTS)


def heartbeats(books: Books) -> Iterator[str]:
    """A beat is never later than an interval, the write it stood behind, and time that was lost."""
    for number, dialled in books.lines.items():
        if dialled.hello is None or dialled.interval is None:
            continue
        writes = books.writes.get(number, [])
        beats = [write.begun for write in writes if write.opcode == HEARTBEAT]
        over = books.world.seconds if dialled.ended is None else dialled.ended
        if dialled.life == 0:
            # Who is cancelled beats no more, and still takes a second to say goodbye.
            over = min(over, books.world.left_at)
        last = dialled.hello
        for beat in (*beats, over):
            allowed = dialled.interval + _longest_write(books, writes, last, beat) + books.lost_between(last, beat)
            if beat - last > allowed + SLACK:
                yield f"line {number}: no heartbeat between {last:.4f} and {beat:.4f}, at {dialled.interval:g} s"
            last = max(last, beat)


def first_beats(books: Books) -> Iterator[str]:
    """The first beat comes after a share of an interval that is drawn for each connection."""
    shares: Counter[float] = Counter()
    for number, dialled in books.lines.items():
        beats = [write.begun for write in books.writes.get(number, ()) if write.opcode == HEARTBEAT]
        # Beats that were asked for come when they are asked for.
        if (
            beats
            and dialled.hello is not None
            and dialled.interval is not None
            and not ASKS.intersection(dialled.troubles)
        ):
            shares[round((beats[0] - dialled.hello) / dialled.interval, 5)] += 1
    for share, times in shares.most_common(1):
        if times >= ALIKE:
            yield f"{times} connections began to beat after the same {share:g} of an interval"


def _longest_write(books: Books, writes: Iterable[Write], start: float, end: float) -> float:
    return max(
        (
            (books.world.setup.write_timeout if write.finished is None else write.finished - write.begun)
            for write in writes
            if write.begun < end and (write.finished is None or write.finished > start)
        ),
        default=0.0,
    )


def waits(books: Books) -> Iterator[str]:
    """Whoever waits for readiness wakes when it comes."""
    for wait in books.records.waits:
        missed = [
            opening
            for opening in books.records.openings
            if opening.life == wait.life
            # Those who had waited look again, and find it gone.
            and opening.at not in books.brief
            and wait.begun < opening.at
            and (wait.ended is None or wait.ended > opening.at + SLACK)
            and not books.jumped(opening.at)
        ]
        if missed:
            kind = "RESUMED" if missed[0].resumed else "READY"
            yield f"{kind} came at {missed[0].at:.4f}, and did not wake who had waited since {wait.begun:.4f}"


def recoveries(books: Books) -> Iterator[str]:
    """What can be resumed is resumed without delay: nothing but the backoff, a goodbye, and last words."""
    dialled = books.records.dialled
    for before, after in pairwise(dialled):
        if before.ended is None or after.line is None or before.life != after.life:
            continue
        resumes = any(write.opcode == RESUME for write in books.writes.get(after.line.number, []))
        # Being told of too many payloads is a reason to wait.
        limit = PROMPT + (RATE_LIMITED if "close, resumable" in before.troubles else 0.0)
        if resumes and after.at - before.ended - books.lost_between(before.ended, after.at) > limit:
            yield f"line {after.line.number} was dialled {after.at - before.ended:.3f} s after the end of the last one"


def pauses(books: Books) -> Iterator[str]:
    """No hot loop: attempts that come to nothing are not repeated at once, nor those that hold for a moment."""
    gaps: list[float] = []
    failures = 0
    forgiven: list[float] = []
    for before, after in pairwise(books.records.dialled):
        if before.ended is None or before.life != after.life:
            failures, forgiven = 0, []
            continue
        ready_for = 0.0 if before.opened is None else before.ended - before.opened
        recently = [at for at in forgiven if at > before.ended - PROMPT_MEMORY]
        if HELD <= ready_for < STABLE and len(recently) < PROMPT_RECONNECTS:
            forgiven = [*recently, before.ended]
            failures = 1
        else:
            failures = 1 if ready_for >= STABLE else failures + 1
        if failures > RAMP:
            gaps.append(after.at - before.ended)
    hurried = sum(gap < HURRIED for gap in gaps)
    if len(gaps) >= PAUSES and hurried >= len(gaps) * 2 / 3:
        yield f"{hurried} of {len(gaps)} pauses after failures were shorter than {HURRIED} s"


def false_alarms(books: Books) -> Iterator[str]:
    """A peer with which nothing is wrong is not given up."""
    calm = books.world.calm_at
    for dialled in books.records.dialled:
        if not dialled.verdict.startswith(ALARMS) or not HARMLESS.issuperset(dialled.troubles):
            continue
        slow = dialled.line is not None and (dialled.line.up.clogged or dialled.line.down.is_slow)
        # What had been set up when it became calm still has its effect, and is met by nobody.
        left_over = dialled.at < calm and (dialled.ended is None or dialled.ended >= calm)
        if not slow and not left_over:
            yield f"epoch {dialled.epoch} was given up without a reason: {dialled.verdict}"


def verdicts(books: Books) -> Iterator[str]:
    """A peer that says nothing any more is given up in time."""
    for dialled in books.records.dialled:
        for kind, at in dialled.troubles.items():
            limit = _patience(books, dialled, kind, at)
            over = books.world.seconds if dialled.ended is None else dialled.ended
            excused = books.lost_between(at, over) + books.dawdled_between(at, over)
            if over - at - excused > limit:
                yield f"{kind} at {at:.4f} was noticed after {over - at:.1f} s"


def _patience(books: Books, dialled: Dialled, kind: str, at: float) -> float:
    """Return the seconds within which a kind of trouble has to be noticed."""
    interval = books.world.setup.heartbeat_interval
    greeted = dialled.hello is not None and dialled.hello <= at
    if kind in ("silence", "no ACKs", "deaf peer"):
        return (NO_HELLO if not greeted else 0.0) + 6.0 * interval + books.world.setup.write_timeout
    if kind == "no Hello":
        return NO_HELLO + 1.0
    if kind == "sleeping machine" and greeted and not _was_writing(books, dialled, at):
        return CLOCK_CHECK + books.world.setup.write_timeout
    return NO_ANSWER if kind == "no answer" else math.inf


def _was_writing(books: Books, dialled: Dialled, at: float) -> bool:
    """Whether a write was under way, for whose end the look at the clocks may have waited."""
    writes = [] if dialled.line is None else books.writes.get(dialled.line.number, [])
    return any(write.begun <= at and (write.finished is None or write.finished >= at) for write in writes)


def most_in_any(times: Sequence[float], seconds: float) -> int:
    """Return how many of the times, which are in order, lie in the fullest window of this length.

    A window is half open: two times that are exactly ``seconds`` apart do not share one.
    """
    fullest = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= seconds:
            first += 1
        fullest = max(fullest, last - first + 1)
    return fullest


def _finished(writes: Iterable[Write]) -> list[float]:
    return sorted(write.finished for write in writes if write.finished is not None)


def _exceeded(what: str, times: Sequence[float], limit: int, seconds: float) -> Iterator[str]:
    fullest = most_in_any(times, seconds)
    if fullest > limit:
        yield f"{what}: {fullest} within {seconds:g} s"
