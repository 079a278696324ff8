"""The books of numbered events: what each session was owed, and what arrived in it. Pure.

Every event that the gateway publishes carries a number, counted up. The gateway's side enters to which sessions
it was published; the subscriber's side enters what it was given. At the end the two are compared, and the
gateway's own record says how each session ended:

- **sent**: published to a session that was live or could be resumed. What is published while there is no session
  at all (`without_session`) is owed to nobody.
- **received**: of those, the ones that arrived, each counted once.
- **repeated**: arrived once more. **out of order**: arrived after a later one. **unexpected**: arrived in a session
  to which it was never published.
- **discarded by the gateway**: not yet written when the gateway itself declared the session gone (op 9 ``false``, or a
  close code that ends it). An event that was written before that is owed all the same.
- **never known**: published to a session of which the client never heard: a line that breaks had swallowed its READY,
  and nobody can resume what he does not know.
- **lost**: everything else that did not arrive. That includes all events of a session that the *client* gave up.
- **under way**: not there yet, and nobody waited for it; only after an impatient Ctrl-C.

So ``sent == received + lost + discarded_by_gateway + never_known + under_way``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Balance", "Ledger", "SessionRecord"]

_GATEWAY_VERDICTS: Final = ("invalidated", "closed with ", "too old to replay", "READY was never sent")
"""How the gateway words an end that was its own doing. Any other end is on the client's account."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What the gateway has on record about a session.

    Attributes:
        ended: why it is over; ``None`` while it is live or can be resumed.
        written_through: the newest sequence number that was written.
        known: whether the client has shown that it knows the session.
    """

    ended: str | None
    written_through: int
    known: bool = True

    @property
    def ended_by_gateway(self) -> bool:
        """Whether the gateway declared it gone."""
        return self.ended is not None and self.ended.startswith(_GATEWAY_VERDICTS)


@dataclass(frozen=True, slots=True)
class Balance:
    """The books compared. The words are explained in the module's docstring."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    unexpected: int = 0
    discarded_by_gateway: int = 0
    never_known: int = 0
    under_way: int = 0
    without_session: int = 0

    @property
    def faults(self) -> int:
        """How many events did not arrive exactly once and in order, though they should have."""
        return self.lost + self.repeated + self.out_of_order + self.unexpected


@dataclass(slots=True)
class _Account:
    """One session. Only what is still owed is kept one by one."""

    owed: dict[int, None] = field(default_factory=dict[int, None])
    """Numbers that were published and have not arrived, in order."""
    published: range = range(0)
    """The numbers that were published; within one session they follow each other without gaps."""
    newest: int = -1
    """The highest number that has arrived."""
    heard_through: int = 0
    """The highest sequence that has arrived, numbered event or not."""


class Ledger:
    """Takes both sides' entries, and compares them."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._repeated = self._out_of_order = self._unexpected = 0
        self.sent = 0
        """Events published, once for each session that was owed it."""
        self.received = 0
        """Events that arrived, each counted once."""
        self.without_session = 0
        """Events that were published to no session."""

    # --- the gateway's side ---

    def publish(self, number: int, sessions: Iterable[str]) -> None:
        """Enter that the event with this number, one more than the last, was published to these sessions."""
        owed_to = 0
        for session_id in sessions:
            account = self._accounts.setdefault(session_id, _Account())
            account.owed[number] = None
            account.published = range(account.published.start if account.published else number, number + 1)
            owed_to += 1
        self.sent += owed_to
        self.without_session += not owed_to

    # --- the subscriber's side ---

    def hear(self, session_id: str, sequence: int) -> None:
        """Enter that a dispatch arrived, numbered event or not."""
        account = self._accounts.setdefault(session_id, _Account())
        account.heard_through = max(account.heard_through, sequence)

    def receive(self, session_id: str, number: int) -> None:
        """Enter that a numbered event arrived."""
        account = self._accounts.setdefault(session_id, _Account())
        if number in account.owed:
            del account.owed[number]
            self.received += 1
            self._out_of_order += number < account.newest
            account.newest = max(account.newest, number)
        elif number in account.published:
            self._repeated += 1
        else:
            self._unexpected += 1

    @property
    def blemishes(self) -> int:
        """Events so far that came again, in the wrong order, or in the wrong session."""
        return self._repeated + self._out_of_order + self._unexpected

    # --- the comparison ---

    def balance(
        self,
        records: Mapping[str, SessionRecord],
        *,
        current: str | None = None,
        settled: bool = True,
        lossy_line: bool = False,
    ) -> Balance:
        """Compare the books.

        Args:
            records: what the gateway has on record, by session id.
            current: the session that the client holds at the end.
            settled: whether somebody waited until the current session had delivered everything.
            lossy_line: whether the line between the two breaks by itself. What the gateway wrote last before it ended
                a session may then have gone with the line, and there is no session any more to ask for it again.
        """
        lost = discarded = never_known = under_way = 0
        for session_id, account in self._accounts.items():
            record = records.get(session_id, SessionRecord(None, 0))
            if record.ended is None and session_id == current and not settled:
                holes = sum(number < account.newest for number in account.owed)
                lost += holes
                under_way += len(account.owed) - holes
            elif not record.known and not account.heard_through:
                never_known += len(account.owed)
            elif record.ended_by_gateway:
                excused = _tail(account) if lossy_line else _never_written(account, record)
                discarded += excused
                lost += len(account.owed) - excused
            else:
                lost += len(account.owed)
        return Balance(
            sent=self.sent,
            received=self.received,
            lost=lost,
            repeated=self._repeated,
            out_of_order=self._out_of_order,
            unexpected=self._unexpected,
            discarded_by_gateway=discarded,
            never_known=never_known,
            under_way=under_way,
            without_session=self.without_session,
        )


def _never_written(account: _Account, record: SessionRecord) -> int:
    """Return how many of the owed events the gateway had not written when it ended the session.

    What is missing *between* events that arrived was written. So was what lies between the last sequence that
    arrived and the last one written; it may be something else than numbered events, but doubt is not in favour
    of the client.
    """
    unheard = max(0, record.written_through - account.heard_through)
    return max(0, _tail(account) - unheard)


def _tail(account: _Account) -> int:
    """Return how many of the owed events are newer than all that arrived."""
    return sum(number > account.newest for number in account.owed)
