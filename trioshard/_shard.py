"""A shard: the loop over connection attempts, and the verbs that a user has in hand."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final, overload

import trio

from trioshard._connection import Connection
from trioshard._http import fetch_gateway
from trioshard._identify_queue import LocalIdentifyQueue
from trioshard._queue import CommandQueue, Receipt
from trioshard._statistics import ShardStatistics
from trioshard._subscription import DEFAULT_CAPACITY, Hub, Overflow, Subscription
from trioshard.errors import ConnectFailed, ShardClosed, ShardFailed
from trioshard.protocol.commands import (
    Activity,
    Command,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    Snowflake,
    Status,
    UpdatePresence,
    UpdateVoiceState,
)
from trioshard.protocol.events import Dispatch, Event
from trioshard.protocol.opcodes import LEAVE_FOR_GOOD, LEAVE_RESUMABLY
from trioshard.protocol.pacing import BotLimits, Lane
from trioshard.protocol.phases import Phase
from trioshard.protocol.recovery import Ending, Outcome, Plan, Recovery
from trioshard.protocol.url import is_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from trioshard._config import ShardConfig
    from trioshard._identify_queue import IdentifyQueue
    from trioshard.protocol.machine import Open
    from trioshard.protocol.session import Session
    from trioshard.protocol.starts import SessionStartLimit

__all__ = ["Shard"]

A = TypeVar("A", bound=Event)
B = TypeVar("B", bound=Event)
C = TypeVar("C", bound=Event)

_REMEMBERED_RECOVERIES: Final = 1024

logger = logging.getLogger("trioshard")


@final
class Shard:
    """One gateway connection that is kept up for as long as the block of `open_shard` lasts.

    Do not create it yourself. All methods are to be called from tasks of the same Trio run.
    """

    def __init__(self, config: ShardConfig, *, identify_queue: IdentifyQueue | None = None) -> None:
        self._config = config
        self._identify_queue = LocalIdentifyQueue() if identify_queue is None else identify_queue
        self._limit: SessionStartLimit | None = None
        self._limits = BotLimits()
        self._queue = CommandQueue(config.queue_capacity, self._limits)
        self._hub = Hub(keep_backlog=config.events)
        self._recovery = Recovery(shard=config.shard, backoff=config.backoff, random=config.random)
        self._session = config.session
        self._final = config.session
        self._gateway_url = config.url
        self._connection: Connection | None = None
        self._gate = trio.lowlevel.ParkingLot()
        self._closed: ShardClosed | None = None
        self._epoch = self._connections = self._identifies = self._resumes = 0
        self._last_ending = ""
        self._down_since: float | None = None
        self._recovery_times: list[float] = []

    def __repr__(self) -> str:
        shard_id, num_shards = self._config.shard
        return f"<Shard {shard_id} of {num_shards}: {self.phase.value}, epoch {self._epoch}>"

    # --- the loop over attempts ---

    async def run(self) -> None:
        """Connect, and reconnect, until cancelled.

        Raises:
            ShardFailed: it ended for good.
        """
        plan = self._recovery.first(self._config.session)
        while True:
            if plan.delay > 0.0:
                await trio.sleep(plan.delay)
            outcome = await self._attempt(plan)
            self._after_attempt(outcome)
            try:
                plan = self._recovery.after(outcome, trio.current_time())
            except ShardFailed as failure:
                if failure.code is not None:
                    self._session = None
                raise
            logger.log(
                logging.INFO if outcome.ready_for is not None else logging.WARNING,
                "shard %d of %d: %s; %s in %.1f s",
                *self._config.shard,
                outcome,
                "resuming" if plan.session is not None else "starting a new session",
                plan.delay,
            )
            self._session = plan.session

    async def _attempt(self, plan: Plan) -> Outcome:
        try:
            base_url = await self._base_url(plan)
        except ConnectFailed as exc:
            return Outcome(Ending.CONNECT_FAILED, Phase.CONNECTING, session=plan.session, error=exc, detail=str(exc))
        self._epoch += 1
        self._connection = Connection(
            config=self._config,
            base_url=base_url,
            session=plan.session,
            epoch=self._epoch,
            queue=self._queue,
            limits=self._limits,
            hub=self._hub,
            permit=self._permit,
            on_open=self._opened,
        )
        try:
            return await self._connection.run()
        finally:
            if self._connection.machine.reached is not Phase.CONNECTING:
                self._connections += 1
            self._session = self._connection.machine.current_session()
            self._connection = None

    async def _base_url(self, plan: Plan) -> str:
        if plan.session is not None and plan.at_resume_url and is_url(plan.session.resume_url):
            return plan.session.resume_url
        if self._config.url is not None:
            return self._config.url
        identifying = plan.session is None
        if self._gateway_url is None or plan.refresh_url or identifying:
            # Before every Identify, for the number of session starts that are left.
            try:
                answer = await fetch_gateway(self._config, identifying=identifying)
                self._gateway_url, self._limit = answer.url, answer.session_start_limit
            except ConnectFailed:
                if self._gateway_url is None or plan.refresh_url:
                    raise
        return self._gateway_url

    @asynccontextmanager
    async def _permit(self) -> AsyncGenerator[None]:
        async with self._identify_queue.permit(self._config.shard, self._limit):
            self._recovery.identifies(trio.current_time())
            try:
                yield
            finally:
                self._recovery.identify_written(trio.current_time())

    def _opened(self, opened: Open) -> None:
        if opened.resumed:
            self._resumes += 1
        else:
            self._identifies += 1
        now = trio.current_time()
        if self._down_since is not None:
            self._recovery_times.append(now - self._down_since)
            del self._recovery_times[:-_REMEMBERED_RECOVERIES]
            self._down_since = None
        logger.info(
            "shard %d of %d: %s session %s",
            *self._config.shard,
            "resumed" if opened.resumed else "started",
            opened.session.id,
        )
        self._gate.unpark_all()

    def _after_attempt(self, outcome: Outcome) -> None:
        self._last_ending = str(outcome)
        if self._down_since is None and outcome.ready_for is not None:
            self._down_since = trio.current_time()

    # --- the end ---

    async def leave(self) -> None:
        """End the current connection in good order: the write in flight may finish. Bounded by the write timeout."""
        if self._connection is not None:
            await self._connection.leave(LEAVE_RESUMABLY if self._config.keep_session else LEAVE_FOR_GOOD)

    def close(self, failure: ShardFailed | None) -> None:
        """End everything that waits. The final `session` is what it was at this moment. Idempotent."""
        if self._closed is not None:
            return
        self._final = self.session
        text = "the shard has been left" if failure is None else f"the shard has failed: {str(failure).rstrip('.')}"
        self._closed = ShardClosed(f"{text}. What was not written yet will not be.")
        self._closed.__cause__ = failure
        self._queue.close(self._closed)
        self._hub.end(self._closed if failure is not None else None)
        self._gate.unpark_all()

    # --- receiving ---

    @overload
    def subscribe(self, *, capacity: int = ..., overflow: Overflow = ...) -> Subscription[Dispatch]: ...
    @overload
    def subscribe(self, *names: str, capacity: int = ..., overflow: Overflow = ...) -> Subscription[Dispatch]: ...
    @overload
    def subscribe(self, a: type[A], /, *, capacity: int = ..., overflow: Overflow = ...) -> Subscription[A]: ...
    @overload
    def subscribe(
        self, a: type[A], b: type[B], /, *, capacity: int = ..., overflow: Overflow = ...
    ) -> Subscription[A | B]: ...
    @overload
    def subscribe(
        self, a: type[A], b: type[B], c: type[C], /, *, capacity: int = ..., overflow: Overflow = ...
    ) -> Subscription[A | B | C]: ...
    @overload
    def subscribe(
        self,
        a: type[Event],
        b: type[Event],
        c: type[Event],
        d: type[Event],
        /,
        *more: type[Event],
        capacity: int = ...,
        overflow: Overflow = ...,
    ) -> Subscription[Event]: ...
    def subscribe(
        self, *event_types: type[Event] | str, capacity: int = DEFAULT_CAPACITY, overflow: Overflow = "wait"
    ) -> Subscription[Any]:
        """Return an asynchronous iterator over events.

        It holds the events from this call on; the first subscription of a shard also holds everything since the
        first connection. Never blocks.

        Args:
            event_types: classes of `trioshard.events` (or your own subclasses of `Event`) for typed
                events; names such as ``"TYPING_START"`` for these events as raw `Dispatch`; nothing for
                every event, raw.
            capacity: how many events may wait for the subscriber.
            overflow: what happens when it is full. ``"wait"``: the shard reads no further, and Discord waits
                (heartbeats go on); ``"drop_oldest"``: the oldest event is dropped and counted; ``"fail"``: the
                subscription ends with `SubscriptionOverflow`.

        Raises:
            ValueError: an argument makes no sense.
        """
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        if overflow not in ("wait", "drop_oldest", "fail"):
            raise ValueError(f'overflow is "wait", "drop_oldest" or "fail", not {overflow!r}')
        kinds: dict[str, type[Event] | None] = {}
        for kind in event_types:
            if isinstance(kind, str):
                kinds[kind] = None
            elif isinstance(kind, type) and issubclass(kind, Event) and kind.NAME:
                kinds[kind.NAME] = kind
            else:
                raise ValueError(f"events are subscribed to by class or by name, not by {kind!r}")
        return self._hub.subscribe(kinds if event_types else None, capacity=capacity, overflow=overflow)

    # --- sending ---

    async def send(self, command: Command) -> Receipt:
        """Send a command, and wait until it was written.

        While the shard is (re)connecting, the command waits; it goes out after READY or RESUMED. It also waits for
        Discord's limits, and for room in the queue.

        When cancelled before the write begins, the command is withdrawn: not a byte of it was sent. During the
        write the cancellation is held back; if the write succeeds, the receipt is returned.

        Raises:
            InvalidCommand: it was refused, and not queued.
            ShardClosed: the shard ended before it was written.
        """
        return await self._queue.send(command)

    def send_nowait(self, command: Command) -> None:
        """Queue a command without waiting for it to be written. It then goes the way of any other.

        Raises:
            InvalidCommand: it was refused, and not queued.
            QueueFull: there is no room in the queue.
            ShardClosed: the shard has ended.
        """
        self._queue.send_nowait(command)

    async def update_presence(
        self,
        *,
        activities: Iterable[Activity] = (),
        status: Status = "online",
        since: int | None = None,
        afk: bool = False,
    ) -> Receipt:
        """Set the bot's presence: `send` of an `UpdatePresence`.

        A newer presence replaces one that still waits; the receipt of the older one says ``superseded``. The
        last presence that was written is also what a new session begins with.
        """
        return await self.send(UpdatePresence(activities=tuple(activities), status=status, since=since, afk=afk))

    async def update_voice_state(
        self,
        guild_id: Snowflake,
        channel_id: Snowflake | None,
        *,
        self_mute: bool = False,
        self_deaf: bool = False,
    ) -> Receipt:
        """Join, move to, or (with ``None``) leave a voice channel: `send` of an `UpdateVoiceState`.

        Discord answers with VOICE_STATE_UPDATE and, when joining, VOICE_SERVER_UPDATE; or with nothing, when the
        channel is full.
        """
        return await self.send(
            UpdateVoiceState(guild_id=guild_id, channel_id=channel_id, self_mute=self_mute, self_deaf=self_deaf)
        )

    async def request_members(
        self,
        guild_id: Snowflake,
        *,
        query: str | None = None,
        limit: int | None = None,
        user_ids: Iterable[Snowflake] | None = None,
        presences: bool = False,
        nonce: str | None = None,
    ) -> Receipt:
        """Ask for members of a guild: `send` of a `RequestMembers`. With neither ``query`` nor ``user_ids``: all.

        The answer comes as `GuildMembersChunk` events; match them by ``nonce``. Subscribe before you ask. After
        a *new* session (READY) nothing more will come of an earlier request.
        """
        if query is None and user_ids is None:
            query, limit = "", 0 if limit is None else limit
        return await self.send(
            RequestMembers(
                guild_id=guild_id,
                query=query,
                limit=limit,
                user_ids=None if user_ids is None else tuple(user_ids),
                presences=presences,
                nonce=nonce,
            )
        )

    async def request_soundboard_sounds(self, guild_ids: Iterable[Snowflake]) -> Receipt:
        """Ask for the soundboard sounds of guilds: one SOUNDBOARD_SOUNDS event each."""
        return await self.send(RequestSoundboardSounds(guild_ids=tuple(guild_ids)))

    async def request_channel_info(
        self, guild_id: Snowflake, *, fields: Iterable[Literal["status", "voice_start_time"]] | None = None
    ) -> Receipt:
        """Ask for ephemeral data of a guild's voice channels: one CHANNEL_INFO event."""
        if fields is None:
            return await self.send(RequestChannelInfo(guild_id=guild_id))
        return await self.send(RequestChannelInfo(guild_id=guild_id, fields=tuple(fields)))

    # --- asking ---

    async def wait_ready(self) -> None:
        """Wait until commands may go: until READY or RESUMED has come on the current connection.

        You need not call it before `send`, which waits by itself.

        Raises:
            ShardClosed: the shard has ended.
        """
        await trio.lowlevel.checkpoint()
        while self.phase is not Phase.READY:
            if self._closed is not None:
                raise ShardClosed(*self._closed.args) from self._closed.__cause__
            await self._gate.park()

    @property
    def phase(self) -> Phase:
        """The phase of the current connection; CLOSED when there is none."""
        return Phase.CLOSED if self._connection is None else self._connection.phase

    @property
    def session(self) -> Session | None:
        """The session as another process should resume it: with the *processed* sequence. ``None`` if there is none.

        Everything up to that sequence was finished by every subscriber; what follows will be replayed. After the
        block of `open_shard` it is the final one; it can only be resumed if the shard was opened with
        ``keep_session=True``.
        """
        if self._closed is not None:
            return self._final
        session = self._session if self._connection is None else self._connection.machine.current_session()
        if session is None:
            return None
        return session.at(self._hub.processed(session.id, session.sequence))

    @property
    def latency(self) -> float | None:
        """Seconds between the last acknowledged heartbeat of this connection and its ACK."""
        connection = self._connection
        return None if connection is None or connection.pulse is None else connection.pulse.latency

    def statistics(self) -> ShardStatistics:
        """Return a snapshot. Cheap enough to take every second."""
        connection = self._connection
        received = self._session if connection is None else connection.machine.current_session()
        processed = self.session
        budget = None if connection is None else connection.budget
        return ShardStatistics(
            shard=self._config.shard,
            phase=self.phase,
            epoch=self._epoch,
            connections=self._connections
            + (connection is not None and connection.machine.reached is not Phase.CONNECTING),
            identifies=self._identifies,
            resumes=self._resumes,
            failures=self._recovery.failures,
            last_ending=self._last_ending,
            session_id=None if received is None else received.id,
            sequence_received=None if received is None else received.sequence,
            sequence_processed=None if processed is None else processed.sequence,
            latency=self.latency,
            commands=self._queue.statistics(),
            budget_left=None if budget is None else budget.left(trio.current_time(), Lane.USER),
            events=self._hub.published,
            events_dropped=self._hub.dropped(),
            events_undecodable=self._hub.undecodable,
            outboxes=self._hub.waiting(),
            recovery_times=tuple(self._recovery_times),
        )
