"""From the reader to the user: a bounded outbox for each subscriber.

The reader asks the hub for room, waits if a subscriber wants it to, and then publishes to all outboxes at once. So
an event is either in every outbox that wants it and counted as received, or in none and replayed by the next
Resume: a connection that breaks in between neither loses nor doubles it.

Before the first subscriber comes, everything waits in a backlog that is bounded like an outbox, and the first
subscriber starts with what is in it.

While a session is resumed, outboxes take the replay beyond their capacity, up to `REPLAY_CAPACITY`. Otherwise a
subscriber that awaits `send` in its loop would wait for the gate, the gate for RESUMED, and RESUMED for the subscriber.
"""

from __future__ import annotations

import contextlib
import logging
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

import trio

from trioshard.errors import GatewayProtocolError, ShardClosed, SubscriptionOverflow
from trioshard.protocol.events import Dispatch, Event, Ready

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_CAPACITY", "Hub", "Overflow", "Subscription"]

Overflow = Literal["wait", "drop_oldest", "fail"]

T_co = TypeVar("T_co", bound="Event | Dispatch", covariant=True)

DEFAULT_CAPACITY: Final = 1024
"""Events that an outbox holds; about 1.5 kB each."""

REPLAY_CAPACITY: Final = 16384
"""Events that an outbox holds while a session is resumed."""

REPLAY_PATIENCE: Final = 60.0
"""Seconds without a single event taken, after which a full outbox is not allowed to hold up a replay any longer."""

_IN_HAND: Final = 256
"""Tasks per subscription of which it is remembered that they have not finished their event."""

_BATCH: Final = 64
"""Events that a subscriber may take without a checkpoint, when they are there already."""

logger = logging.getLogger("trioshard")


