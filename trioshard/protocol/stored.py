"""A session outside of a process: what is kept of it, and for how long it is worth a try."""

from __future__ import annotations

from typing import Final

import msgspec

from trioshard.protocol.session import Session

__all__ = ["RESUMABLE_FOR", "StoredSession"]

RESUMABLE_FOR: Final = 900.0
"""Seconds after which a stored session is not tried any more.

Discord keeps a session for "a few minutes" after the connection ended, and does not say how many. Trying too late
costs a round trip and the seconds of an invalidated session; not trying costs a session start and every event of
the gap. So this errs on the late side.
"""


class StoredSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session, and when it was stored. As a `msgspec.Struct` it can be written as JSON and read back.

    Attributes:
        session: what it takes to resume; ``session.shard`` tells for how many shards it was started.
        stored_at: wall clock seconds.
    """

    session: Session
    stored_at: float

    def may_be_alive(self, now: float) -> bool:
        """Return whether it is worth a try. A clock that was put back does not make a session old."""
        return now - self.stored_at < RESUMABLE_FOR
