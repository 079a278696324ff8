"""Shards that are broken on purpose: the tempting mistakes, each as a few lines that replace the right ones.

Each function changes the classes of the process that calls it, for good; so each is called in a process of its own. The
simulation has to find every one of them: a mutant that survives is a check that is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio

from trioshard import (
    _connection,
    _heartbeater,
    _identify_queue,
    _open_shard,
    _open_transport,
    _queue,
    _reader,
    _sender,
    _shard,
    _wire,
)
from trioshard._queue import CommandQueue, Entry
from trioshard.errors import ConnectionLost
from trioshard.protocol import pacing, pulse, recovery, watchdog
from trioshard.protocol.machine import Machine, Open, SessionInvalidated
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import USER_COMMANDS, Phase
from trioshard.protocol.recovery import Ending

Mutant = Callable[[], None]

MUTANTS: Final[dict[str, tuple[str, Mutant]]] = {}
"""By name: what is wrong, and the function that makes it so."""


def mutant(what: str) -> Callable[[Mutant], Mutant]:
    """Enter a mutant in the list."""

    def enter(apply: Mutant) -> Mutant:
        MUTANTS[apply.__name__] = what, apply
        return apply

    return enter


# --- the wire ---


class DoubleCheckWire(_wire.Wire):
    """Look, wait a moment, look again, write. No lock, no bar, and nobody interrupts a write."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if not self._machine.admit(opcode):
            return False
        await trio.lowlevel.checkpoint()
        if not self._machine.admit(opcode):
            return False
        data = document()
        if data is None:
            return False
        self._machine.goes_out(opcode)
        with trio.CancelScope(shield=True):
            await self._send(data)
        return True

    async def receive(self, envelope: Any) -> Any:
        return self._machine.receive(envelope)

    async def close(self) -> None:
        self._machine.close()


@mutant("check, check again, write: no lock")
def double_check() -> None:
    _connection.Wire = DoubleCheckWire  # type: ignore[misc]


@mutant("no check at all: commands leave as soon as Hello has come")
def no_check() -> None:
    greet = _connection.Connection._greet
    admit, goes_out = Machine.admit, Machine.goes_out

    def greet_and_send(self: Any, hello: Any) -> None:
        greet(self, hello)
        if hello.first:
            sender = _connection.Sender(
                wire=self._wire,
                machine=self.machine,
                queue=self._queue,
                budget=self.budget,
                limits=self._limits,
                epoch=self._epoch,
            )
            self._nursery.start_soon(self._send, sender)

    def open_only(self: Any, event: Open) -> None:
        self._opened_at = trio.current_time()
        self._reader.opened()
        self._on_open(event)

    def go_out(self: Any, opcode: Opcode) -> None:
        if opcode not in USER_COMMANDS:
            goes_out(self, opcode)

    _connection.Connection._greet = greet_and_send  # type: ignore[method-assign]
    _connection.Connection._open = open_only  # type: ignore[method-assign]
    Machine.admit = lambda self, opcode: opcode in USER_COMMANDS or admit(self, opcode)  # type: ignore[method-assign]
    Machine.goes_out = go_out  # type: ignore[method-assign]


@mutant("check before the lock, not under it")
def check_before_lock() -> None:
    class CheckThenWaitWire(_wire.Wire):
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

    _connection.Wire = CheckThenWaitWire  # type: ignore[misc]


@mutant("a lock, but no bar: who stands in line writes after the end was read")
def no_bar() -> None:
    def condemn(self: _wire.Wire) -> None:
        if self._in_flight is not None:
            self._in_flight.cancel()

    _wire.Wire._condemn = condemn  # type: ignore[method-assign]
    # With a lock that takes a turn even when it is free. With ours only small worlds are small enough to show the gap.
    _wire.Holding = lambda lock: lock  # type: ignore[assignment, misc]


@mutant("the reader waits behind a stalled write instead of interrupting it")
def no_interrupt() -> None:
    def condemn(self: _wire.Wire) -> None:
        self._condemned = True

    _wire.Wire._condemn = condemn  # type: ignore[method-assign]


@mutant("re-identify on the same socket after op 9, with the double check")
def same_socket() -> None:
    class SameSocketWire(DoubleCheckWire):
        async def receive(self, envelope: Any) -> Any:
            machine = self._machine
            if envelope.op != Opcode.INVALID_SESSION or machine.phase is not Phase.READY:
                return machine.receive(envelope)
            machine.phase, machine.session, machine.sequence = Phase.GREETED, None, None
            machine.connection.start_again()
            return _connection.Ignored("op 9: once more on the same socket")

    run_tasks = _connection.Connection._run_tasks

    async def run_tasks_known(self: Any, transport: Any) -> None:
        self.machine.connection = self
        await run_tasks(self, transport)

    async def identify_soon(self: Any) -> None:
        await trio.sleep(5.5)
        await self._shake_hands()

    Machine.connection = None  # type: ignore[attr-defined]
    _connection.Connection._run_tasks = run_tasks_known  # type: ignore[method-assign]
    _connection.Connection.start_again = lambda self: self._nursery.start_soon(identify_soon, self)  # type: ignore[attr-defined]
    _connection.Wire = SameSocketWire  # type: ignore[misc]


