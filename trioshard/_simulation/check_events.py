"""I3: what the listener got, against what each session held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trioshard._simulation.books import Books
    from trioshard._simulation.records import Dialled

__all__ = ["events", "restart", "sessions"]

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
    heard = {sequence for sequence, _ in books.records.heard.get((0, session_id), [])}
    missing = set(range(1, processed + 1)) - heard - set(statistics.resumed_at)
    if missing:
        yield f"session {session_id} was carried over after {processed}, and {min(missing)} had not been heard"


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
