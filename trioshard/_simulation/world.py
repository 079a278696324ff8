"""One history: a shard, the built-in gateway and a network in one Trio run, all drawn from one seed.

A history has a storm, which lasts until there were enough reconnects, commands and minutes, and then one of two ends.
Either it becomes calm, and everything that is still owed has to come; or the shard is left, cancelled or refused for
good in the midst of it. Then the books are judged (`trioshard._simulation.invariants`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard import Backoff, Intents, Phase
from trioshard._config import ShardConfig, Token
from trioshard._identify_queue import LocalIdentifyQueue
from trioshard._open_shard import run_shard
from trioshard._shard import Shard
from trioshard._simulation.plan import PLAN
from trioshard._simulation.records import Dialled, Records
from trioshard._simulation.setup import PROMPT_RECONNECTS, Setup
from trioshard._simulation.users import Users
from trioshard._simulation.weather import Weather
from trioshard.errors import ShardFailed
from trioshard.testing import open_local_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from trio.testing import MockClock

    from trioshard import Session
    from trioshard._simulation.network import End
    from trioshard._simulation.plan import Plan
    from trioshard.testing import LocalGateway

__all__ = ["MIN_COMMANDS", "MIN_RECONNECTS", "MIN_SECONDS", "World"]

MIN_SECONDS: Final = 60.0
MIN_RECONNECTS: Final = 20
MIN_COMMANDS: Final = 200
"""What a history has at least; seconds are virtual."""

LONGEST_STORM: Final = 20_000.0
"""Virtual seconds. A storm that takes longer has come to a standstill."""

CALM: Final = 2_000.0
"""Virtual seconds in which everything that is owed has to come, once nothing goes wrong any more. The longest single
delay in it is the patience with a READY that does not come (900 s)."""

LAST_ACT: Final = 2_000.0
"""Virtual seconds until a connection comes as far as its last act was aimed at."""

LEAVING: Final = 3.1
"""Virtual seconds that the end of a block may take: 2 for the write in flight, 1 for the goodbye."""

CANCELLED: Final = 1.1
"""The same, when the block was cancelled: 1 for the goodbye."""

LINGERING: Final = 45.0
"""Virtual seconds that the gateway may take to see that the shard has gone, and users to see that it is over. A
listener may just have begun to dawdle, for 36 at most."""

TOKEN: Final = "MTIz.secret-of-the-simulation"


class World:
    """One history, while it lasts.

    Args:
        seed: what it is drawn from.
        transport: forces this transport; by default it is drawn.
    """

    gateway: LocalGateway

    def __init__(self, seed: int, *, transport: str | None = None) -> None:
        self.seed = seed
        random = Random(f"world {seed}")
        self.setup = Setup.draw(random)
        if transport is not None:
            self.setup = replace(self.setup, transport=transport)
        self.records = Records()
        self.weather = Weather(self, seed)
        self.users = Users(self, random)
        self.current: Dialled | None = None
        self.life = 0
        self.restarted_at: tuple[str, int] | None = None
        """The session that the second life took over, and the sequence that it began from."""
        self.last_session: str | None = None
        """The session that the shard had in the end."""
        self.settled = False
        self.calm_at = math.inf
        """When everything became calm."""
        self.left_at = math.inf
        """When the first life began to end."""
        self.shard: Shard | None = None
        self.seconds = 0.0
        self._random = random
        self._wall = 0.0
        self._act = trio.Event()
        self._scope = trio.CancelScope()
        self._clock: MockClock
        self._nursery: trio.Nursery

    @property
    def guild_id(self) -> int:
        """A guild that the bot is in."""
        return self.gateway.guilds[0].id

    @property
    def wants_commands(self) -> bool:
        """Whether there were enough reconnects, but not enough commands."""
        return len(self.records.dialled) > MIN_RECONNECTS and self.users.count < MIN_COMMANDS

    # --- what troubles and users ask for ---

    def meet(self, kind: str) -> None:
        """Note that a trouble, or a habit, meets the shard now."""
        self.records.meet(kind, Phase.CLOSED if self.shard is None else self.shard.phase)
        if kind != "caller cancelled":
            self.users.trouble_strikes()

    def start_soon(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a task that nobody waits for, until the history is over."""
        self._nursery.start_soon(function, *args)

    def freeze(self, seconds: float) -> None:
        """Stop the process: time jumps, and the gateway, which stood still as well, holds it against nobody."""
        for connection in self.gateway.connections:
            connection.excuse(seconds)
        self.records.jumps.append((trio.current_time(), seconds))
        self.records.tell("time jumps by %.3f s", seconds)
        self._clock.jump(seconds)

    def sleep_host(self, seconds: float) -> None:
        """Let the machine sleep."""
        self._wall += seconds
        self.records.tell("the machine sleeps for %.1f s", seconds)

    def wall_clock(self) -> float:
        """The time on the wall."""
        return trio.current_time() + self._wall

    def end(self, act: str) -> None:
        """End the history early."""
        if act == "the block is cancelled":
            self.left_at = trio.current_time()
            self._scope.cancel()
        self._act.set()

    def pace(self) -> float:
        """Seconds between two commands of one sender, on average: enough of them by the time of the last reconnect."""
        current = self.current
        flooding = current is not None and current.line is not None and current.line.number == self.setup.flood
        if flooding and current is not None and current.opened is not None:
            return self.setup.senders * 0.3
        missing = MIN_COMMANDS - self.users.count
        if missing <= 0:
            return 20.0 * self.setup.pace
        left = (MIN_RECONNECTS + 1 - len(self.records.dialled)) * 1.3
        return self.setup.senders * min(max(left, 1.5) / missing, 2.0 * self.setup.pace)

    # --- the network ---

    async def dial(self, host: str, port: int) -> End:
        """Open a line to the gateway, or fail to."""
        plan = self.weather.next_plan()
        assert self.shard is not None
        statistics = self.shard.statistics()
        if self.current is not None and self.current.life == self.life:
            self.current.verdict = statistics.last_ending
        dialled = Dialled(plan.line, statistics.epoch, trio.current_time(), self.life)
        plan.dialled = self.current = dialled
        self.records.dialled.append(dialled)
        self.records.tell("shard dials, epoch %d", dialled.epoch)
        if plan.connect_trouble:
            self.meet(plan.connect_trouble)
        if plan.connect_trouble == "connection refused":
            dialled.line = None
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError("nobody listens")
        if plan.connect_trouble == "connection hangs":
            dialled.line = None
            await trio.sleep_forever()
        self._nursery.start_soon(self._serve, plan)
        await trio.sleep(plan.line.up.latency)
        return plan.line.client

    async def _serve(self, plan: Plan) -> None:
        PLAN.set(plan)
        await self.gateway.serve_stream(plan.line.server)

    # --- the history ---

    async def play(self, clock: MockClock) -> None:
        """Play it from beginning to end."""
        self._clock = clock
        before = trio.lowlevel.current_statistics().tasks_living
        async with self._open_gateway() as self.gateway, trio.open_nursery() as self._nursery:
            await self._live_once()
            session = None if self.shard is None else self.shard.session
            if self.setup.end == "calm, and a second life" and self.settled:
                await self._live_again(session)
            self.seconds = trio.current_time()
            await self._look_for_leftovers()
        left = trio.lowlevel.current_statistics().tasks_living - before
        if left:
            self.records.complain(f"{left} tasks are left")

    def _open_gateway(self) -> AbstractAsyncContextManager[LocalGateway]:
        setup = self.setup
        return open_local_gateway(
            port=None,
            token=TOKEN,
            heartbeat_interval=round(setup.heartbeat_interval, 3),
            # A heartbeat may stand behind one write, and a line may be thin.
            heartbeat_grace=setup.write_timeout + 4.0,
            session_starts=100_000,
            session_ttl=math.inf,
            scenario=self.weather,
            seed=self.seed,
        )

    def _config(self, session: Session | None) -> ShardConfig:
        setup = self.setup
        return ShardConfig(
            token=Token(TOKEN),
            intents=Intents.GUILDS | Intents.GUILD_MEMBERS | Intents.GUILD_VOICE_STATES,
            url=self.gateway.url,
            dial=self.dial,
            compress=setup.compress,
            transport=setup.transport,
            write_timeout=setup.write_timeout,
            queue_capacity=setup.queue_capacity,
            keep_session=setup.end == "calm, and a second life",
            session=session,
            # With the usual allowance of prompt reconnects no history would be long enough to see the backoff.
            backoff=Backoff(base=0.2, cap=2.0, identify_base=0.5, identify_cap=3.0, prompt=PROMPT_RECONNECTS),
            random=Random(f"shard {self.seed} {self.life}"),
            wall_clock=self.wall_clock,
        )

    def _shard_for(self, session: Session | None) -> Shard:
        # A storm starts more sessions than Discord grants; only their spacing is to be seen here.
        return Shard(self._config(session), identify_queue=LocalIdentifyQueue(guard=False))

    async def _live_once(self) -> None:
        """The storm and its end, with users who outlive the shard."""
        async with trio.open_nursery() as users:
            limit = CANCELLED if self.setup.end == "the block is cancelled" else LEAVING
            try:
                with self._scope:
                    async with run_shard(self._shard_for(None)) as shard:
                        self.shard = shard
                        self._start_users(users, shard)
                        await self._storm()
                        if self.setup.end.startswith("calm"):
                            await self._calm_down(shard)
                            if self.setup.end == "calm, and a second life":
                                await self._part()
                        else:
                            self.weather.last_act = self.setup.end
                            await self._wait_last_act()
                        self.left_at = trio.current_time()
                        if self.setup.end == "the block fails":
                            raise _BodyError
            except _BodyError:
                pass
            except ShardFailed as failure:
                self.records.tell("the shard fails: %s", failure)
                self.left_at = trio.current_time()
                if self.setup.end != "fatal close":
                    self.records.complain(f"the shard failed: {failure}")
            self._check_departure(limit)
            self.users.stopping.set()
            # Whoever still waits is told that the shard is over, and ends by himself.
            users.cancel_scope.deadline = trio.current_time() + LINGERING
        if users.cancel_scope.cancelled_caught:
            self.records.complain("somebody still waited for a shard that was over")
        self._close_account()

    def _start_users(self, nursery: trio.Nursery, shard: Shard) -> None:
        users = self.users
        nursery.start_soon(users.listen, shard, self.life)
        nursery.start_soon(users.listen_in_passing, shard)
        nursery.start_soon(users.wait_ready, shard, self.life)
        nursery.start_soon(users.publish)
        for number in range(self.setup.senders):
            nursery.start_soon(users.send, shard, f"sender {number}")

    async def _storm(self) -> None:
        records = self.records
        await trio.sleep(MIN_SECONDS)
        while len(records.dialled) <= MIN_RECONNECTS or self.users.count < MIN_COMMANDS:
            if trio.current_time() > LONGEST_STORM:
                records.complain("the storm came to a standstill")
                return
            await trio.sleep(1.5)

    async def _wait_last_act(self) -> None:
        with trio.move_on_after(LAST_ACT) as patience:
            await self._act.wait()
            if self.setup.end == "fatal close":
                # The refusal is on its way, and will cancel us.
                await trio.sleep_forever()
        if patience.cancelled_caught:
            self.records.complain("no connection came as far as its last act")

    async def _calm_down(self, shard: Shard) -> None:
        self.weather.calm = True
        self.calm_at = trio.current_time()
        self.users.stopping.set()
        self.records.tell("calm")
        with trio.move_on_after(CALM) as patience:
            await self._wait_delivered(shard)
            await self._wait_answered(shard)
            # A beat or two, to see that it holds.
            await trio.sleep(self.setup.heartbeat_interval)
            await self._wait_delivered(shard)
        self.settled = not patience.cancelled_caught
        if not self.settled:
            self.records.complain(f"not ready, or something still pending, {CALM:g} s after it became calm")

    async def _part(self) -> None:
        """Let events come that the listener does not finish before the end: the second life has to bring them again."""
        self.users.parting = True
        for _ in range(self._random.randrange(12)):
            self.users.publish_one()
        await trio.sleep(self._random.uniform(0.0, 0.5))

    async def _wait_answered(self, shard: Shard) -> None:
        """Wait until no command is pending any more, neither here nor in the queue."""
        while self._is_pending(shard):  # noqa: ASYNC110 - the queue tells nobody when it is empty
            await trio.sleep(0.5)

    def _is_pending(self, shard: Shard) -> bool:
        calls = self.records.calls.values()
        return shard.statistics().commands.pending > 0 or any(call.answer == "pending" for call in calls)

    async def _wait_delivered(self, shard: Shard) -> None:
        """Wait for one last event: what came before it has arrived then, or never will."""
        while True:
            await shard.wait_ready()
            number = self.users.publish_one()
            # The shard may not know yet that its session is over, and the event go to nobody.
            with trio.move_on_after(3.0) as patience:
                await self.users.wait_received(number)
            if not patience.cancelled_caught:
                return

    async def _live_again(self, session: Session | None) -> None:
        """A restart: another shard takes the session over, and gets what came meanwhile."""
        if session is None:
            self.records.complain("there is no session to carry over")
            return
        self.life = 1
        self.restarted_at = session.id, session.sequence
        self.records.tell("a second life begins, after sequence %d", session.sequence)
        for _ in range(self._random.randrange(20)):
            self.users.publish_one()
        await trio.sleep(self._random.uniform(0.0, 60.0))
        async with trio.open_nursery() as users, run_shard(self._shard_for(session)) as shard:
            self.shard = shard
            users.start_soon(self.users.listen, shard, self.life)
            with trio.move_on_after(CALM) as patience:
                await self._wait_delivered(shard)
            if patience.cancelled_caught:
                self.records.complain("the second life was not ready in time")
        self._close_account()

    # --- when it is over ---

    def _check_departure(self, limit: float) -> None:
        now, left_at = trio.current_time(), self.left_at
        if self.current is not None and self.current.ended is None:
            self.current.ended = now
        jumps = sum(seconds for at, seconds in self.records.jumps if at >= left_at)
        if left_at < math.inf and now - left_at - jumps > limit:
            self.records.complain(f"leaving took {now - left_at:.3f} s")

    def _close_account(self) -> None:
        assert self.shard is not None
        statistics = self.shard.statistics()
        counts = statistics.commands
        self.last_session = statistics.session_id or self.last_session
        if counts.accepted != counts.written + counts.superseded + counts.withdrawn + counts.failed + counts.pending:
            self.records.complain(f"the queue's books do not balance: {counts}")
        if counts.pending:
            self.records.complain(f"{counts.pending} commands still pending after the end")
        if self.shard.phase is not Phase.CLOSED:
            self.records.complain(f"the shard is left in phase {self.shard.phase.value}")

    async def _look_for_leftovers(self) -> None:
        open_ends = [d.line.number for d in self.records.dialled if d.line is not None and not d.line.client.closed]
        if open_ends:
            self.records.complain(f"lines {open_ends} were left open by the shard")
        self._nursery.cancel_scope.deadline = trio.current_time() + LINGERING
        await trio.lowlevel.checkpoint()


class _BodyError(Exception):
    """What the block fails with."""
