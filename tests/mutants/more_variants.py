"""More shards that are broken on purpose: what a red team found tempting. See `tests.mutants.variants`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import outcome
import trio

from tests.mutants.variants import mutant
from trioshard import _connection, _heartbeater, _queue, _sender, _shard, _subscription, _wire
from trioshard import _transport_trio_websocket as _trio_websocket
from trioshard._queue import CommandQueue, Entry
from trioshard._subscription import Hub, Outbox
from trioshard.errors import ConnectionLost
from trioshard.protocol import pacing, pulse, recovery
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import CloseAction
from trioshard.protocol.phases import Phase
from trioshard.protocol.recovery import Ending

# --- receipts ---


@mutant("a receipt counts the writes that broke, and not the one that did not")
def attempts_miscounted() -> None:
    receipt = _sender.Sender._receipt

    def broken_ones(self: Any, entry: Entry, begun: float, now: float) -> Any:
        return replace(receipt(self, entry, begun, now), attempts=max(1, entry.attempts - 1))

    _sender.Sender._receipt = broken_ones  # type: ignore[method-assign]


@mutant("a receipt names the session that the shard began with")
def receipt_of_first_session() -> None:
    receipt = _sender.Sender._receipt

    def of_the_first(self: Any, entry: Entry, begun: float, now: float) -> Any:
        right = receipt(self, entry, begun, now)
        first = self._queue.__dict__.setdefault("first_session", right.session_id)
        return replace(right, session_id=first)

    _sender.Sender._receipt = of_the_first  # type: ignore[method-assign]


@mutant("a receipt has the sequence with which the connection opened")
def receipt_of_old_sequence() -> None:
    init, receipt = _sender.Sender.__init__, _sender.Sender._receipt

    def init_with_sequence(self: Any, **options: Any) -> None:
        init(self, **options)
        self.opened_with = self._machine.sequence

    def of_the_opening(self: Any, entry: Entry, begun: float, now: float) -> Any:
        return replace(receipt(self, entry, begun, now), sequence_at_send=self.opened_with)

    _sender.Sender.__init__ = init_with_sequence  # type: ignore[method-assign]
    _sender.Sender._receipt = of_the_opening  # type: ignore[method-assign]


# --- the queue ---


@mutant("the slot of a written command is set free twice")
def slot_freed_twice() -> None:
    written = CommandQueue.written

    def and_free(self: Any, entry: Entry, receipt: Any) -> None:
        written(self, entry, receipt)
        self._slots.release()

    CommandQueue.written = and_free  # type: ignore[method-assign]


@mutant("the slot of a withdrawn command is never set free")
def slot_kept() -> None:
    def withdraw(self: Any, entry: Entry) -> None:
        self._withdrawn += 1
        del self._entries[entry]
        self._presences.pop(entry, None)
        self._changed.unpark_all()

    CommandQueue._withdraw = withdraw  # type: ignore[method-assign]


@mutant("who is cancelled during a write that breaks goes free, and his command stays in the queue")
def broken_and_cancelled_stays() -> None:
    def broke(self: Any, entry: Entry) -> None:
        entry.writing = False
        self._retried += 1
        if entry.cancelled is not None:
            caller, entry.caller = entry.caller, None
            trio.lowlevel.reschedule(caller, outcome.capture(entry.cancelled))

    CommandQueue.broke = broke  # type: ignore[method-assign]


@mutant("a cancellation that was held back is forgotten when the write breaks")
def cancellation_forgotten() -> None:
    def broke(self: Any, entry: Entry) -> None:
        entry.writing = False
        self._retried += 1

    CommandQueue.broke = broke  # type: ignore[method-assign]


@mutant("whoever waits for a limit is overtaken by his own later commands")
def overtakes_itself() -> None:
    def due(self: Any, now: float) -> Any:
        wait = math.inf
        presence = self._presence_to_send(now)
        for entry in self._entries:
            if entry.key == "presence" and presence is not None:
                entry = presence
            delay = self._limits.wait(entry.key, now)
            if delay <= 0.0:
                return entry
            wait = min(wait, delay if delay != math.inf else _queue._RECHECK)
        return wait

    CommandQueue.due = due  # type: ignore[method-assign]


@mutant("the last presence is the one that was handed over last")
def presence_when_given() -> None:
    append, written = CommandQueue._append, CommandQueue.written

    def append_and_keep(self: Any, entry: Entry, command: Any) -> None:
        append(self, entry, command)
        if entry.key == "presence":
            self.last_presence = command

    def written_and_keep(self: Any, entry: Entry, receipt: Any) -> None:
        last = self.last_presence
        written(self, entry, receipt)
        self.last_presence = last

    CommandQueue._append = append_and_keep  # type: ignore[method-assign]
    CommandQueue.written = written_and_keep  # type: ignore[method-assign]


@mutant("a new session begins without the last presence")
def identify_without_presence() -> None:
    written = CommandQueue.written

    def written_and_forgotten(self: Any, entry: Entry, receipt: Any) -> None:
        written(self, entry, receipt)
        self.last_presence = None

    CommandQueue.written = written_and_forgotten  # type: ignore[method-assign]


@mutant("an idle sender is not told of a new command")
def added_wakes_nobody() -> None:
    append = CommandQueue._append

    def quietly(self: Any, entry: Entry, command: Any) -> None:
        changed, self._changed = self._changed, trio.lowlevel.ParkingLot()
        append(self, entry, command)
        self._changed = changed

    CommandQueue._append = quietly  # type: ignore[method-assign]


# --- limits ---


@mutant("no slots are kept for heartbeats")
def no_reserve() -> None:
    change_interval = pacing.SendBudget.change_interval

    def for_everybody(self: Any, interval: float) -> None:
        change_interval(self, interval)
        self._limits = dict.fromkeys(pacing.Lane, pacing.SEND_LIMIT)

    pacing.SendBudget.change_interval = for_everybody  # type: ignore[method-assign]


@mutant("the bot's limits begin anew with each connection")
def limits_of_a_connection() -> None:
    init = _connection.Connection.__init__

    def init_freshly(self: Any, **options: Any) -> None:
        options["limits"]._logs.clear()
        init(self, **options)

    _connection.Connection.__init__ = init_freshly  # type: ignore[method-assign]


# --- recovery ---


@mutant("a session is resumed after close code 4009, and its like")
def session_kept_after_its_end() -> None:
    def policy(code: int | None) -> Any:
        right = close_policy(code)
        return replace(right, action=CloseAction.RESUME) if right.action is CloseAction.IDENTIFY else right

    close_policy = recovery.close_policy
    recovery.close_policy = policy


@mutant("a session that is closed with suspect codes is resumed for ever")
def suspect_for_ever() -> None:
    session_after = recovery.Recovery._session_after

    def forgetful(self: Any, result: Any) -> Any:
        self._suspect = None
        return session_after(self, result)

    recovery.Recovery._session_after = forgetful  # type: ignore[method-assign]


@mutant("no backoff: a hot loop")
def no_backoff() -> None:
    pacing.Backoff.before_attempt = lambda self, failures, random: 0.0  # type: ignore[method-assign]


@mutant("any READY ends the backoff, however short it was")
def ready_ends_backoff() -> None:
    recovery.STABLE = 0.0  # type: ignore[misc]


@mutant("the resume URL is not used")
def resume_url_unused() -> None:
    after = recovery.Recovery.after
    recovery.Recovery.after = lambda self, result, now: replace(after(self, result, now), at_resume_url=False)  # type: ignore[method-assign]


# --- the machine ---


@mutant("events of a replay are not counted as received")
def replay_not_counted() -> None:
    advance = Machine._advance

    def when_ready(self: Any, sequence: int | None) -> None:
        if self.phase is not Phase.RESUMING:
            advance(self, sequence)

    Machine._advance = when_ready  # type: ignore[method-assign]


@mutant("a heartbeat carries null")
def heartbeat_null() -> None:
    encode = _heartbeater.encode_heartbeat
    _heartbeater.encode_heartbeat = lambda sequence: encode(None)


@mutant("a heartbeat carries the sequence of the one before")
def heartbeat_stale() -> None:
    init, encode = _heartbeater.Heartbeater.__init__, _heartbeater.encode_heartbeat
    last: list[int | None] = [None]

    def init_anew(self: Any, **options: Any) -> None:
        init(self, **options)
        last[0] = options["machine"].sequence

    def encode_last(sequence: int | None) -> bytes:
        stale, last[0] = last[0], sequence
        return encode(stale)

    _heartbeater.Heartbeater.__init__ = init_anew  # type: ignore[method-assign]
    _heartbeater.encode_heartbeat = encode_last


# --- the peer and the clock ---


@mutant("time that got lost is not noticed")
def frozen_unnoticed() -> None:
    sleep_until = _heartbeater.Heartbeater._sleep_until

    async def no_loss(self: Any, due: float) -> float:
        await sleep_until(self, due)
        return 0.0

    _heartbeater.Heartbeater._sleep_until = no_loss  # type: ignore[method-assign]


@mutant("silence counts against the peer while a slow listener keeps the reader from reading")
def blocked_reader_blames_peer() -> None:
    pulse.Pulse.reader_blocked = lambda self, now: None  # type: ignore[method-assign]
    pulse.Pulse.reader_free = lambda self, now: None  # type: ignore[method-assign]


@mutant("a late ACK is a zombie, whatever else arrived")
def late_ack_is_zombie() -> None:
    pulse.Pulse.is_zombie = lambda self, now: self._unanswered is not None  # type: ignore[method-assign]


@mutant("a write has no deadline")
def no_write_timeout() -> None:
    init = _wire.Wire.__init__

    def patiently(self: Any, transport: Any, machine: Any, *, write_timeout: float) -> None:
        init(self, transport, machine, write_timeout=math.inf)

    _wire.Wire.__init__ = patiently  # type: ignore[method-assign]


@mutant("a close code behind a broken write is not looked for")
def no_last_words() -> None:
    async def write_failed(self: Any, error: ConnectionLost) -> None:
        await self._end(Ending.LOST, error)

    _connection.Connection._write_failed = write_failed  # type: ignore[method-assign]


@mutant("a close frame behind a write that stalled is overlooked")
def close_behind_stall() -> None:
    write_failed = _connection.Connection._write_failed

    async def blindly(self: Any, error: ConnectionLost) -> None:
        if isinstance(error, _wire.WriteStalled):
            await self._end(Ending.STALLED, error)
        else:
            await write_failed(self, error)

    _connection.Connection._write_failed = blindly  # type: ignore[method-assign]


@mutant("a goodbye takes as long as it takes")
def endless_goodbye() -> None:
    from trioshard import _transport_websockets

    _trio_websocket.CLOSE_TIMEOUT = math.inf  # type: ignore[misc]
    _transport_websockets.CLOSE_TIMEOUT = math.inf  # type: ignore[misc]


@mutant("one inflater for all connections")
def inflater_shared() -> None:
    open_inflater = _connection.open_inflater
    kept: dict[Any, Any] = {}

    def open_once(kind: Any, **options: Any) -> Any:
        if kind not in kept:
            kept[kind] = open_inflater(kind, **options)
        return kept[kind]

    _connection.open_inflater = open_once


@mutant("a pong is written without waiting for the frame under way")
def pong_cuts_frame() -> None:
    from trioshard._transport_websockets import _WebsocketsTransport

    async def at_once(self: Any) -> None:
        try:
            while self._answer is not None:
                await self._write_answer()
        finally:
            self._answering = False

    _WebsocketsTransport._write_answers = at_once  # type: ignore[method-assign]


# --- subscribers ---


@mutant("an outbox that drops its oldest event grows without bound")
def drop_oldest_drops_none() -> None:
    put = Outbox.put

    def keep_all(self: Any, dispatch: Any) -> None:
        if self.overflow == "drop_oldest":
            self.items.append(dispatch)
            self.arrived.unpark()
        else:
            put(self, dispatch)

    Outbox.put = keep_all  # type: ignore[method-assign]


@mutant("the reader never waits for a subscriber")
def no_backpressure() -> None:
    Outbox.has_room = lambda self, capacity: True  # type: ignore[method-assign]


@mutant("what was received counts as processed")
def processed_is_received() -> None:
    Hub.processed = lambda self, session_id, received: received  # type: ignore[method-assign]


@mutant("an event counts as processed when it is handed out")
def processed_when_handed_out() -> None:
    Outbox.unfinished = lambda self: list(self.items)  # type: ignore[method-assign]


@mutant("the last event of a subscriber never counts as processed")
def processed_too_late() -> None:
    processed = Hub.processed
    Hub.processed = lambda self, session_id, received: max(1, processed(self, session_id, received) - 1)  # type: ignore[method-assign]


@mutant("a subscription that was dropped is fed for ever")
def dropped_is_fed() -> None:
    Hub.abandon = lambda self, outbox: None  # type: ignore[method-assign]


@mutant("an outbox takes no more during a replay than at other times")
def no_replay_capacity() -> None:
    _subscription.REPLAY_CAPACITY = 0  # type: ignore[misc]


@mutant("the reader is not told that there is room again")
def room_wakes_nobody() -> None:
    Hub.taken = lambda self: None  # type: ignore[method-assign]


# --- the end ---


@mutant("the end of a shard does not wake who waits for readiness")
def end_wakes_nobody() -> None:
    close = _shard.Shard.close

    def quietly(self: Any, failure: Any) -> None:
        gate, self._gate = self._gate, trio.lowlevel.ParkingLot()
        close(self, failure)
        self._gate = gate

    _shard.Shard.close = quietly  # type: ignore[method-assign]


@mutant("the end of a connection is carried out a second later")
def late_end() -> None:
    end = _connection.Connection._end

    async def hesitantly(self: Any, *verdict: Any, **detail: Any) -> None:
        await trio.sleep(1.0)
        await end(self, *verdict, **detail)

    _connection.Connection._end = hesitantly  # type: ignore[method-assign]


@mutant("the resume URL is used for ever, whoever answers there")
def resume_url_for_ever() -> None:
    after = recovery.Recovery.after

    def always(self: Any, result: Any, now: float) -> Any:
        plan = after(self, result, now)
        return replace(plan, at_resume_url=plan.session is not None)

    recovery.Recovery.after = always  # type: ignore[method-assign]


@mutant("a presence that was replaced stays in the queue")
def replaced_presence_stays() -> None:
    written = CommandQueue.written

    def only_itself(self: Any, entry: Entry, receipt: Any) -> None:
        others = {other: command for other, command in self._presences.items() if other is not entry}
        command = self._presences.get(entry)
        self._presences = {} if command is None else {entry: command}
        written(self, entry, receipt)
        self._presences = others

    CommandQueue.written = only_itself  # type: ignore[method-assign]


@mutant("the first heartbeat of each connection comes after a whole interval")
def no_jitter() -> None:
    init = pulse.Pulse.__init__

    def init_whole(self: Any, interval: float, now: float, jitter: float) -> None:
        init(self, interval, now, 1.0)

    pulse.Pulse.__init__ = init_whole  # type: ignore[method-assign]


@mutant("leaving cuts the write that is under way")
def leaving_cuts_write() -> None:
    async def leave(self: Any) -> None:
        self._condemn()
        async with self._lock:
            self._machine.close()

    _wire.Wire.leave = leave  # type: ignore[method-assign]


@mutant("a session is given up when its resume is not answered at once")
def fruitless_at_once() -> None:
    recovery.FRUITLESS_RESUMES = 2  # type: ignore[misc]


@mutant("a message that cannot be decoded costs the session at the first time")
def poison_at_once() -> None:
    recovery.POISONED = 0  # type: ignore[misc]


@mutant("a second Hello starts a second handshake")
def second_hello_greets_again() -> None:
    from trioshard.protocol import machine

    greet = machine.Greet
    machine.Greet = lambda interval, first: greet(interval, first=True)  # type: ignore[misc, assignment]