@mutant("Identify and Resume are retried in place when no answer comes")
def handshake_retried() -> None:
    shake_hands = _connection.Connection._shake_hands

    async def again_and_again(self: Any) -> None:
        await shake_hands(self)
        while True:
            await trio.sleep(1.0)
            if self.machine.phase not in (Phase.IDENTIFYING, Phase.RESUMING):
                return
            self.machine.phase = Phase.GREETED
            await shake_hands(self)

    _connection.Connection._shake_hands = again_and_again  # type: ignore[method-assign]


@mutant("the phase of a handshake follows after its write")
def phase_after_write() -> None:
    class LateWire(_wire.Wire):
        async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
            async with self._lock:
                if self._condemned or not self._machine.admit(opcode):
                    return False
                data = document()
                if data is None:
                    return False
                try:
                    await self._send(data)
                except BaseException:
                    self._condemned = True
                    raise
                if self._machine.admit(opcode):
                    self._machine.goes_out(opcode)
                return True

    _connection.Wire = LateWire  # type: ignore[misc]


# --- the sender and its queue ---


@mutant("limits are waited for under the lock")
def budget_under_lock() -> None:
    async def run(self: Any) -> None:
        while True:
            while not self._queue._entries:
                await self._queue.wait_changed()
            entry = next(iter(self._queue._entries))
            async with self._wire._lock:
                while True:
                    now = trio.current_time()
                    wait = max(self._limits.wait(entry.key, now), self._budget.wait(now, pacing.Lane.USER))
                    if wait <= 0.0:
                        break
                    await trio.sleep(min(wait, 1.0))
            if self._queue.is_waiting(entry) and not await self._write(entry):
                return

    _sender.Sender.run = run  # type: ignore[method-assign]