class Outbox:
    """The events that one subscriber has yet to take."""

    __slots__ = ("capacity", "closed", "dropped", "failure", "in_hand", "items", "names", "overflow", "waiting")

    def __init__(self, names: frozenset[str] | None, capacity: int, overflow: Overflow) -> None:
        self.names = names
        self.capacity = capacity
        self.overflow = overflow
        self.items: deque[Dispatch] = deque()
        self.in_hand: dict[trio.lowlevel.Task, Dispatch] = {}
        """What each subscribing task was given last: it has not asked for the next one yet."""
        self.waiting: dict[trio.lowlevel.Task, None] = {}
        """Tasks that wait for an event, in order. A parking lot does the same, and takes twice the time for it."""
        self.dropped = 0
        self.closed = False
        self.failure: Exception | None = None

    def wants(self, name: str) -> bool:
        return self.names is None or name in self.names

    def has_room(self, capacity: int) -> bool:
        return self.overflow != "wait" or len(self.items) < max(capacity, self.capacity)

    def put(self, dispatch: Dispatch) -> None:
        if self.overflow != "wait" and len(self.items) >= self.capacity:
            if self.overflow == "fail":
                self.end(SubscriptionOverflow(self.capacity))
                return
            self.items.popleft()
            self.dropped += 1
        self.items.append(dispatch)

    def wake(self) -> None:
        """Wake as many of those who wait as there are events."""
        for _ in range(min(len(self.items), len(self.waiting))):
            self._wake_one()

    def _wake_one(self) -> None:
        task = next(iter(self.waiting))
        del self.waiting[task]
        trio.lowlevel.reschedule(task)

    async def wait_arrival(self) -> None:
        """Wait for an event, or for the end."""
        task = trio.lowlevel.current_task()
        self.waiting[task] = None

        def abort(_: object) -> trio.lowlevel.Abort:
            del self.waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def end(self, failure: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self.failure = failure
            while self.waiting:
                self._wake_one()

    def forget_finished(self) -> None:
        # One task for each event is a pattern; tasks that have ended will not ask for another one.
        for task in [task for task in self.in_hand if not is_running(task)]:
            del self.in_hand[task]

    def take_over(self, backlog: Outbox) -> None:
        self.items.extend(item for item in backlog.items if self.wants(item.name))
        while self.overflow == "drop_oldest" and len(self.items) > self.capacity:
            self.items.popleft()
            self.dropped += 1
        if backlog.closed:
            self.end(backlog.failure)

    def unfinished(self) -> list[Dispatch]:
        return [*self.in_hand.values(), *self.items]


class Hub:
    """All outboxes of a shard.

    Args:
        keep_backlog: whether events wait for the first subscriber.
    """

    def __init__(self, *, keep_backlog: bool) -> None:
        self._outboxes: list[Outbox] = []
        self._by_name: dict[str, tuple[Outbox, ...]] = {}
        self._room = trio.lowlevel.ParkingLot()
        self._room_wanted = 0
        self._unannounced = 0
        """Events that were put into outboxes since the last `wake`."""
        self._backlog: Outbox | None = None
        self._ended: tuple[Exception | None] | None = None
        self._abandoned: list[Dispatch] = []
        self._dropped_before = 0
        self.published = 0
        self.undecodable = 0
        if keep_backlog:
            self._backlog = Outbox(None, DEFAULT_CAPACITY, "wait")
            self._outboxes.append(self._backlog)

    # --- the reader's end ---

    def has_room(self, name: str, *, replaying: bool) -> bool:
        """Return whether every outbox that wants this event can take it."""
        capacity = REPLAY_CAPACITY if replaying else 0
        return all(outbox.has_room(capacity) for outbox in self._wanting(name))

    def offer(self, dispatch: Dispatch) -> bool:
        """Hand an event to every outbox that wants it, or to none if one of them has no room.

        Who waits for it is woken by `wake`, once for all that arrived together; or when there are many of them.
        """
        outboxes = self._by_name.get(dispatch.name) or self._wanting(dispatch.name)
        for outbox in outboxes:
            if not outbox.has_room(0):
                return False
        self._put(dispatch, outboxes)
        if self._unannounced >= _BATCH:
            self.wake()
        return True

    def wake(self) -> None:
        """Wake those who wait for what has arrived. Every `offer` is to be followed by this."""
        if self._unannounced:
            self._unannounced = 0
            for outbox in self._outboxes:
                outbox.wake()

    async def wait_room(self, name: str, *, replaying: bool) -> None:
        """Wait until `has_room`."""
        if self._backlog is not None:
            logger.warning(
                "%d events wait for a first subscriber, and the shard reads no further. Call subscribe() before"
                " you await other things, or open the shard with events=False.",
                len(self._backlog.items),
            )
        while not self.has_room(name, replaying=replaying):
            before = self.waiting()
            with trio.move_on_after(REPLAY_PATIENCE if replaying else math.inf) as patience:
                await self._park()
            if patience.cancelled_caught and self.waiting() == before:
                self._end_stuck(name)

    async def _park(self) -> None:
        self._room_wanted += 1
        try:
            await self._room.park()
        finally:
            self._room_wanted -= 1

    def _end_stuck(self, name: str) -> None:
        # Whoever holds up a replay may be waiting for its end. One of the two has to give way, and loudly.
        for outbox in self._wanting(name):
            if not outbox.has_room(REPLAY_CAPACITY):
                failure = SubscriptionOverflow(len(outbox.items), stuck_in_replay=True)
                logger.error("%s", failure)
                outbox.end(failure)
                self.remove(outbox)

    def publish(self, dispatch: Dispatch) -> None:
        """Hand an event to every outbox that wants it, and wake those who wait for it."""
        self._put(dispatch, self._wanting(dispatch.name))
        self.wake()

    def _put(self, dispatch: Dispatch, outboxes: tuple[Outbox, ...]) -> None:
        self.published += 1
        self._unannounced += 1
        for outbox in outboxes:
            outbox.put(dispatch)
            if outbox.closed:
                self.remove(outbox)

    def _wanting(self, name: str) -> tuple[Outbox, ...]:
        try:
            return self._by_name[name]
        except KeyError:
            wanting = tuple(outbox for outbox in self._outboxes if outbox.wants(name))
            # Discord has some eighty names; what is beyond that came from somebody else.
            if len(self._by_name) < 512:
                self._by_name[name] = wanting
            return wanting

    def is_shared(self, name: str) -> bool:
        """Return whether several outboxes want this event."""
        return len(self._wanting(name)) > 1

    def processed(self, session_id: str, received: int) -> int:
        """Return the last sequence of this session after which everything was finished.

        A subscriber has finished an event when it asks for the next one. With several subscribers the
        slowest decides.
        """
        sequences = [
            # READY cannot be replayed: a session begins after it, whoever has seen it.
            dispatch.sequence if dispatch.name == Ready.NAME else dispatch.sequence - 1
            for unfinished in (self._abandoned, *(outbox.unfinished() for outbox in self._outboxes))
            for dispatch in unfinished
            if dispatch.session_id == session_id and dispatch.sequence is not None
        ]
        return min(sequences, default=received)

    def end(self, failure: Exception | None) -> None:
        """No more events will come: subscribers get what is left, then the end, or ``failure``."""
        self._ended = (failure,)
        for outbox in self._outboxes:
            outbox.end(failure)

    def waiting(self) -> tuple[int, ...]:
        """Return how many events wait in each outbox."""
        return tuple(len(outbox.items) for outbox in self._outboxes)

    def dropped(self) -> int:
        """Return how many events were dropped by ``overflow="drop_oldest"``."""
        return self._dropped_before + sum(outbox.dropped for outbox in self._outboxes)

    # --- the subscribers' end ---

    def subscribe(
        self, kinds: Mapping[str, type[Event] | None] | None, *, capacity: int, overflow: Overflow
    ) -> Subscription[Any]:
        """Add an outbox. ``kinds`` maps names to types, or to ``None`` for raw; without it, everything comes raw."""
        outbox = Outbox(None if kinds is None else frozenset(kinds), capacity, overflow)
        if self._backlog is not None:
            backlog, self._backlog = self._backlog, None
            outbox.take_over(backlog)
            self.remove(backlog)
        self._outboxes.append(outbox)
        self._abandoned = []
        self._by_name.clear()
        if self._ended is not None:
            outbox.end(*self._ended)
        subscription: Subscription[Any] = Subscription(self, outbox, kinds or {})
        # A loop that was left with `break` drops its subscription; a forgotten outbox would hold the shard up.
        token = trio.lowlevel.current_trio_token()
        weakref.finalize(subscription, _soon, token, self.abandon, outbox).atexit = False
        return subscription

    def abandon(self, outbox: Outbox) -> None:
        """End a subscription that was dropped."""
        # The loop was left by `break` or by an exception, which look the same from here. What it had not finished is to
        # come again after a restart, if its tasks have died of it, or if nobody else listens.
        died = not any(is_running(task) for task in outbox.in_hand)
        if not outbox.closed and (died or self._outboxes == [outbox]):
            self._abandoned += outbox.unfinished()
        self.remove(outbox)

    def close(self, outbox: Outbox) -> None:
        """End a subscription in good order: the last event is finished; the rest is not, if nobody else listens."""
        if not outbox.closed and self._outboxes == [outbox]:
            self._abandoned += outbox.items
        outbox.in_hand.clear()
        outbox.items.clear()
        outbox.end(None)
        self.remove(outbox)

    def remove(self, outbox: Outbox) -> None:
        """Feed this outbox no more."""
        if outbox in self._outboxes:
            self._outboxes.remove(outbox)
            self._dropped_before += outbox.dropped
            self._by_name.clear()
            self.taken()

    def taken(self) -> None:
        """Something left an outbox."""
        if self._room_wanted:
            self._room.unpark_all()


def is_running(task: trio.lowlevel.Task) -> bool:
    """Return whether a task has not ended yet."""
    return getattr(task.coro, "cr_frame", None) is not None


def _soon(token: trio.lowlevel.TrioToken, function: Any, *args: Any) -> None:
    # The collector may run in any thread, and at any point of this one.
    with contextlib.suppress(trio.RunFinishedError):
        token.run_sync_soon(function, *args)


class Subscription(Generic[T_co]):
    """An asynchronous iterator over events, fed by the shard through a bounded outbox.

    Iterate over it with ``async for``, in one task or in several that share the work. Asking for the next event
    says that the last one is finished: that moves the shard's *processed* sequence. When the shard ends, the
    iteration ends with it, after what was still in the outbox; if the shard failed, it raises `ShardClosed`.

    As a context manager it closes itself. A loop that is left with ``break`` or by an exception ends the
    subscription, too, but does not say that the last event is finished.

    Taking an event that is already there is not always a checkpoint: at most 64 are taken without one. When
    cancelled, no event is lost: the one that was waited for stays in the outbox.
    """

    def __init__(self, hub: Hub, outbox: Outbox, kinds: Mapping[str, type[Event] | None]) -> None:
        self._hub = hub
        self._outbox = outbox
        self._kinds = kinds
        self._is_raw = not any(kinds.values())
        self._taken = 0

    def __aiter__(self) -> Subscription[T_co]:
        return self

    async def __anext__(self) -> T_co:
        """Wait for the next event.

        Raises:
            StopAsyncIteration: the shard, or this subscription, has ended.
            SubscriptionOverflow: with ``overflow="fail"``, after falling behind.
            ShardClosed: the shard failed; the failure is its ``__cause__``.
        """
        outbox = self._outbox
        task = trio.lowlevel.current_task()
        outbox.in_hand.pop(task, None)
        if len(outbox.in_hand) >= _IN_HAND:
            outbox.forget_finished()
        while True:
            if outbox.items:
                if self._taken >= _BATCH:
                    self._taken = 0
                    await trio.lowlevel.checkpoint()
                    continue
                self._taken += 1
                dispatch = outbox.items.popleft()
                if len(outbox.items) * 2 <= outbox.capacity:
                    self._hub.taken()
                event = cast("T_co", dispatch) if self._is_raw else self._convert(dispatch)
                if event is not None:
                    outbox.in_hand[task] = dispatch
                    return event
            elif outbox.closed:
                await trio.lowlevel.checkpoint()
                self._raise_end()
            else:
                self._taken = 0
                await outbox.wait_arrival()

    def _convert(self, dispatch: Dispatch) -> T_co | None:
        kind = self._kinds.get(dispatch.name)
        if kind is None:
            return cast("T_co", dispatch)
        try:
            if self._hub.is_shared(dispatch.name):
                return cast("T_co", dispatch.decode(kind))
            return cast("T_co", dispatch.decode_anew(kind))
        except GatewayProtocolError as exc:
            self._hub.undecodable += 1
            logger.warning("skipped for this subscriber: %s. Subscribe without a type to get it raw.", exc)
            return None

    def _raise_end(self) -> None:
        failure = self._outbox.failure
        if failure is None:
            raise StopAsyncIteration
        if isinstance(failure, ShardClosed):
            raise ShardClosed(*failure.args) from failure.__cause__
        raise failure

    def close(self) -> None:
        """Take no more events, and say that the last one is finished. Never blocks.

        What is left in the outbox of a shard's last subscriber is not processed: a session that is carried over a
        restart brings it again.
        """
        self._hub.close(self._outbox)

    def __enter__(self) -> Subscription[T_co]:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self._hub.abandon(self._outbox)

    @property
    def waiting(self) -> int:
        """How many events wait in the outbox."""
        return len(self._outbox.items)

    @property
    def dropped(self) -> int:
        """How many events ``overflow="drop_oldest"`` has dropped."""
        return self._outbox.dropped
