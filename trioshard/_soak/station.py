"""One bot with its proxy and its gateway, and the books of both sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard import Backoff, Intents, LocalIdentifyQueue, open_shard
from trioshard._demo.bot import Listener, Senders, tag_of
from trioshard._demo.ledger import Ledger, SessionRecord
from trioshard._demo.summary import CommandCounts, ReadyTimes
from trioshard._demo.weather import Publisher, heavy_weather
from trioshard._soak.child import open_proxy
from trioshard._soak.fairness import HEARTBEAT_GRACE, IDENTIFY_WINDOW, LIFETIME, PresenceRule
from trioshard._soak.summary import StationBooks
from trioshard._soak.tags import TagBook, Tail
from trioshard.errors import ShardFailed
from trioshard.testing import open_local_gateway

if TYPE_CHECKING:
    import ssl

    from trioshard import Shard
    from trioshard._soak.child import ProxyProcess
    from trioshard.protocol.compression import TransportCompression
    from trioshard.testing import Arrival, LocalGateway

__all__ = ["Setup", "Station"]

TOKEN: Final = "soak"

HASTE: Final = Backoff(base=0.05, cap=0.1, identify_base=0.5, identify_cap=1.0)
"""Hardly any wait between attempts: the gateway is our own. Identifies keep their 5 s all the same."""

HEARTBEATS: Final = 1.5
"""Seconds."""

WRITE_TIMEOUT: Final = 1.0
"""Seconds; shorter than the long stalls."""

NEW_SESSION_EVERY: Final = 15.0
"""Seconds, at least, between two sessions that the gateway ends for good."""

EVENT_PAUSE: Final = 0.1
"""Seconds between two bursts of events, at most."""

REST: Final = 0.4
"""Seconds between two commands of one sender, at most."""

MOST_IDS: Final = 100
"""Ids in one command, at most: large commands fill the buffers of a line that stands still."""

SESSION_TTL: Final = 60.0
"""Seconds for which the gateway keeps a session without a connection."""

KEPT: Final = 1_000
"""Dispatches that the gateway keeps for a replay: more than come during the longest stall."""

NOTED: Final = 100
"""Arrivals that the gateway's report keeps, many times those between two looks."""

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at the gateway's report."""

SETTLE: Final = 45.0
"""Seconds after the trouble, within which the shard has to be ready again, and everything to be sent and delivered. A
new session takes some ten."""

ASK_AGAIN: Final = 0.5
"""Seconds after which the end of the events is looked for once more."""

PRESENCE: Final = 3
"""The opcode of a presence."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What one bot uses, and how much it does. ``tls`` are the contexts of the gateway and of the bot."""

    compress: TransportCompression
    transport: str
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None
    seed: str
    senders: int

    @property
    def name(self) -> str:
        """Name it in a few words."""
        return f"{'TCP' if self.tls is None else 'TLS'}, {self.compress}, {self.transport}"


