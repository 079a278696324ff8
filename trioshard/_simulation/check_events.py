"""I3: what the listener got, against what each session held."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trioshard._simulation.books import Books
    from trioshard._simulation.records import Dialled

__all__ = ["dismissals", "events", "refusals", "restart", "sessions"]

DISMISSALS: Final = frozenset(
    {"op 9 false", "op 9, neither", "close, session over", "handshake refused", "handshake closed", "fatal close"}
)
"""With these the gateway says that a session is over, if only before it knows which one is meant."""

CLIENT_FAULTS: Final = ("the client closed", "invalid seq", "too old to replay", "timed out")
"""How the gateway words an end that the client has to answer for."""

FRUITLESS: Final = 5
POISONED: Final = 2
SUSPECTED: Final = 2
"""From so many connections without an event, undecodable messages, or suspect closes on, a session may be given up."""

ENDING_CODES: Final = frozenset({4003, 4007, 4009})
SUSPECT_CODES: Final = frozenset({1000, 1001, 4001, 4005})
"""Close codes after which a session is over: at once, or at the second time."""

STABLE: Final = 60.0
"""Seconds in READY after which earlier trouble is forgotten."""

_CODE: Final = re.compile(r"code (\d+)")


def events(books: Books) -> Iterator[str]:
    """Each session's events once, in order and without a gap, from READY to the last that came."""
    for (life, session_id), heard in books.records.heard.items():
        statistics = books.report.sessions.get(session_id)
        if statistics is None:
            yield f"events came in session {session_id}, which the gateway does not know"
            continue
        expected = 1
        if life and books.world.restarted_at is not None and session_id == books.world.restarted_at[0]:
            expected = books.world.restarted_at[1] + 1
        silent = set(statistics.resumed_at)
        for sequence, name in heard:
            while expected < sequence and expected in silent:
                # A RESUMED that never got through is not repeated.
                expected += 1
            if sequence != expected:
                yield f"session {session_id}: {name} {sequence} came where {expected} was due"
                break
            expected += 1


def restart(books: Books) -> Iterator[str]:
    """A second life begins no later than where the listener of the first one ended."""
    if books.world.restarted_at is None:
        return
    session_id, processed = books.world.restarted_at
    statistics = books.report.sessions[session_id]
    names = dict(books.records.heard.get((0, session_id), []))
    finished_in, finished = books.world.users.finished
    done = {sequence for sequence in names if finished_in != session_id or sequence <= finished}
    missing = set(range(1, processed + 1)) - done - set(statistics.resumed_at)
    if missing:
        yield f"session {session_id} was carried over after {processed}, and {min(missing)} had not been finished"
    # Somebody else may have left a loop over events of this kind, and not finished his.
    if finished_in == session_id and processed < finished and names.get(processed + 1) != "VOICE_STATE_UPDATE":
        yield f"session {session_id} was carried over after {processed}, and {finished} had been finished"


def sessions(books: Books) -> Iterator[str]:
    """A session that lives on at the gateway was not given up without a reason."""
    current = books.world.last_session
    for session_id, statistics in books.report.sessions.items():
        if session_id == current:
            continue
        if statistics.ended is None:
            if not _may_be_given_up(books, session_id):
                yield f"session {session_id} was given up, and lives"
        elif statistics.ended.startswith(CLIENT_FAULTS) and books.was_known(session_id):
            yield f"session {session_id}: {statistics.ended}"


def dismissals(books: Books) -> Iterator[str]:
    """What the gateway has ended, or closed with a suspect code twice, is not resumed."""
    openings = {opening.at: opening.session_id for opening in books.records.openings}
    suspected: set[str] = set()
    over: set[str] = set()
    session_id = ""
    for dialled in books.records.dialled:
        if dialled.line is not None:
            for frame in books.transcripts[dialled.line.number].frames:
                if frame.session_id in over:
                    yield f"line {dialled.line.number}: session {frame.session_id} was over, and is resumed"
        if dialled.opened is not None:
            session_id = openings[dialled.opened]
            if dialled.ended is not None and dialled.ended - dialled.opened >= STABLE:
                suspected.clear()
        found = _CODE.search(dialled.verdict)
        code = int(found[1]) if found else 0
        again = code in SUSPECT_CODES and session_id in suspected
        if code in ENDING_CODES or "gone for good" in dialled.verdict or again:
            over.add(session_id)
        elif code in SUSPECT_CODES:
            suspected.add(session_id)


def refusals(books: Books) -> Iterator[str]:
    """A close for good is the end, even if a write breaks before the code is read."""
    for dialled, _ in pairwise(books.records.dialled):
        at = dialled.troubles.get("fatal close")
        if at is not None and dialled.ended is not None and not books.dawdled_between(at, dialled.ended):
            yield f"epoch {dialled.epoch} was refused for good, and the shard goes on: {dialled.verdict}"


def _may_be_given_up(books: Books, session_id: str) -> bool:
    suspect = poison = fruitless = longest = 0
    dismissed = False
    for dialled in _connections_of(books, session_id):
        suspect += "close, suspect" in dialled.troubles
        poison += "garbage" in dialled.troubles or "absurd Hello" in dialled.troubles
        fruitless = 0 if dialled.opened is not None else fruitless + 1
        longest = max(longest, fruitless)
        dismissed = dismissed or bool(DISMISSALS.intersection(dialled.troubles))
    return (
        dismissed
        or suspect >= SUSPECTED
        or poison > POISONED
        or longest >= FRUITLESS
        or not books.was_known(session_id)
    )


def _connections_of(books: Books, session_id: str) -> Iterator[Dialled]:
    """The connections from the READY of a session to the next READY."""
    known = False
    openings = {opening.at: opening for opening in books.records.openings if not opening.resumed}
    for dialled in books.records.dialled:
        opening = openings.get(dialled.opened) if dialled.opened is not None and not dialled.resumed else None
        if opening is not None:
            known = opening.session_id == session_id
        if known:
            yield dialled
