"""Those who use the shard of a history: senders, listeners, a publisher at the other end, and who waits for readiness.

They do what users do, and what they should not: they change their minds at any turn of the scheduler, listen slowly,
fill the queue, leave loops half-way, and send from inside a loop that has events to take.
"""

from __future__ import annotations

import math
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trioshard import (
    Activity,
    Phase,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
    events,
)
from trioshard._simulation.records import Call, Wait
from trioshard.errors import QueueFull, ShardClosed, SubscriptionOverflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trioshard import Command, Dispatch, Shard, Subscription
    from trioshard._simulation.records import Records
    from trioshard._simulation.setup import Setup
    from trioshard._subscription import Overflow
    from trioshard.testing import LocalGateway

__all__ = ["FIRST_TAG", "HABITS", "Users"]

FIRST_TAG: Final = 7_700_000_000_000_000
"""Commands are known on the wire by a number in them: this one and those after it."""

HABITS: Final = ("caller cancelled", "slow listener", "queue full", "listener left")
"""What users do that a shard has to put up with."""

LOOK_EVERY: Final = 8
"""Commands between two looks at the queue. A snapshot of the whole shard is not for every command."""

_OPCODES: Final = {
    UpdatePresence: 3,
    UpdateVoiceState: 4,
    RequestMembers: 8,
    RequestSoundboardSounds: 31,
    RequestChannelInfo: 43,
}

_OVERFLOWS: Final[tuple[Overflow, ...]] = ("drop_oldest", "fail", "wait")


