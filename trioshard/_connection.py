"""One connection attempt: the nursery of reader, heartbeater and sender, from Hello to the end.

`Connection.run` returns an `Outcome`, and raises nothing but bugs. Whatever ends the connection ends it here, once,
through `_end`: the phase becomes CLOSING under the state lock, and the nursery is cancelled.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from trioshard._heartbeater import Heartbeater
from trioshard._open_transport import open_transport
from trioshard._reader import Reader
from trioshard._sender import Sender
from trioshard._wire import Wire, WriteStalled
from trioshard.errors import (
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    GatewayProtocolError,
    SessionStartsExhausted,
    StoreError,
)
from trioshard.protocol import codec
from trioshard.protocol.commands import limited_key
from trioshard.protocol.compression import open_inflater
from trioshard.protocol.events import Dispatch, RateLimited
from trioshard.protocol.machine import (
    Acked,
    BeatNow,
    Greet,
    Ignored,
    Machine,
    Notice,
    Open,
    Reconnect,
    SessionInvalidated,
)
from trioshard.protocol.opcodes import LEAVE_FOR_GOOD, LEAVE_RESUMABLY, CloseAction, Opcode, close_policy
from trioshard.protocol.pacing import SendBudget
from trioshard.protocol.pulse import Pulse
from trioshard.protocol.recovery import Ending, Outcome
from trioshard.protocol.url import connection_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from trioshard._config import ShardConfig
    from trioshard._queue import CommandQueue
    from trioshard._subscription import Hub
    from trioshard._transport import Transport
    from trioshard.protocol.compression import Compression, TransportCompression
    from trioshard.protocol.pacing import BotLimits
    from trioshard.protocol.phases import Phase
    from trioshard.protocol.session import Session

__all__ = ["Connection"]

LAST_WORDS: Final = 2.0
"""Seconds that the reader gets after a broken write to find the close code that explains it."""

LONGEST_POSTPONEMENT: Final = 600.0
"""Seconds for which a RATE_LIMITED event is believed; Discord's own limits are shorter."""

_DROPPED: Final = frozenset({Ending.ZOMBIE, Ending.STALLED, Ending.LOST, Ending.FROZEN})
"""Endings after which nobody listens: no goodbye is attempted."""

logger = logging.getLogger("trioshard")


