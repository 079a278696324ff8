"""The commands that users have handed over and that are not written yet.

The queue belongs to the shard and outlives its connections. A command leaves it when its write succeeded
(*peek, write, remove*), when its caller is cancelled before the write began, or when a newer presence took its
place. It is bounded: when it is full, `send` waits and `send_nowait` raises.

Commands of one caller leave in the order in which they came. Callers do not wait for each other's limits: while
one caller's full member list waits for its 30 s, the commands of others pass it.

Cancelling a caller is exact. Before its write begins, the command is taken out: it was provably not sent. During
the write, the cancellation is held back until the write is over: if it succeeded, `send` returns the
receipt (and the caller is cancelled at its next checkpoint), if it did not, the command is taken out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from trioshard.errors import QueueFull, ShardClosed
from trioshard.protocol.commands import Command, encode_command, limit_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard.protocol.pacing import BotLimits

__all__ = ["CommandQueue", "Entry", "QueueStatistics", "Receipt"]

PRESENCE: Final = "presence"

_RECHECK: Final = 1.0
"""Seconds. A limit whose last slot is held by a write in flight cannot say when it will be free."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a command. Every `send` that returns, returns one.

    Attributes:
        session_id: the session in which it was written.
        epoch: the number of the connection on which it was written; the first is 1.
        sequence_at_send: the last sequence received when it was written, or ``None``.
        attempts: how many writes it took. More than 1 means that a connection broke under it; the frame was
            not whole then, and the command was written again after the next READY or RESUMED.
        superseded: whether a newer presence was written in its place. The other fields are then those of
            the newer one.
        waited: seconds from `send` to the begin of the write.
        written: when the write was done, on the clock of ``trio.current_time()``.
    """

    session_id: str
    epoch: int
    sequence_at_send: int | None
    attempts: int
    superseded: bool
    waited: float
    written: float


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """Counts of commands since the shard was opened.

    ``accepted == written + superseded + withdrawn + failed + pending`` holds at any moment.

    Attributes:
        accepted: taken into the queue.
        written: written whole.
        superseded: replaced by a newer presence.
        withdrawn: taken out because the caller was cancelled; not written.
        failed: ended by the end of the shard; not written.
        pending: still waiting, or being written.
        retried: writes that broke and had to be repeated.
    """

    accepted: int
    written: int
    superseded: int
    withdrawn: int
    failed: int
    pending: int
    retried: int


class Entry:
    """One command in the queue."""

    __slots__ = ("attempts", "caller", "cancelled", "document", "enqueued", "key", "opcode", "owner", "writing")

    def __init__(self, command: Command, *, owner: object, now: float) -> None:
        self.document = encode_command(command)
        self.opcode = command.opcode
        self.key = limit_key(command)
        self.owner = owner
        self.enqueued = now
        self.attempts = 0
        self.writing = False
        self.caller: trio.lowlevel.Task | None = None
        """Who sleeps in `CommandQueue.send` for it."""
        self.cancelled: Callable[[], Any] | None = None
        """How to end that sleep, when a cancellation was held back."""


class CommandQueue:
    """A bounded queue of commands with many callers at one end and a sender at the other.

    Args:
        capacity: how many commands may wait.
        limits: the limits of the bot, which decide what is due.
    """

    def __init__(self, capacity: int, limits: BotLimits) -> None:
        self._capacity = capacity
        self._limits = limits
        self._entries: dict[Entry, None] = {}
        self._slots = trio.Semaphore(capacity)
        self._changed = trio.lowlevel.ParkingLot()
        self._failure: ShardClosed | None = None
        self._accepted = self._written = self._superseded = self._withdrawn = self._failed = self._retried = 0
        self.last_presence: Command | None = None
        """The presence that was written last."""
        self._presences: dict[Entry, Command] = {}

    # --- the callers' end ---

    async def send(self, command: Command) -> Receipt:
        """Queue a command and wait until it was written. See the module's docstring for cancellation.

        Raises:
            InvalidCommand: it was refused, and not queued.
            ShardClosed: the shard ended before it was written.
        """
        entry = Entry(command, owner=trio.lowlevel.current_task(), now=trio.current_time())
        self._raise_if_closed()
        await self._take_slot()
        self._append(entry, command)
        entry.caller = trio.lowlevel.current_task()

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            if entry.writing:
                entry.cancelled = raise_cancel
                return trio.lowlevel.Abort.FAILED
            self._withdraw(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        receipt: Receipt = await trio.lowlevel.wait_task_rescheduled(abort)
        return receipt

    async def _take_slot(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            # A turn of its own only where it has to wait: `send` waits for the write anyway.
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
        self._raise_if_closed()

    def send_nowait(self, command: Command) -> None:
        """Queue a command and return; nobody hears what becomes of it.

        Raises:
            InvalidCommand: it was refused, and not queued.
            QueueFull: there is no room.
            ShardClosed: the shard has ended.
        """
        entry = Entry(command, owner=trio.lowlevel.current_task(), now=trio.current_time())
        self._raise_if_closed()
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            raise QueueFull(self._capacity) from None
        self._append(entry, command)

    def _append(self, entry: Entry, command: Command) -> None:
        self._entries[entry] = None
        if entry.key == PRESENCE:
            self._presences[entry] = command
        self._accepted += 1
        self._changed.unpark_all()

    def _withdraw(self, entry: Entry) -> None:
        self._withdrawn += 1
        self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry]
        self._presences.pop(entry, None)
        self._slots.release()
        self._changed.unpark_all()

    def _raise_if_closed(self) -> None:
        if self._failure is not None:
            raise ShardClosed(*self._failure.args) from self._failure.__cause__

    # --- the sender's end ---

    def due(self, now: float) -> Entry | float:
        """Return the command that should go next, or the seconds until there may be one (``inf``: none waits).

        The newest presence takes the turn of the oldest. Whoever is passed over keeps his later commands back, so
        that his order holds even if the newer presence is withdrawn.
        """
        wait = math.inf
        presence = self._presence_to_send(now)
        blocked: set[object] = set()
        for waiting in self._entries:
            if waiting.owner in blocked:
                continue
            entry = waiting
            if waiting.key == PRESENCE and presence is not None and presence is not waiting:
                if self._has_earlier(presence):
                    # Its caller sent something before it, which is due, and comes first.
                    blocked.add(waiting.owner)
                    continue
                entry = presence
            delay = self._limits.wait(entry.key, now)
            if delay <= 0.0:
                return entry
            wait = min(wait, delay if delay != math.inf else _RECHECK)
            blocked.update((waiting.owner, entry.owner))
        return wait

    def _presence_to_send(self, now: float) -> Entry | None:
        """Return the newest presence that does not stand behind a limit of its caller's other commands.

        Nor behind a command that waits for an older presence of the same caller: they would wait for each other.
        """
        newest: Entry | None = None
        blocked: set[object] = set()
        has_presence: set[object] = set()
        for entry in self._entries:
            if entry.owner in blocked:
                continue
            if entry.key == PRESENCE:
                newest = entry
                has_presence.add(entry.owner)
            elif entry.owner in has_presence or self._limits.wait(entry.key, now) > 0.0:
                blocked.add(entry.owner)
        return newest

    def _has_earlier(self, entry: Entry) -> bool:
        for other in self._entries:
            if other is entry:
                return False
            if other.owner is entry.owner and other.key != PRESENCE:
                return True
        return False

    def is_waiting(self, entry: Entry) -> bool:
        """Return whether a command still wants to be written: it may have been withdrawn meanwhile."""
        return entry in self._entries

    async def wait_changed(self) -> None:
        """Wait until something was added or taken out."""
        await self._changed.park()

    def write_begins(self, entry: Entry) -> None:
        """From here to `written` or `broke` the caller cannot take the command back."""
        entry.writing = True
        entry.attempts += 1

    def broke(self, entry: Entry) -> None:
        """The write did not succeed. The command stays, unless its caller has been cancelled meanwhile."""
        entry.writing = False
        if entry.cancelled is None:
            self._retried += 1
            return
        self._withdraw(entry)
        assert entry.caller is not None
        trio.lowlevel.reschedule(entry.caller, outcome.capture(entry.cancelled))

    def written(self, entry: Entry, receipt: Receipt) -> None:
        """The write succeeded: the command leaves the queue, and with it every older presence."""
        superseded: deque[Entry] = deque()
        if entry.key == PRESENCE:
            self.last_presence = self._presences[entry]
            for other in self._presences:
                if other is entry:
                    break
                superseded.append(other)
        self._written += 1
        self._settle(entry, outcome.Value(receipt))
        for other in superseded:
            self._superseded += 1
            waited = receipt.written - other.enqueued
            self._settle(other, outcome.Value(_superseded_by(receipt, attempts=other.attempts, waited=waited)))

    def _settle(self, entry: Entry, result: outcome.Outcome[Receipt]) -> None:
        self._remove(entry)
        if entry.caller is not None:
            trio.lowlevel.reschedule(entry.caller, result)

    def close(self, failure: ShardClosed) -> None:
        """End every waiting `send` with ``failure``, and refuse new ones."""
        self._failure = failure
        for entry in list(self._entries):
            self._failed += 1
            own = ShardClosed(*failure.args)
            own.__cause__ = failure.__cause__
            self._settle(entry, outcome.Error(own))

    def statistics(self) -> QueueStatistics:
        """Return a snapshot of the counts."""
        return QueueStatistics(
            accepted=self._accepted,
            written=self._written,
            superseded=self._superseded,
            withdrawn=self._withdrawn,
            failed=self._failed,
            pending=len(self._entries),
            retried=self._retried,
        )


def _superseded_by(receipt: Receipt, *, attempts: int, waited: float) -> Receipt:
    return Receipt(
        session_id=receipt.session_id,
        epoch=receipt.epoch,
        sequence_at_send=receipt.sequence_at_send,
        attempts=attempts,
        superseded=True,
        waited=waited,
        written=receipt.written,
    )
