"""``trioshard gateway``: the built-in gateway on a port, and a line for each thing that happens to it."""

from __future__ import annotations

import signal
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trioshard._version import __version__
from trioshard.testing import Churn, Scenario, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from trioshard.testing import LocalGateway, Report

__all__ = ["Chronicle", "Options", "make_ssl_context", "render_greeting", "render_report", "serve"]

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at the gateway's report."""

_SHORT: Final = 8
"""Characters of a session id that tell it from others."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. Times in seconds; ``churn`` is a seed, or ``None`` for good weather."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)
    heartbeat_interval: float = 41.25
    guilds: int = 1
    churn: int | None = None
    messages_per_second: float = 0.0
    ssl_context: ssl.SSLContext | None = None


def make_ssl_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """Load a certificate to serve TLS with; ``None`` without one.

    Raises:
        ValueError: there is a key without a certificate, or they are none.
        OSError: a file cannot be read.
    """
    if cert is None:
        if key is not None:
            raise ValueError("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as exc:
        raise ValueError(f"{cert} (and its key) cannot be used for TLS: {exc.reason or exc}") from exc
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, cert if key is None else f"{cert} or {key}") from exc
    return context


async def serve(options: Options, out: TextIO) -> None:
    """Serve until Ctrl-C.

    Raises:
        OSError: the address cannot be listened on.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_local_gateway(
            host=options.host,
            port=options.port,
            token=options.token,
            heartbeat_interval=options.heartbeat_interval,
            guilds=options.guilds,
            ssl_context=options.ssl_context,
            scenario=Scenario() if options.churn is None else Churn(options.churn),
        ) as gateway:
            print(render_greeting(gateway, options), end="\n\n", file=out, flush=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell, gateway, out)
                if options.messages_per_second > 0:
                    nursery.start_soon(_publish, gateway, options.messages_per_second)
                async for _ in signals:
                    break
                nursery.cancel_scope.cancel()
    print(f"\n{render_report(gateway.report)}", file=out, flush=True)


async def _tell(gateway: LocalGateway, out: TextIO) -> None:
    chronicle = Chronicle(gateway.report)
    began = trio.current_time()
    while True:
        for line in chronicle.news(gateway.connections):
            print(f"{trio.current_time() - began:8.1f} s  {line}", file=out, flush=True)
        await trio.sleep(LOOK_EVERY)


async def _publish(gateway: LocalGateway, per_second: float) -> None:
    due = trio.current_time()
    number = 0
    while True:
        number += 1
        gateway.send_message(f"message {number}")
        due += 1 / per_second
        await trio.sleep_until(due)


def render_greeting(gateway: LocalGateway, options: Options) -> str:
    """Say where the gateway is, and how to use it."""
    guild = gateway.guilds[0]
    token = "any text that is not empty" if options.token is None else "the one given with --token"
    authorization = '-H "Authorization: Bot TOKEN"'
    url = f"{gateway.api_url}/channels/{guild.text_channel_id}/messages"
    rows = [
        ("gateway", f"{gateway.url}/?v=10&encoding=json"),
        ("HTTP API", gateway.api_url),
        ("token", token),
        ("guild", f"{guild.id}, with text channel {guild.text_channel_id} and voice channel {guild.voice_channel_id}"),
        ("weather", "good" if options.churn is None else f"churn, seed {options.churn}"),
    ]
    return "\n".join(
        [
            f"trioshard gateway {__version__}",
            *(f"  {label:<10}{text}" for label, text in rows),
            "",
            "With trioshard:",
            f'    trioshard.open_shard("TOKEN", intents=…, url="{gateway.url}")',
            "With another library: let it use the HTTP API above in place of https://discord.com/api/v10.",
            "To make a message arrive:",
            f'    curl {authorization} -d \'{{"content": "hello"}}\' {url}',
            "",
            "Ctrl-C ends it.",
        ]
    )


class Visible(Protocol):
    """What is told about a connection."""

    @property
    def id(self) -> int:
        """Its number, in order of arrival."""
        ...

    @property
    def path(self) -> str:
        """The path that the client asked for."""
        ...


class Chronicle:
    """Tells what is new in a report since the last look. Within one look the order is by kind, not by time."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._opened = self._violations = self._crossing = 0
        self._newest = -1
        self._open: frozenset[int] = frozenset()
        self._resumes: dict[str, int] = {}
        self._ended: set[str] = set()
        self._closes: Counter[int] = Counter()

    def news(self, connections: Iterable[Visible]) -> Iterator[str]:
        """Tell what happened since the last time. ``connections`` are those that are open now."""
        visible = {connection.id: connection.path for connection in connections}
        yield from self._arrivals(visible)
        yield from self._sessions()
        yield from self._offences()
        yield from self._departures(visible)

    def _arrivals(self, visible: dict[int, str]) -> Iterator[str]:
        fresh = {number: path for number, path in visible.items() if number > self._newest}
        for number, path in fresh.items():
            yield _entry("connection", f"{number} opened at {path}")
        self._newest = max(self._newest, *fresh, -1)
        missed = self._report.connections - self._opened - len(fresh)
        self._opened = self._report.connections
        if missed > 0:
            yield _entry("connection", f"{missed} came and went")

    def _sessions(self) -> Iterator[str]:
        for session_id, session in self._report.sessions.items():
            name = session_id[:_SHORT]
            if session_id not in self._resumes:
                self._resumes[session_id] = 0
                yield _entry("identify", f"session {name}, shard {session.shard[0]} of {session.shard[1]}")
            if session.resumes > self._resumes[session_id]:
                self._resumes[session_id] = session.resumes
                yield _entry("resume", f"session {name}, {session.resumes} so far")
            if session.ended is not None and session_id not in self._ended:
                self._ended.add(session_id)
                yield _entry("session", f"{name} is over: {session.ended}")

    def _offences(self) -> Iterator[str]:
        report = self._report
        count = sum(report.violations.values())
        new = min(count - self._violations, len(report.violation_list))
        self._violations = count
        for violation in list(report.violation_list)[len(report.violation_list) - new :]:
            yield _entry("VIOLATION", f"{violation.kind} on connection {violation.connection_id}: {violation.detail}")
        if report.crossing > self._crossing:
            yield _entry("crossing", f"{report.crossing - self._crossing} payloads met a close half-way")
            self._crossing = report.crossing

    def _departures(self, visible: dict[int, str]) -> Iterator[str]:
        for code, count in (self._report.closes_received - self._closes).items():
            yield _entry("close", f"by the client with {code}" + (f", {count} times" if count > 1 else ""))
        self._closes = Counter(self._report.closes_received)
        for number in sorted(self._open - visible.keys()):
            yield _entry("connection", f"{number} gone")
        self._open = frozenset(visible)


def _entry(kind: str, text: str) -> str:
    return f"{kind:<11}{text}"


def render_report(report: Report) -> str:
    """Render the whole report in a few aligned lines."""
    refused = "  ".join(f"{count} {kind}" for kind, count in report.violations.items())
    rows = [
        ("connections", f"{report.connections:,}"),
        ("handshakes", f"{report.readies:,} sessions started, {report.resumes:,} resumed"),
        ("commands", f"{sum(report.commands_by_op.values()):,}"),
        ("heartbeats", f"{report.heartbeats:,}"),
        ("dispatches", f"{report.dispatches_sent:,} sent, {report.replays:,} of them again"),
        ("crossing", f"{report.crossing:,}"),
        ("violations", refused or "0"),
    ]
    return "\n".join(f"  {label:<13}{text}" for label, text in rows)
