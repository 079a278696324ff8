"""Parts of the send path with one mistake each: the tempting ones. Small worlds must find every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from trioshard._connection import Connection
from trioshard._queue import CommandQueue, Entry
from trioshard._sender import Sender
from trioshard._wire import Wire
from trioshard.protocol.pacing import Lane, SendBudget
from trioshard.protocol.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.machine import Effect, Open
    from trioshard.protocol.opcodes import Opcode


class NoLock(Wire):
    """Looks at the phase and writes at once, but nothing holds the phase meanwhile."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if self._condemned or not self._machine.admit(opcode):
            return False
        data = document()
        if data is None:
            return False
        self._machine.goes_out(opcode)
        await self._send(data)
        return True

    async def receive(self, envelope: Envelope) -> Effect:
        if self._machine.moves(envelope) is Phase.CLOSING:
            self._condemn()
        return self._machine.receive(envelope)


class LooksTwice(NoLock):
    """Looks, waits for its turn, looks again, and writes: the double check of other libraries."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if not self._machine.admit(opcode):
            return False
        await trio.lowlevel.checkpoint()
        return await super().write(opcode, document)

    def _condemn(self) -> None:
        pass


class LooksBeforeTheLock(Wire):
    """Looks, then stands in line, then writes."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if self._condemned or not self._machine.admit(opcode):
            return False
        async with self._lock:
            data = document()
            if data is None:
                return False
            if self._machine.admit(opcode):
                self._machine.goes_out(opcode)
            await self._send(data)
            return True


class NoBar(Wire):
    """Only the lock: who stands in line before the reader writes after the end was announced."""

    def _condemn(self) -> None:
        if self._in_flight is not None:
            self._in_flight.cancel()


class NoInterrupt(Wire):
    """The bar falls, but the reader waits for the write in flight."""

    def _condemn(self) -> None:
        self._condemned = True


class MovesAfterTheWrite(Wire):
    """The phase follows when the write has returned; the answer may have been read before."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        async with self._lock:
            if self._condemned or not self._machine.admit(opcode):
                return False
            data = document()
            if data is None:
                return False
            await self._send(data)
            self._machine.goes_out(opcode)
            return True

    async def receive(self, envelope: Envelope) -> Effect:
        return self._machine.receive(envelope)


class GoesOnAfterABreak(NoBar):
    """Nothing bars the wire when a write broke: neither the write itself nor the end that follows."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        async with self._lock:
            if not self._machine.admit(opcode):
                return False
            data = document()
            if data is None:
                return False
            self._machine.goes_out(opcode)
            await self._send(data)
            return True


class ReceiptBeforeTheWrite(Sender):
    """Tells the caller that it was written, and then writes."""

    async def _write(self, entry: Entry) -> bool:
        now = trio.current_time()
        self._queue.write_begins(entry)
        self._queue.written(entry, self._receipt(entry, now, now))
        return await self._wire.write(entry.opcode, lambda: entry.document)


class WaitsUnderTheLock(Sender):
    """Takes the lock, and then waits for the budget."""

    async def _wait_due(self) -> Entry:
        while not isinstance(due := self._queue.due(trio.current_time()), Entry):
            await self._queue.wait_changed()
        async with self._wire._lock:
            while (wait := self._budget.wait(trio.current_time(), Lane.USER)) > 0.0:
                await trio.sleep(wait)
        return due


class KeepsItsPermit(SendBudget):
    """A permit that was not used is not given back."""

    def give_back(self, *_: Any, **__: Any) -> None:
        pass


class NotHeldBack(CommandQueue):
    """A caller who is cancelled during the write is let go at once, as if nothing would be sent."""

    def write_begins(self, entry: Entry) -> None:
        entry.attempts += 1

    def written(self, entry: Entry, receipt: Any) -> None:
        if self.is_waiting(entry):
            super().written(entry, receipt)

    def broke(self, entry: Entry) -> None:
        if self.is_waiting(entry):
            super().broke(entry)


class KeepsTheSlot(CommandQueue):
    """A command that leaves the queue leaves its place taken."""

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry]
        self._presences.pop(entry, None)
        self._changed.unpark_all()


class InterruptsForCallers(Wire):
    """A caller who is cancelled takes the write in flight along."""

    last: InterruptsForCallers

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        InterruptsForCallers.last = self

    def interrupt(self) -> None:
        if self._in_flight is not None:
            self._in_flight.cancel()


class InterruptingEntry(Entry):
    """Tells `InterruptsForCallers` when a cancellation is held back."""

    __slots__ = ("_held",)

    @property
    def cancelled(self) -> Any:
        return self._held

    @cancelled.setter
    def cancelled(self, raise_cancel: Any) -> None:
        self._held = raise_cancel
        if raise_cancel is not None:
            InterruptsForCallers.last.interrupt()


class WakesOnReadyOnly(Connection):
    """After RESUMED nobody sends."""

    def _open(self, opened: Open) -> None:
        if not opened.resumed:
            super()._open(opened)
            return
        self._opened_at = trio.current_time()
        assert self._reader is not None
        self._reader.opened()
        self._on_open(opened)
