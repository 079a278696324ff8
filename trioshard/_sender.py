"""From the queue to the wire: one command at a time, when the limits and then the phase allow it.

The order of the steps is the promise (design rules 2 to 5):

1. Wait for the limits *outside* the lock. A heartbeat never stands behind a sender that waits for its budget.
2. Take a permit, then go to the wire: lock, check, write.
3. A refusal, or a write that broke, gives the permit back, and the command stays in the queue.
4. Only a write that succeeded takes the command out of it.

The sender of a connection starts when READY or RESUMED has come, and ends with the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trioshard._queue import Entry, Receipt
from trioshard.protocol.pacing import Lane

if TYPE_CHECKING:
    from trioshard._queue import CommandQueue
    from trioshard._wire import Wire
    from trioshard.protocol.machine import Machine
    from trioshard.protocol.pacing import BotLimits, SendBudget

__all__ = ["Sender"]


class Sender:
    """Writes the commands of the queue to one connection.

    Args:
        wire: where to write.
        machine: for the receipts: session and sequence.
        queue: the shard's commands.
        budget: the 120 payloads a minute of this connection.
        limits: the bot's presence and member list limits.
        epoch: the number of this connection.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        machine: Machine,
        queue: CommandQueue,
        budget: SendBudget,
        limits: BotLimits,
        epoch: int,
    ) -> None:
        self._wire = wire
        self._machine = machine
        self._queue = queue
        self._budget = budget
        self._limits = limits
        self._epoch = epoch

    async def run(self) -> None:
        """Write commands until the connection is given up.

        Raises:
            ConnectionLost: a write broke. The command is still in the queue.
        """
        while True:
            entry = await self._wait_due()
            if not await self._write(entry):
                return

    async def _wait_due(self) -> Entry:
        while True:
            now = trio.current_time()
            due = self._queue.due(now)
            if isinstance(due, Entry):
                wait = self._budget.wait(now, Lane.USER)
                if wait <= 0.0:
                    return due
            else:
                wait = due
            with trio.move_on_after(wait):
                await self._queue.wait_changed()

    async def _write(self, entry: Entry) -> bool:
        """Write one command; return False when the connection admits no more."""
        begun: float | None = None

        def document() -> bytes | None:
            nonlocal begun
            if not self._queue.is_waiting(entry):
                return None
            begun = trio.current_time()
            self._queue.write_begins(entry)
            return entry.document

        self._budget.take()
        self._limits.take(entry.key)
        written = False
        try:
            written = await self._wire.write(entry.opcode, document)
        finally:
            now = trio.current_time()
            if written:
                self._budget.commit(now)
                self._limits.commit(entry.key, now)
                assert begun is not None
                self._queue.written(entry, self._receipt(entry, begun, now))
            else:
                self._budget.give_back()
                self._limits.give_back(entry.key)
                if begun is not None:
                    self._queue.broke(entry)
        # Withdrawn while we stood in line for the lock: nothing was written, and nothing is wrong.
        return written or not self._queue.is_waiting(entry)

    def _receipt(self, entry: Entry, begun: float, now: float) -> Receipt:
        session = self._machine.session
        return Receipt(
            session_id=session.id if session is not None else "",
            epoch=self._epoch,
            sequence_at_send=self._machine.sequence,
            attempts=entry.attempts,
            superseded=False,
            waited=begun - entry.enqueued,
            written=now,
        )