@mutant("a caller's cancellation reaches the socket")
def cancel_reaches_socket() -> None:
    write = _sender.Sender._write

    async def write_known(self: Any, entry: Entry) -> bool:
        self._queue.wire = self._wire
        return await write(self, entry)

    async def send_cancellably(self: Any, command: Any) -> Any:
        with trio.CancelScope(shield=True):
            entry = Entry(command, owner=trio.lowlevel.current_task(), now=trio.current_time())
            self._raise_if_closed()
            await self._slots.acquire()
            self._append(entry, command)
        entry.caller = trio.lowlevel.current_task()

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            if entry.writing:
                entry.cancelled = raise_cancel
                if self.wire._in_flight is not None:
                    self.wire._in_flight.cancel()
                return trio.lowlevel.Abort.FAILED
            self._withdraw(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    CommandQueue.wire = None  # type: ignore[attr-defined]
    CommandQueue.send = send_cancellably  # type: ignore[method-assign]
    _sender.Sender._write = write_known  # type: ignore[method-assign]


@mutant("a permit is not given back when a write was refused or broke")
def permit_kept() -> None:
    pacing.BotLimits.give_back = lambda self, key: None  # type: ignore[method-assign]


@mutant("a permit is given back twice")
def permit_twice() -> None:
    give_back = pacing.BotLimits.give_back

    def twice(self: Any, key: object) -> None:
        give_back(self, key)
        give_back(self, key)

    pacing.BotLimits.give_back = twice  # type: ignore[method-assign]


@mutant("a command leaves the queue when it is picked up: lost if the write breaks")
def removed_too_early() -> None:
    def broke(self: Any, entry: Entry) -> None:
        entry.writing = False
        self._remove(entry)

    CommandQueue.broke = broke  # type: ignore[method-assign]
    _forgive_what_is_gone()


@mutant("a write that broke counts as written")
def broken_is_written() -> None:
    write = _wire.Wire.write

    async def hopeful(self: Any, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        try:
            return await write(self, opcode, document)
        except ConnectionLost:
            if opcode in (Opcode.HEARTBEAT, Opcode.IDENTIFY, Opcode.RESUME):
                raise
            return True

    _wire.Wire.write = hopeful  # type: ignore[method-assign]


@mutant("a command is written again although its frame was whole")
def written_twice() -> None:
    written = CommandQueue.written

    def forgetful(self: Any, entry: Entry, receipt: Any) -> None:
        if receipt.sequence_at_send % 7 == 0 and entry.attempts == 1:
            entry.writing = False
            return
        written(self, entry, receipt)

    CommandQueue.written = forgetful  # type: ignore[method-assign]


@mutant("a withdrawn command stays in the queue")
def withdrawn_is_written() -> None:
    def withdraw(self: Any, entry: Entry) -> None:
        entry.caller = None

    CommandQueue._withdraw = withdraw  # type: ignore[method-assign]


@mutant("commands that wait are dropped when the connection ends")
def dropped_at_reconnect() -> None:
    after_attempt = _shard.Shard._after_attempt

    def forget(self: Any, result: Any) -> None:
        after_attempt(self, result)
        for entry in list(self._queue._entries):
            self._queue._remove(entry)

    _shard.Shard._after_attempt = forget  # type: ignore[method-assign]
    _forgive_what_is_gone()


def _forgive_what_is_gone() -> None:
    withdraw = CommandQueue._withdraw

    def if_there(self: Any, entry: Entry) -> None:
        if entry in self._entries:
            withdraw(self, entry)

    CommandQueue._withdraw = if_there  # type: ignore[method-assign]


@mutant("a newer presence does not take the turn of an older one")
def presences_pile_up() -> None:
    CommandQueue._presence_to_send = lambda self, now: None  # type: ignore[method-assign]


@mutant("the newest command goes first")
def newest_first() -> None:
    due = CommandQueue.due

    def reversed_due(self: Any, now: float) -> Any:
        for entry in self._entries:
            entry.true_owner, entry.owner = entry.owner, entry
        self._entries = dict(reversed(self._entries.items()))
        try:
            return due(self, now)
        finally:
            self._entries = dict(reversed(self._entries.items()))

    class RoomyEntry(Entry):
        __slots__ = ("true_owner",)

    _queue.Entry = RoomyEntry  # type: ignore[misc]
    CommandQueue.due = reversed_due  # type: ignore[method-assign]


@mutant("the limit of 5 presences in 20 s, and of full lists, is not kept")
def no_bot_limits() -> None:
    pacing.BotLimits.wait = lambda self, key, now: 0.0  # type: ignore[method-assign]


@mutant("the limit of 120 payloads in 60 s is not kept")
def no_send_limit() -> None:
    pacing.SendBudget.wait = lambda self, now, lane: 0.0  # type: ignore[method-assign]


@mutant("heartbeats wait for the users' share of the limit")
def heartbeats_wait_for_users() -> None:
    wait = pacing.SendBudget.wait
    pacing.SendBudget.wait = lambda self, now, lane: wait(self, now, pacing.Lane.USER)  # type: ignore[method-assign]
    take, commit = pacing.SendBudget.take, pacing.SendBudget.commit
    pacing.SendBudget.take = lambda self, lane=pacing.Lane.USER: take(self)  # type: ignore[method-assign]
    pacing.SendBudget.commit = lambda self, now, lane=pacing.Lane.USER: commit(self, now)  # type: ignore[method-assign]
    give_back = pacing.SendBudget.give_back
    pacing.SendBudget.give_back = lambda self, lane=pacing.Lane.USER: give_back(self)  # type: ignore[method-assign]


# --- who waits ---


@mutant("RESUMED does not wake who waits for readiness")
def resumed_wakes_nobody() -> None:
    opened = _shard.Shard._opened

    def ready_only(self: Any, event: Open) -> None:
        gate = self._gate
        if event.resumed:
            self._gate = trio.lowlevel.ParkingLot()
        opened(self, event)
        self._gate = gate

    _shard.Shard._opened = ready_only  # type: ignore[method-assign]


@mutant("RESUMED does not start the sender")
def resumed_starts_no_sender() -> None:
    open_ = _connection.Connection._open

    def ready_only(self: Any, event: Open) -> None:
        if event.resumed:
            self._opened_at = trio.current_time()
            self._reader.opened()
            self._on_open(event)
        else:
            open_(self, event)

    _connection.Connection._open = ready_only  # type: ignore[method-assign]


@mutant("readiness latches: once ready, always ready")
def readiness_latches() -> None:
    async def wait_ready(self: Any) -> None:
        await trio.lowlevel.checkpoint()
        while not self._identifies and self._closed is None:
            await self._gate.park()
        self._queue._raise_if_closed()

    _shard.Shard.wait_ready = wait_ready  # type: ignore[method-assign]


# --- the session and its events ---


@mutant("closed with 1000 although a resume was meant")
def closes_with_1000() -> None:
    _connection.LEAVE_RESUMABLY = 1000  # type: ignore[misc]
    init = _connection.Connection.__init__

    def init_politely(self: Any, **options: Any) -> None:
        init(self, **options)
        self._goodbye = 1000

    _connection.Connection.__init__ = init_politely  # type: ignore[method-assign]


@mutant("a network error costs the session")
def network_error_costs_session() -> None:
    session_after = recovery.Recovery._session_after

    def forgetful(self: Any, result: Any) -> Any:
        return None if result.ending is Ending.LOST else session_after(self, result)

    recovery.Recovery._session_after = forgetful  # type: ignore[method-assign]


@mutant("a Resume asks from one event too early")
def resumes_too_early() -> None:
    current = Machine.current_session

    def earlier(self: Any) -> Any:
        session = current(self)
        return session if session is None or session.sequence < 2 else session.at(session.sequence - 1)

    Machine.current_session = earlier  # type: ignore[method-assign]


@mutant("events of a replay are dropped")
def replay_dropped() -> None:
    publish = _reader.Reader._publish

    def ready_only(self: Any, envelope: Any) -> None:
        if self._machine.phase is not Phase.RESUMING:
            publish(self, envelope)

    _reader.Reader._publish = ready_only  # type: ignore[method-assign]


@mutant("an event counts as received before there was room for it")
def counted_too_early() -> None:
    take = _reader.Reader._take

    async def count_first(self: Any, envelope: Any) -> bool:
        if envelope.op == 0 and self._machine.phase is Phase.READY:
            self._machine._advance(envelope.s)
        return await take(self, envelope)

    _reader.Reader._take = count_first  # type: ignore[method-assign]


@mutant("op 9 true is taken for op 9 false")
def op9_true_is_false() -> None:
    class Deaf(SessionInvalidated):
        def __init__(self, resumable: bool) -> None:
            super().__init__(resumable=False)

    from trioshard.protocol import machine

    machine.SessionInvalidated = Deaf  # type: ignore[misc]


@mutant("no 5 s between two Identifies")
def no_identify_spacing() -> None:
    _identify_queue.spacing_wait = lambda *_, **__: 0.0
    recovery.Recovery.identify_delay = lambda self, now: 0.0  # type: ignore[method-assign]
    recovery.Recovery._before_identify = lambda self, result, now: 0.0  # type: ignore[method-assign]


# --- the peer ---


@mutant("a zombie is never given up")
def no_zombie_verdict() -> None:
    pulse.Pulse.is_zombie = lambda self, now: False  # type: ignore[method-assign]


@mutant("RESUMED has no watchdog")
def no_watchdog() -> None:
    watchdog.Watchdog.shook_hands = lambda self, now, *, resuming: None  # type: ignore[method-assign]


@mutant("the heartbeat begins only at READY")
def late_heartbeats() -> None:
    run = _heartbeater.Heartbeater.run

    async def wait_first(self: Any) -> Any:
        while self._machine.phase is not Phase.READY:
            await trio.sleep(0.5)
        return await run(self)

    _heartbeater.Heartbeater.run = wait_first  # type: ignore[method-assign]


@mutant("a heartbeat that the server asks for moves the timer")
def request_moves_timer() -> None:
    beat_sent = pulse.Pulse.beat_sent

    def and_move(self: Any, now: float) -> None:
        self.next_beat = max(self.next_beat, now + 1.5 * self.interval)
        beat_sent(self, now)

    pulse.Pulse.beat_sent = and_move  # type: ignore[method-assign]


# --- the end ---


@mutant("the stream is not closed when a connection is over")
def stream_left_open() -> None:
    async def leave_it(stream: Any) -> None:
        await trio.lowlevel.checkpoint()

    class Lenient:
        def __getattr__(self, name: str) -> Any:
            return leave_it if name == "aclose_forcefully" else getattr(trio, name)

    _open_transport.trio = Lenient()  # type: ignore[attr-defined]


@mutant("a task is left behind by each connection")
def task_left_behind() -> None:
    run = _connection.Connection.run

    async def and_linger(self: Any) -> Any:
        trio.lowlevel.spawn_system_task(partial(trio.sleep, 100_000.0))
        return await run(self)

    _connection.Connection.run = and_linger  # type: ignore[method-assign]


@mutant("leaving waits for a write for as long as the write takes")
def slow_departure() -> None:
    _open_shard.LEAVE_TIMEOUT = math.inf  # type: ignore[misc]


@mutant("a send that waits is not told that the shard is over")
def not_told_of_the_end() -> None:
    close = CommandQueue.close

    def quietly(self: Any, failure: Any) -> None:
        entries, self._entries = self._entries, {}
        close(self, failure)
        self._entries = entries

    CommandQueue.close = quietly  # type: ignore[method-assign]