class Connection:
    """One WebSocket connection of a shard, used once.

    Args:
        config: what the shard was opened with.
        base_url: where to connect, without query.
        session: the session to resume, or ``None`` to identify.
        epoch: the number of this connection.
        queue: the shard's commands.
        limits: the bot's limits.
        hub: where events go.
        permit: a block in which this shard may identify, once; entering it may take long.
        on_open: called at READY and RESUMED, before anybody else hears of it.
    """

    def __init__(
        self,
        *,
        config: ShardConfig,
        base_url: str,
        session: Session | None,
        epoch: int,
        queue: CommandQueue,
        limits: BotLimits,
        hub: Hub,
        permit: Callable[[], AbstractAsyncContextManager[None]],
        on_open: Callable[[Open], None],
    ) -> None:
        transport_compression, kind = _compressions(config, session)
        self.machine = Machine(session=session, shard=config.shard, compress=transport_compression)
        self.pulse: Pulse | None = None
        self.budget: SendBudget | None = None
        self._url = connection_url(base_url, compress=transport_compression)
        self._inflater = open_inflater(kind, max_message=config.max_message_size)
        self._config = config
        self._epoch = epoch
        self._queue = queue
        self._limits = limits
        self._hub = hub
        self._permit = permit
        self._on_open = on_open
        self._opened_at: float | None = None
        self._over_at: float | None = None
        self._ending: tuple[Ending, Exception | None, str] | None = None
        self._goodbye: int = LEAVE_RESUMABLY
        self._reader: Reader | None = None
        self._transport: Transport
        self._wire: Wire
        self._heartbeater: Heartbeater | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def phase(self) -> Phase:
        """Where this connection stands."""
        return self.machine.phase

    async def run(self) -> Outcome:
        """Connect, shake hands, and run until the connection ends.

        When cancelled it leaves at once; a goodbye that takes at most a second is shielded.
        """
        try:
            async with open_transport(
                self._url,
                dial=self._dial,
                ssl_context=self._config.ssl_context,
                max_message_size=self._config.max_message_size,
                transport=self._config.transport,
                heard=self._heard,
                resting=self._hub.wake,
            ) as transport:
                try:
                    await self._run_tasks(transport)
                finally:
                    await self._say_goodbye(transport)
        except ConnectFailed as exc:
            self._conclude(Ending.CONNECT_FAILED, exc, str(exc))
        except ConnectionLost as exc:
            self._conclude(Ending.LOST, exc, str(exc))
        finally:
            self.machine.closed()
        return self._outcome()

    async def _dial(self, host: str, port: int) -> trio.abc.Stream:
        return await self._config.dialer(self._url)(host, port)

    def _heard(self) -> None:
        """Bytes arrived, whole messages or not: the peer is there."""
        if self.pulse is not None:
            self.pulse.read(trio.current_time())
        if self._reader is not None:
            self._reader.heard()

    async def _run_tasks(self, transport: Transport) -> None:
        self.machine.connected()
        self._transport = transport
        self._wire = Wire(transport, self.machine, write_timeout=self._config.write_timeout)
        reader = self._reader = Reader(
            transport=transport,
            inflater=self._inflater,
            wire=self._wire,
            machine=self.machine,
            hub=self._hub,
            shard=self._config.shard,
            rate_limited=self._rate_limited,
            react=self._react,
        )
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._read, reader)
        finally:
            self._nursery = None

    # --- the tasks ---

    async def _read(self, reader: Reader) -> None:
        verdict = await reader.run()
        if verdict is not None:
            ending, error = verdict
            await self._end(ending, error)

    async def _beat(self, heartbeater: Heartbeater) -> None:
        try:
            ending, detail = await heartbeater.run()
        except ConnectionLost as exc:
            await self._write_failed(exc)
        else:
            if ending is not Ending.LEFT:
                await self._end(ending, detail=detail)

    async def _send(self, sender: Sender) -> None:
        try:
            await sender.run()
        except ConnectionLost as exc:
            await self._write_failed(exc)

    async def _shake_hands(self) -> None:
        opcode = self.machine.handshake
        try:
            if opcode is Opcode.RESUME:
                written = await self._wire.write(opcode, self._handshake_document)
            else:
                async with self._permit():
                    written = await self._wire.write(opcode, self._handshake_document)
        except ConnectionLost as exc:
            await self._write_failed(exc)
            return
        except (SessionStartsExhausted, StoreError) as exc:
            await self._end(Ending.NOT_PERMITTED, exc)
            return
        if written:
            assert self.budget is not None
            self.budget.take()
            self.budget.commit(trio.current_time())
            assert self._reader is not None
            self._reader.shook_hands(resuming=opcode is Opcode.RESUME)

    def _handshake_document(self) -> bytes:
        token = self._config.token.reveal()
        if self.machine.session is not None:
            return codec.encode_resume(token=token, session=self.machine.session)
        presence = self._queue.last_presence or self._config.presence
        return codec.encode_identify(
            token=token,
            intents=int(self._config.intents),
            shard=self._config.shard,
            properties=self._config.properties,
            presence=None if presence is None else presence.data(),
            large_threshold=self._config.large_threshold,
            payload_compression=self._config.compress == "payload",
        )

    # --- what arrives ---

    async def _react(self, effect: Notice) -> bool:
        """Carry out an effect; return whether to read on."""
        match effect:
            case Open():
                self._open(effect)
            case Acked():
                if self.pulse is not None:
                    self.pulse.acked(trio.current_time())
            case BeatNow():
                if self._heartbeater is not None:
                    self._heartbeater.beat_now()
            case Greet():
                self._greet(effect)
            case Reconnect():
                await self._end(Ending.RECONNECT)
                return False
            case SessionInvalidated():
                await self._end(Ending.INVALIDATED, detail="resumable" if effect.resumable else "gone for good")
                return False
            case Ignored():
                logger.debug("ignored: %s", effect.why)
        return True

    def _rate_limited(self, dispatch: Dispatch) -> None:
        try:
            event = dispatch.decode(RateLimited)
            key = limited_key(event)
        except (GatewayProtocolError, ValueError, TypeError, OverflowError):
            logger.warning("a RATE_LIMITED event makes no sense: %r", dispatch)
            return
        logger.warning("Discord dropped op %d for %.1f s: it came too often", event.opcode, event.retry_after)
        if key is not None:
            self._limits.postpone(key, trio.current_time() + min(event.retry_after, LONGEST_POSTPONEMENT))

    def _greet(self, hello: Greet) -> None:
        assert self._nursery is not None
        assert self._reader is not None
        now = trio.current_time()
        self._reader.greeted(hello.interval)
        if not hello.first:
            if self.pulse is not None and self.budget is not None and self._heartbeater is not None:
                self.pulse.change_interval(hello.interval, now)
                self.budget.change_interval(hello.interval)
                self._heartbeater.interval_changed()
            return
        self.pulse = self._reader.pulse = Pulse(hello.interval, now, jitter=self._config.random.random())
        self.budget = SendBudget(hello.interval)
        self._heartbeater = Heartbeater(
            wire=self._wire,
            machine=self.machine,
            pulse=self.pulse,
            budget=self.budget,
            wall_clock=self._config.wall_clock,
        )
        self._nursery.start_soon(self._beat, self._heartbeater)
        self._nursery.start_soon(self._shake_hands)

    def _open(self, opened: Open) -> None:
        assert self._nursery is not None
        assert self.budget is not None
        assert self._reader is not None
        self._opened_at = trio.current_time()
        self._reader.opened()
        self._on_open(opened)
        sender = Sender(
            wire=self._wire,
            machine=self.machine,
            queue=self._queue,
            budget=self.budget,
            limits=self._limits,
            epoch=self._epoch,
        )
        self._nursery.start_soon(self._send, sender)

    # --- the end ---

    async def leave(self, code: int) -> None:
        """Let the write in flight finish, then end the connection and say goodbye with ``code``."""
        self._goodbye = code
        if self._nursery is None:
            return
        self._conclude(Ending.LEFT, None, "")
        await self._wire.leave()
        self._cancel()

    async def _end(self, ending: Ending, error: Exception | None = None, detail: str = "") -> None:
        self._conclude(ending, error, detail or ("" if error is None else str(error)))
        await self._wire.close()
        self._cancel()

    async def _write_failed(self, error: ConnectionLost) -> None:
        await self._wire.close()
        stalled = isinstance(error, WriteStalled)
        if not stalled:
            # The gateway closed on us, and its reason may still lie in the socket: a 4004 must not be
            # mistaken for a broken line. The reader ends the connection when it finds it.
            await trio.sleep(LAST_WORDS)
        # A close frame may have come meanwhile, with the WebSocket library stuck in its answer. One that costs the
        # session is not believed: what lies unread before it may say that the session lives.
        closed = self._transport.close_seen()
        if closed is not None and close_policy(closed.code).action in (CloseAction.FATAL, CloseAction.RESUME):
            await self._end(Ending.CLOSED, closed)
        else:
            await self._end(Ending.STALLED if stalled else Ending.LOST, error)

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _conclude(self, ending: Ending, error: Exception | None, detail: str) -> None:
        # The first verdict counts; what follows are its echoes.
        if self._ending is None:
            self._ending = (ending, error, detail)
            self._over_at = trio.current_time()

    async def _say_goodbye(self, transport: Transport) -> None:
        if self._ending is None and not self._config.keep_session:
            self._goodbye = LEAVE_FOR_GOOD  # cancelled: as if the block had been left
        if self._ending is None or self._ending[0] not in _DROPPED:
            # Whoever reconnects does so at once. Whoever leaves wants to be sure that the code arrives.
            await transport.aclose(self._goodbye, wait=self._ending is None or self._ending[0] is Ending.LEFT)

    def _ready_for(self) -> float | None:
        if self._opened_at is None:
            return None
        # The goodbye does not count: it may take as long as the connection had lived.
        return (trio.current_time() if self._over_at is None else self._over_at) - self._opened_at

    def _outcome(self) -> Outcome:
        ending, error, detail = self._ending or (Ending.LEFT, None, "")
        code = error.code if isinstance(error, ConnectionClosed) else None
        return Outcome(
            ending=ending,
            phase=self.machine.reached,
            session=self.machine.current_session(),
            ready_for=self._ready_for(),
            progressed=self._reader is not None and self._reader.progressed,
            code=code,
            resumable=ending is Ending.INVALIDATED and detail == "resumable",
            error=error,
            detail=detail,
        )


def _compressions(config: ShardConfig, session: Session | None) -> tuple[TransportCompression | None, Compression]:
    """Return what the URL asks for, and what kind of messages to expect."""
    if session is not None:
        # A session does not tell whether it was identified with payload compression; that kind of
        # inflater takes plain text as well.
        return session.compress, session.compress or "payload"
    if config.compress is None or config.compress == "payload":
        return None, config.compress
    return config.compress, config.compress
