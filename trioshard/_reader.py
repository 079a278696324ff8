"""From the transport to the hub: the one task that reads.

It never runs user code, and waits for nothing but the wire, the state lock, and room in the outboxes. An event is
received (its sequence counted) in the same step in which it is published: whatever breaks before that is replayed
by the next Resume, and nothing after it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from trioshard.errors import ConnectionClosed, ConnectionLost, GatewayProtocolError
from trioshard.protocol.codec import scan
from trioshard.protocol.events import Dispatch, RateLimited
from trioshard.protocol.machine import Deliver, Open
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import Phase
from trioshard.protocol.recovery import Ending
from trioshard.protocol.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trioshard._subscription import Hub
    from trioshard._transport import Transport
    from trioshard._wire import Wire
    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.compression import Inflater
    from trioshard.protocol.machine import Machine, Notice
    from trioshard.protocol.pulse import Pulse

__all__ = ["Reader", "Verdict"]

Verdict = tuple[Ending, Exception]


class Reader:
    """Reads one connection.

    Args:
        transport: where messages come from.
        inflater: makes documents of them.
        wire: for payloads that move the phase.
        machine: for those that do not.
        hub: where events go.
        shard: ``(shard_id, num_shards)``, for the dispatches.
        rate_limited: is told of every RATE_LIMITED event.
        react: carries out every effect but `Deliver`; returns whether to read on.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        inflater: Inflater,
        wire: Wire,
        machine: Machine,
        hub: Hub,
        shard: tuple[int, int],
        rate_limited: Callable[[Dispatch], None],
        react: Callable[[Notice], Awaitable[bool]],
    ) -> None:
        self._transport = transport
        self._inflater = inflater
        self._wire = wire
        self._machine = machine
        self._hub = hub
        self._shard = shard
        self._rate_limited = rate_limited
        self._react = react
        self._watchdog = Watchdog(trio.current_time())
        self._scope: trio.CancelScope | None = None
        self.pulse: Pulse | None = None
        """Set by the connection at Hello."""
        self.progressed = False
        """Whether a replay brought anything."""

    def greeted(self, interval: float) -> None:
        """Hello came: the time until the handshake is written is our own."""
        self._watchdog.greeted(interval)
        self._set_deadline()

    def shook_hands(self, *, resuming: bool) -> None:
        """Identify or Resume was written: READY or RESUMED is awaited from now on."""
        self._watchdog.shook_hands(trio.current_time(), resuming=resuming)
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._scope is not None:
            self._scope.deadline = self._watchdog.deadline

    async def run(self) -> Verdict | None:
        """Read until the connection ends; say why it did, or ``None`` when an effect ended it."""
        with trio.move_on_at(self._watchdog.deadline) as self._scope:
            try:
                await self._read()
            except ConnectionClosed as exc:
                return Ending.CLOSED, exc
            except ConnectionLost as exc:
                return Ending.LOST, exc
            except GatewayProtocolError as exc:
                return Ending.BROKEN, exc
            finally:
                self._hub.wake()
            return None
        return Ending.TIMED_OUT, TimeoutError("it was silent for too long")

    async def _read(self) -> None:
        while True:
            batch = await self._transport.receive_batch()
            batch.reverse()  # what has been taken is gone: an idle shard keeps nothing
            while (envelope := self._run_through(batch)) is not None:
                if not await self._take(envelope):
                    return

    def _run_through(self, batch: list[bytes | str]) -> Envelope | None:
        """Take messages off the end, and pass on their events. Return the first payload that `_take` has to take."""
        while batch:
            document = self._inflater.feed(batch.pop())
            if document is not None:
                envelope = scan(document)
                if not self._pass_on(envelope):
                    self._hub.wake()
                    return envelope
        if self._transport.is_resting:
            self._hub.wake()
        return None

    def _pass_on(self, envelope: Envelope) -> bool:
        """Publish an event of a running session, if every outbox has room; `_take` does whatever else there is to do.

        This is all that happens to nearly all that arrives: no task, scope or lock, and nothing awaited.
        """
        machine = self._machine
        if not machine.runs_on(envelope) or envelope.t == RateLimited.NAME:
            return False
        if not self._hub.offer(self._dispatch(envelope)):
            return False
        machine.receive(envelope)
        return True

    async def _take(self, envelope: Envelope) -> bool:
        if self.pulse is not None:
            self.pulse.read(trio.current_time())
        replaying = False
        if envelope.op == Opcode.DISPATCH:
            # Until the gate is open, somebody who should make room may be waiting for the gate.
            replaying = self._machine.phase is not Phase.READY
            if not self._hub.has_room(envelope.t or "", replaying=replaying):
                await self._wait_room(envelope.t or "", replaying=replaying)
        if self._machine.moves(envelope) is None:
            effect = self._machine.receive(envelope)
        else:
            effect = await self._wire.receive(envelope)
        if isinstance(effect, Deliver):
            self._publish(envelope)
            if replaying:
                self._note_progress(replayed=True)
            return True
        self._note_progress(replayed=False)
        go_on = await self._react(effect)
        if isinstance(effect, Open):
            # The gate opens before anybody hears of it: who sends from a READY listener must not wait.
            self._publish(envelope)
        return go_on

    def _publish(self, envelope: Envelope) -> None:
        dispatch = self._dispatch(envelope)
        self._hub.publish(dispatch)
        if dispatch.name == RateLimited.NAME:
            self._rate_limited(dispatch)

    def _dispatch(self, envelope: Envelope) -> Dispatch:
        session = self._machine.session
        session_id = "" if session is None else session.id
        return Dispatch(envelope.t or "", envelope.s, self._shard, envelope.d, session_id)

    async def _wait_room(self, name: str, *, replaying: bool) -> None:
        # We hold ourselves up: neither the handshake's watchdog nor the heartbeat may blame the peer.
        assert self._scope is not None
        self._scope.deadline = math.inf
        if self.pulse is not None:
            self.pulse.reader_blocked(trio.current_time())
        await self._hub.wait_room(name, replaying=replaying)
        if self.pulse is not None:
            self.pulse.reader_free(trio.current_time())
        self._watchdog.heard(trio.current_time(), replayed=replaying)
        self._set_deadline()

    def _note_progress(self, *, replayed: bool) -> None:
        self.progressed = self.progressed or replayed
        self._watchdog.heard(trio.current_time(), replayed=replayed)
        self._set_deadline()

    def heard(self) -> None:
        """Bytes arrived: a message that takes long is no silence."""
        self._watchdog.heard(trio.current_time(), replayed=False)
        # While we hold ourselves up, no deadline runs, and none is to be set.
        if self._scope is not None and self._scope.deadline < math.inf:
            self._set_deadline()

    def opened(self) -> None:
        """READY or RESUMED came: from here on heartbeats watch the peer."""
        self._watchdog.opened()
        self._set_deadline()