class Station:
    """A bot, its proxy and its gateway. Used once, by `run`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._weather = heavy_weather(
            Random(f"{setup.seed} gateway").getrandbits(32), lifetime=LIFETIME, new_session_every=NEW_SESSION_EVERY
        )
        self._ledger = Ledger()
        self._listener = Listener(self._ledger)
        self._tags = TagBook()
        self._presences = PresenceRule()
        self._publishing = trio.CancelScope()
        self._endings: Counter[str] = Counter()
        self._opened = False
        self._epoch = 0
        self._unbalanced = 0
        self._settled_after: float | None = None
        self._failure: str | None = None
        self._gateway: LocalGateway
        self._publisher: Publisher
        self._proxy: ProxyProcess
        self._shard: Shard
        self._arrivals: list[Tail[Arrival]] = []
        self._books: StationBooks | None = None

    async def run(self, over: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Make trouble until it is ``over``, settle, and close the books.

        Raises:
            ProxyFailed: the proxy ended by itself.
        """
        server, client = self._setup.tls or (None, None)
        async with (
            open_local_gateway(
                token=TOKEN,
                ssl_context=server,
                heartbeat_interval=HEARTBEATS,
                heartbeat_grace=HEARTBEAT_GRACE,
                identify_window=IDENTIFY_WINDOW,
                session_starts=1_000_000,
                session_ttl=SESSION_TTL,
                guilds=2,
                replay_limit=KEPT,
                report_limit=NOTED,
                scenario=self._weather,
                seed=Random(self._setup.seed).getrandbits(32),
            ) as self._gateway,
            open_proxy(self._gateway_port, Random(f"{self._setup.seed} proxy")) as self._proxy,
        ):
            self._publisher = Publisher(self._gateway, self._ledger)
            self._weather.publish = self._publisher.publish
            report = self._gateway.report
            self._arrivals = [Tail(report.commands), Tail(report.crossings)]
            try:
                async with open_shard(
                    TOKEN,
                    intents=Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.GUILD_VOICE_STATES,
                    url=self._gateway.url,
                    compress=self._setup.compress,
                    transport=self._setup.transport,
                    ssl_context=client,
                    dial=self._proxy.dial,
                    write_timeout=WRITE_TIMEOUT,
                    backoff=HASTE,
                    # It starts more sessions in a minute than Discord grants in an hour.
                    identify_queue=LocalIdentifyQueue(guard=False),
                ) as self._shard:
                    self._opened = True
                    task_status.started()
                    await self._play(over)
            except ShardFailed as exc:
                self._failure = str(exc)
                over.set()

    @property
    def _gateway_port(self) -> int:
        assert self._gateway.port is not None, "it listens on TCP"
        return self._gateway.port

    @property
    def books(self) -> StationBooks:
        """What has come of it so far, or in the end."""
        if not self._opened:
            return StationBooks(name=self._setup.name)
        return replace(self._books or self._draw_up(), failure=self._failure)

    @property
    def connections(self) -> int:
        """WebSocket connections so far."""
        return self._gateway.report.connections

    @property
    def waiting(self) -> int:
        """Commands that wait."""
        return self._shard.statistics().commands.pending

    @property
    def outbox(self) -> int:
        """Events that wait for the listener."""
        return sum(self._shard.statistics().outboxes)

    async def _play(self, over: trio.Event) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listener.run, self._shard)
                nursery.start_soon(self._keep_looking)
                await self._send_and_publish(over)
                nursery.cancel_scope.cancel()
        finally:
            self._look()
            self._books = self._draw_up()

    async def _send_and_publish(self, over: trio.Event) -> None:
        shard, seed = self._shard, self._setup.seed
        guild_ids = [guild.id for guild in self._gateway.guilds]
        senders = Senders(shard, guild_ids, self._tags.withdraw, rest=REST, most_ids=MOST_IDS)
        with trio.CancelScope() as patience:
            async with trio.open_nursery() as nursery:
                for number in range(self._setup.senders):
                    nursery.start_soon(senders.run, Random(f"{seed} sender {number}"))
                nursery.start_soon(self._publish, Random(f"{seed} publisher"))
                nursery.start_soon(self._let_loose)
                await over.wait()
                calmed = trio.current_time()
                patience.deadline = calmed + SETTLE
                self._weather.calm = True
                self._publishing.cancel()
                senders.stop()
                await self._proxy.calm()
                await self._wait_delivered()
                settled_after = trio.current_time() - calmed
            self._settled_after = settled_after

    async def _publish(self, random: Random) -> None:
        with self._publishing:
            await self._publisher.run(random, pause=EVENT_PAUSE)

    async def _let_loose(self) -> None:
        # A shard gives up an address at which it never found anybody.
        await self._shard.wait_ready()
        if not self._weather.calm:
            await self._proxy.storm()

    async def _wait_delivered(self) -> None:
        """Wait for one last event: everything that came before it has arrived then, or never will."""
        while True:
            await self._shard.wait_ready()
            number = self._publisher.publish()
            # The shard may not know yet that its session or its connection is over.
            with trio.move_on_after(ASK_AGAIN) as scope:
                await self._listener.wait_received(number)
            if not scope.cancelled_caught:
                return

    async def _keep_looking(self) -> None:
        while True:
            self._look()
            await trio.sleep(LOOK_EVERY)

    def _look(self) -> None:
        """Enter in the books what arrived at the gateway since the last look."""
        for arrivals in self._arrivals:
            for arrival in arrivals.news():
                tag = tag_of(arrival)
                if tag is not None:
                    self._tags.arrive(tag)
                if arrival.op == PRESENCE and arrival.session_id is not None:
                    self._presences.arrive(arrival.time)
        statistics = self._shard.statistics()
        queue = statistics.commands
        ended = queue.written + queue.superseded + queue.withdrawn + queue.failed
        self._unbalanced += queue.accepted != ended + queue.pending
        if statistics.epoch != self._epoch:
            self._epoch = statistics.epoch
            if statistics.last_ending:
                self._endings[statistics.last_ending.partition(" (")[0].partition(";")[0]] += 1

    def _draw_up(self) -> StationBooks:
        report, statistics = self._gateway.report, self._shard.statistics()
        refused = Counter(report.violations)
        forgiven = refused.pop("presence_rate", 0)
        if self._presences.broken:
            refused["presence_rate"] = self._presences.broken
        records = {
            entry.session_id: SessionRecord(entry.ended, entry.last_sequence, bool(entry.resumes or entry.commands))
            for entry in report.sessions.values()
        }
        return StationBooks(
            name=self._setup.name,
            connections=report.connections,
            resumes=report.resumes,
            identifies=report.identifies,
            commands=CommandCounts.of(
                statistics.commands,
                arrived=sum(report.commands_by_op.values()),
                withdrawn_but_arrived=self._tags.withdrawn_but_arrived,
            ),
            retried=statistics.commands.retried,
            arrived_twice=self._tags.repeated,
            arrived_too_late=self._tags.too_late + sum(tail.looked_away for tail in self._arrivals),
            unbalanced=self._unbalanced,
            refused=dict(refused),
            forgiven=max(0, forgiven - self._presences.broken),
            crossing=report.crossing,
            dispatches=self._ledger.balance(
                records,
                current=statistics.session_id,
                settled=self._settled_after is not None,
                lossy_line=True,
            ),
            ready_ms=ReadyTimes.of(statistics.recovery_times),
            trouble=dict(self._proxy.done),
            endings=dict(self._endings),
            settled_after=self._settled_after,
        )
