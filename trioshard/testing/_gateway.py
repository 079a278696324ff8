"""The gateway as a whole: opened, listened on, dialled, looked at."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trioshard.testing import _payloads
from trioshard.testing._api import Api
from trioshard.testing._connection import GatewayConnection
from trioshard.testing._core import Core
from trioshard.testing._endings import Ending, end_stream
from trioshard.testing._http import HttpPeer, Request, Response
from trioshard.testing._memory import memory_stream_pair
from trioshard.testing._payloads import Guild, JSONObject
from trioshard.testing._report import Report
from trioshard.testing._sessions import Registry
from trioshard.testing._settings import Settings
from trioshard.testing._steps import Conduct, Script, Setting
from trioshard.testing._wire import Wire, open_compressor
from trioshard.testing.faults import Scenario

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Sequence

_MEMORY_HOST: Final = "gateway.memory"
_VERSIONS: Final = {"9": 9, "10": 10}
_NO_SCENARIO: Final = Scenario()


class ScriptSource(Protocol):
    """What tells each connection's script: a :class:`~trioshard.testing.Scenario`, or something like it."""

    def script_for(self, number: int) -> Script:
        """The script of the connection with this number (0-based). Asked for once, in order."""
        ...


class LocalGateway:
    """A gateway that is open. Made by :func:`open_local_gateway`."""

    def __init__(
        self, core: Core, nursery: trio.Nursery, scenario: ScriptSource, *, port: int | None, api_url: str
    ) -> None:
        self.port: Final = port
        """The TCP port; None without TCP."""
        self.url: Final = core.settings.url
        """What ``GET /gateway`` names."""
        self.resume_url: Final = core.settings.resume_url
        """What READY names as `resume_gateway_url`."""
        self.api_url: Final = api_url
        self.report: Final = core.report
        self.connections: Final[list[GatewayConnection]] = []
        """The WebSocket connections that are open, oldest first."""
        self._core = core
        self._nursery = nursery
        self._scenario = scenario
        self._api = Api(core)
        self._dialled = 0

    def __repr__(self) -> str:
        return f"<LocalGateway {self.url} connections={len(self.connections)}>"

    @property
    def guilds(self) -> tuple[Guild, ...]:
        """The guilds that the bot is in."""
        return self._core.settings.guilds

    async def dial(self, host: str = _MEMORY_HOST, port: int = 0) -> trio.abc.HalfCloseableStream:
        """A new connection to this gateway, in memory. Host and port are taken as they come."""
        client, server = memory_stream_pair()
        self._nursery.start_soon(self.serve_stream, server)
        await trio.lowlevel.checkpoint()
        return client

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, HTTP or WebSocket, to its end. The stream is closed afterwards."""
        http = HttpPeer(stream)
        try:
            while (request := await http.next_request()) is not None:
                if request.is_upgrade:
                    await self._serve_websocket(stream, http, request)
                    return
                await http.respond(self._api.handle(request))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The client left in the middle of a request.
        finally:
            await end_stream(stream, Ending.CLOSE)

    def publish(self, name: str, data: object, *, guild_id: int | None = None) -> int:
        """Dispatch an event to every session that gets it, attached or resumable; their number.

        With `guild_id` that is each session of the guild's shard, without it each one of shard 0. `data` is
        anything that can be JSON, or bytes that are JSON already.
        """
        return self._core.publish(name, data, guild_id)

    def send_message(
        self,
        content: str,
        *,
        channel_id: int | None = None,
        guild_id: int | None = None,
        author: JSONObject | None = None,
    ) -> int:
        """Publish a MESSAGE_CREATE with everything that belongs to one; the id of the message.

        It is sent to the first guild unless told otherwise.
        """
        message = self._core.post_message(content, channel_id=channel_id, guild_id=guild_id, author=author)
        return int(message["id"])

    async def wait_connected(self, number: int = 1) -> None:
        """Wait for the `number`-th WebSocket connection, counted from the start."""
        await self._core.milestones.wait("connect", number)

    async def wait_ready(self, number: int = 1) -> None:
        """Wait for the `number`-th READY, counted from the start."""
        await self._core.milestones.wait("ready", number)

    async def wait_resumed(self, number: int = 1) -> None:
        """Wait for the `number`-th RESUMED, counted from the start."""
        await self._core.milestones.wait("resumed", number)

    async def wait_command(self, number: int = 1) -> None:
        """Wait for the `number`-th user command, counted from the start."""
        await self._core.milestones.wait("command", number)

    async def wait_flushed(self) -> None:
        """Wait until every connection has sent what it can send now.

        For those who publish much: :meth:`publish` itself never waits, and a connection that lags behind by more
        than `replay_limit` dispatches is closed.
        """
        for connection in tuple(self.connections):
            await connection.wait_flushed()

    async def _serve_websocket(self, stream: trio.abc.Stream, http: HttpPeer, request: Request) -> None:
        number, self._dialled = self._dialled, self._dialled + 1
        conduct, script = _begin(self._scenario.script_for(number))
        if conduct.reject_status is not None:
            await http.respond(Response.error(conduct.reject_status, "Refused."))
            return
        if request.query.get("encoding", "json") != "json":
            await http.respond(Response.text("This gateway speaks JSON only.", 501))
            return
        compress = request.query.get("compress", "")
        try:
            compressor = open_compressor(compress) if compress else None
        except (ImportError, ValueError):
            await http.respond(Response.text(f"This gateway has no compression {compress!r} here.", 501))
            return
        if not await http.accept_websocket(request):
            return
        self.report.connections += 1
        connection = GatewayConnection(
            self._core,
            stream,
            Wire(stream, http.trailing),
            number=number,
            path=request.path,
            version=_VERSIONS.get(request.query.get("v", "")),
            conduct=conduct,
            script=script,
            compressor=compressor,
        )
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)


def _begin(script: Script) -> tuple[Conduct, Script]:
    """Apply the settings that come before everything else; the conduct, and the steps that remain."""
    conduct = Conduct()
    for number, step in enumerate(script):
        if not isinstance(step, Setting):
            return conduct, script[number:]
        step.apply(conduct)
    return conduct, ()


@asynccontextmanager
async def open_local_gateway(
    *,
    host: str = "127.0.0.1",
    port: int | None = 0,
    ssl_context: ssl.SSLContext | None = None,
    token: str | None = None,
    heartbeat_interval: float = 41.25,
    heartbeat_grace: float | None = None,
    max_concurrency: int = 1,
    session_starts: int = 1000,
    identify_window: float = 5.0,
    shards: int = 1,
    guilds: Sequence[Guild] | int = 1,
    allowed_intents: int | None = None,
    filter_intents: bool = False,
    session_ttl: float = 180.0,
    replay_limit: int = 10_000,
    scenario: ScriptSource | None = None,
    seed: int = 0,
    report_limit: int = 100_000,
) -> AsyncGenerator[LocalGateway, None]:
    """Open a gateway that behaves as Discord does, and is strict. Times in seconds.

    `port`: 0 for any; None for no TCP at all, only :meth:`LocalGateway.dial`.
    `ssl_context`: serve TLS on the TCP listener; what is dialled in memory is never encrypted.
    `token`: the right one; None: any that is not empty.
    `heartbeat_grace`: how late a heartbeat may be before the connection is closed; None: half an interval and 5 s,
    which is generous to a busy machine and still finds everyone who skips a beat.
    `max_concurrency`, `identify_window`: one Identify for each ``shard_id % max_concurrency`` per window.
    `session_starts`: Identifies a day; one more and the token is void.
    `shards`: what ``GET /gateway/bot`` recommends.
    `guilds`: the bot's guilds, or how many to make up.
    `allowed_intents`: others are refused with 4014; None allows all.
    `filter_intents`: keep events from sessions that lack their intent.
    `session_ttl`: how long a session without a connection can be resumed.
    `replay_limit`: dispatches kept for each session; also how far a connection may lag behind.
    `scenario`: what goes wrong, and when.
    `seed`: for the ids that are made up. `report_limit`: entries kept in each list of the report.
    """
    listeners = await trio.open_tcp_listeners(port, host=host) if port is not None else []
    if port is not None:
        port = listeners[0].socket.getsockname()[1]
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    else:
        netloc = _MEMORY_HOST
    secure = "s" if ssl_context is not None and listeners else ""
    if heartbeat_grace is None:
        heartbeat_grace = heartbeat_interval / 2 + 5.0
    settings = Settings(
        url=f"ws{secure}://{netloc}",
        resume_url=f"ws{secure}://{netloc}/resume",
        token=token,
        heartbeat_interval=heartbeat_interval,
        heartbeat_grace=heartbeat_grace,
        max_concurrency=max_concurrency,
        session_starts=session_starts,
        identify_window=identify_window,
        shards=shards,
        guilds=_payloads.make_guilds(guilds) if isinstance(guilds, int) else tuple(guilds),
        allowed_intents=allowed_intents,
        filter_intents=filter_intents,
        session_ttl=session_ttl,
        replay_limit=replay_limit,
    )
    rng = Random(seed)
    core = Core(settings, Registry(settings, rng, trio.current_time()), Report(limit=report_limit), rng)
    try:
        async with trio.open_nursery() as nursery:
            gateway = LocalGateway(
                core, nursery, scenario or _NO_SCENARIO, port=port, api_url=f"http{secure}://{netloc}/api/v10"
            )
            if ssl_context is not None:
                tls = [trio.SSLListener(listener, ssl_context, https_compatible=True) for listener in listeners]
                nursery.start_soon(trio.serve_listeners, gateway.serve_stream, tls)
            elif listeners:
                nursery.start_soon(trio.serve_listeners, gateway.serve_stream, listeners)
            yield gateway
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The failed assertion of a test should look like one; that there is a nursery here is our own affair.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