class Surroundings(Protocol):
    """What users know of the history that they live in."""

    @property
    def setup(self) -> Setup:
        """What was drawn for it."""
        ...

    @property
    def records(self) -> Records:
        """Its account."""
        ...

    @property
    def gateway(self) -> LocalGateway:
        """The other end."""
        ...

    @property
    def left_at(self) -> float:
        """When the first life began to end; ``inf`` before."""
        ...

    @property
    def guild_id(self) -> int:
        """A guild that the bot is in."""
        ...

    def pace(self) -> float:
        """Return the seconds between two commands of one sender, on average."""
        ...

    def meet(self, kind: str) -> None:
        """Note that a habit meets the shard now."""
        ...

    def start_soon(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task that nobody waits for."""
        ...


class _Gone(Exception):
    """The life of a listener is over: what is in his hands stays unfinished."""


class Users:
    """All of them.

    Args:
        world: the history that they live in.
        random: their source of chance.
    """

    def __init__(self, world: Surroundings, random: Random) -> None:
        self._world = world
        self._random = random
        self._tags = FIRST_TAG
        self._cancellable: dict[trio.CancelScope, Call] = {}
        self.stopping = trio.Event()
        """Set it, and nobody begins anything new."""
        self.parting = False
        """Set it, and the main listener takes its time, and hears nothing any more once its life is over."""
        self.finished: tuple[str, int] = "", 0
        """The session and sequence of the last event that the main listener finished in its first life."""
        self._newest = self._published = 0
        self._received = trio.lowlevel.ParkingLot()

    @property
    def count(self) -> int:
        """Commands handed over so far."""
        return self._tags - FIRST_TAG

    # --- senders ---

    async def send(self, shard: Shard, name: str) -> None:
        """Be a sender until told to stop."""
        random = Random(f"{self._random.random()} {name}")
        while not self.stopping.is_set():
            with trio.move_on_after(random.expovariate(1.0 / self._world.pace())):
                await self.stopping.wait()
            if self.stopping.is_set():
                return
            try:
                await self._send_one(shard, name, random)
            except ShardClosed:
                return

    async def _send_one(self, shard: Shard, name: str, random: Random) -> None:
        if self.count % LOOK_EVERY == 0:
            self._look_at_queue(shard)
        call, command = self._draw(name, random)
        draw = random.random()
        if draw < 0.12:
            self._send_nowait(shard, call, command)
        elif draw < 0.6:
            await self._await_send(shard, call, command)
        else:
            await self._send_and_change_mind(shard, call, command, random)

    def _look_at_queue(self, shard: Shard) -> None:
        pending = shard.statistics().commands.pending
        if pending > self._world.setup.queue_capacity:
            self._world.records.complain(f"{pending} commands are in the queue, which has less room")

    async def _await_send(self, shard: Shard, call: Call, command: Command) -> None:
        try:
            call.receipt = await shard.send(command)
            call.answer = "receipt"
        except ShardClosed:
            call.answer = "closed"
            raise
        except trio.Cancelled:
            call.answer = "withdrawn"
            raise
        finally:
            call.answered = trio.current_time()
            self._world.records.tell("%s: %d %s", call.caller, call.tag, call.answer)

    def _send_nowait(self, shard: Shard, call: Call, command: Command) -> None:
        try:
            shard.send_nowait(command)
        except QueueFull:
            call.answer = "refused"
            self._world.meet("queue full")
        except ShardClosed:
            call.answer = "closed"
            raise
        else:
            call.answer = "queued"

    async def _send_and_change_mind(self, shard: Shard, call: Call, command: Command, random: Random) -> None:
        """Send, and be cancelled: after a time, after some turns, or at the next trouble."""
        with trio.CancelScope() as scope:
            self._cancellable[scope] = call
            draw = random.random()
            if draw < 0.4:
                self._world.start_soon(self._cancel_later, scope, random.uniform(0.0, 1.5), 0)
            elif draw < 0.8:
                self._world.start_soon(self._cancel_later, scope, 0.0, random.randrange(11))
            try:
                await self._await_send(shard, call, command)
            finally:
                self._cancellable.pop(scope, None)

    async def _cancel_later(self, scope: trio.CancelScope, seconds: float, turns: int) -> None:
        if seconds:
            await trio.sleep(seconds)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        self._cancel(scope)

    def _cancel(self, scope: trio.CancelScope) -> None:
        call = self._cancellable.pop(scope, None)
        if call is not None:
            call.cancelled = trio.current_time()
            self._world.meet("caller cancelled")
            scope.cancel()

    def trouble_strikes(self) -> None:
        """Some change their minds in the very moment in which something happens."""
        for scope in list(self._cancellable):
            if self._random.random() < 0.3:
                self._cancel(scope)

    def _draw(self, name: str, random: Random) -> tuple[Call, Command]:
        tag = self._tags
        self._tags += 1
        guild: int | None = None
        draw = random.random()
        command: Command
        if draw < 0.12:
            command = UpdatePresence(activities=(Activity.watching(f"{tag}"),), status="idle")
        elif draw < 0.5:
            # The gateway answers for a guild that the bot is in, with two events.
            guild_id = self._world.guild_id if draw < 0.18 else 7
            command = UpdateVoiceState(guild_id=guild_id, channel_id=tag)
        elif draw < 0.7:
            command = RequestSoundboardSounds(guild_ids=(tag,))
        elif draw < 0.85:
            command = RequestChannelInfo(guild_id=tag)
        elif draw < 0.97:
            command = RequestMembers(guild_id=self._world.guild_id, user_ids=(tag,), nonce=str(tag))
        else:
            # A full list, which is limited, of a guild that the bot is not in.
            guild = tag % 3 + 1
            command = RequestMembers(guild_id=guild, query="", limit=0, nonce=str(tag))
        opcode = _OPCODES[type(command)]
        call = Call(tag, name, opcode, trio.current_time(), guild)
        self._world.records.calls[tag] = call
        return call, command

    # --- listeners ---

    async def listen(self, shard: Shard, life: int) -> None:
        """Be the main listener: take everything, in order, at a pace of one's own."""
        random = Random(f"{self._random.random()} listener")
        setup = self._world.setup
        heard = self._world.records.heard
        with suppress(ShardClosed, _Gone), shard.subscribe(capacity=setup.capacity) as subscription:
            async for dispatch in subscription:
                heard.setdefault((life, dispatch.session_id), []).append((dispatch.sequence or 0, dispatch.name))
                self._measure(shard, subscription.waiting, dispatch)
                if dispatch.name == "NUMBERED":
                    self._newest = int(bytes(dispatch.raw))
                    self._received.unpark_all()
                if self.parting and life == 0:
                    await trio.sleep(random.uniform(0.0, 0.1))
                    if self._world.left_at < math.inf:
                        raise _Gone
                elif not self.stopping.is_set() and random.random() < setup.slowness:
                    began = trio.current_time()
                    try:
                        await self._dawdle(random, shard)
                    finally:
                        self._world.records.dawdles.append((began, trio.current_time()))
                if life == 0 and self._world.left_at == math.inf:
                    self.finished = dispatch.session_id, dispatch.sequence or 0

    def _measure(self, shard: Shard, waiting: int, dispatch: Dispatch) -> None:
        """See that what came after the last READY or RESUMED is no more than the outbox of the main listener holds."""
        if waiting <= self._world.setup.capacity or shard.phase is not Phase.READY:
            return
        opening = self._world.records.openings[-1]
        if dispatch.session_id == opening.session_id and (dispatch.sequence or 0) > opening.sequence:
            self._world.records.complain(f"{waiting} events wait for the main listener")

    async def _dawdle(self, random: Random, shard: Shard) -> None:
        draw = random.random()
        if draw < 0.5:
            for _ in range(random.randrange(12)):
                await trio.lowlevel.checkpoint()
        elif draw < 0.8:
            self._world.meet("slow listener")
            await trio.sleep(random.choice((0.05, 0.5, 2.0)) * random.random())
        elif draw < 0.85:
            self._world.meet("slow listener")
            await trio.sleep(random.uniform(0.5, 3.0) * self._world.setup.heartbeat_interval)
        else:
            call, command = self._draw("listener", random)
            with trio.move_on_after(20.0) as scope:
                call.cancelled = scope.deadline
                await self._await_send(shard, call, command)

    async def listen_in_passing(self, shard: Shard) -> None:
        """Take some events, typed, and leave; again and again."""
        random = Random(f"{self._random.random()} passer-by")
        while not self.stopping.is_set():
            overflow: Overflow = random.choice(_OVERFLOWS)
            capacity = random.choice((1, 4, 64)) if overflow != "wait" else 512
            if len(shard.statistics().outboxes) > 1:
                self._world.records.complain("a subscription that was left is still fed")
            try:
                if not await self._take_some(
                    random, shard.subscribe(events.VoiceStateUpdate, capacity=capacity, overflow=overflow), capacity
                ):
                    return
            except SubscriptionOverflow:
                pass
            except ShardClosed:
                return
            with trio.move_on_after(random.uniform(0.0, 5.0)):
                await self.stopping.wait()

    async def _take_some(
        self, random: Random, subscription: Subscription[events.VoiceStateUpdate], capacity: int
    ) -> bool:
        """Take some events; return whether there may be more."""
        with trio.move_on_after(random.uniform(0.5, 10.0)):
            left = random.randrange(8)
            async for _ in subscription:
                left -= 1
                if subscription.waiting > capacity:
                    self._world.records.complain(f"{subscription.waiting} events wait where {capacity} may")
                if left < 0:
                    self._world.meet("listener left")
                    return True
                if random.random() < 0.3:
                    await trio.sleep(random.uniform(0.0, 1.0))
            return False
        return True

    async def wait_ready(self, shard: Shard, life: int) -> None:
        """Wait for readiness, again and again."""
        random = Random(f"{self._random.random()} waiter")
        while True:
            wait = Wait(trio.current_time(), life)
            self._world.records.waits.append(wait)
            try:
                await shard.wait_ready()
                wait.phase = shard.phase
            except ShardClosed:
                return
            finally:
                wait.ended = trio.current_time()
            if wait.phase is not Phase.READY:
                self._world.records.complain(f"wait_ready returned while {wait.phase.value}")
            await trio.sleep(random.uniform(0.2, 4.0))

    # --- the other end ---

    async def publish(self) -> None:
        """Publish numbered events until told to stop."""
        random = Random(f"{self._random.random()} publisher")
        while not self.stopping.is_set():
            for _ in range(random.choice((1, 1, 2, 4, 9))):
                self.publish_one()
            with trio.move_on_after(random.expovariate(1.0 / self._world.setup.event_pace)):
                await self.stopping.wait()

    def publish_one(self) -> int:
        """Publish the next event; its number."""
        self._published += 1
        self._world.gateway.publish("NUMBERED", b"%d" % self._published)
        return self._published

    async def wait_received(self, number: int) -> None:
        """Wait until the main listener has got the event with this number, or a later one."""
        while self._newest < number:
            await self._received.park()
