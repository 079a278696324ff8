"""``trioshard gateway``: what it tells, and that it starts and stops."""

from __future__ import annotations

import io
import re
import signal
from collections import Counter
from dataclasses import dataclass

import pytest
import trio
import trustme

from trioshard import open_shard
from trioshard._demo.gateway import Chronicle, Options, make_ssl_context, render_greeting, render_report, serve
from trioshard.testing import Report, SessionStatistics, Violation, open_local_gateway


@dataclass
class Connection:
    id: int
    path: str = "/"


def news(chronicle, *connections: int) -> list[str]:
    return list(chronicle.news([Connection(number) for number in connections]))


def test_connections_come_and_go():
    report = Report()
    chronicle = Chronicle(report)
    assert news(chronicle) == []
    report.connections = 2
    assert news(chronicle, 0, 1) == ["connection 0 opened at /", "connection 1 opened at /"]
    assert news(chronicle, 0, 1) == []
    report.connections = 3
    assert news(chronicle, 1, 2) == ["connection 2 opened at /", "connection 0 gone"]


def test_connections_too_short_to_be_seen_are_told_as_well():
    report = Report(connections=3)
    assert news(Chronicle(report), 2) == ["connection 2 opened at /", "connection 2 came and went"]


def test_sessions_begin_go_on_and_end():
    report = Report()
    chronicle = Chronicle(report)
    session = SessionStatistics("0123456789abcdef", (1, 4), 0.0)
    report.open_session(session)
    assert news(chronicle) == ["identify   session 01234567, shard 1 of 4"]
    session.resumes = 2
    assert news(chronicle) == ["resume     session 01234567, 2 so far"]
    session.ended = "invalidated"
    assert news(chronicle) == ["session    01234567 is over: invalidated"]
    assert news(chronicle) == []


def test_violations_crossings_and_closes():
    report = Report(limit=2)
    chronicle = Chronicle(report)
    report.add_violation(Violation(0.0, 5, "too_large", "5000 bytes"))
    report.add_crossing(None)
    report.closes_received[1000] += 2
    assert news(chronicle) == [
        "VIOLATION  too_large on connection 5: 5000 bytes",
        "crossing   1 payloads met a close half-way",
        "close      by the client with 1000, 2 times",
    ]
    assert news(chronicle) == []
    for number in range(3):
        report.add_violation(Violation(0.0, number, "too_large", "5000 bytes"))
    # The oldest has already left the report's own list.
    assert [re.findall(r"connection \d", line) for line in news(chronicle)] == [["connection 1"], ["connection 2"]]


def test_the_report_at_the_end():
    report = Report(connections=1200, readies=2, resumes=3, heartbeats=4, dispatches_sent=5, replays=6, crossing=7)
    report.commands_by_op = Counter({3: 10, 8: 5})
    assert render_report(report).splitlines() == [
        "  connections  1,200",
        "  handshakes   2 sessions started, 3 resumed",
        "  commands     15",
        "  heartbeats   4",
        "  dispatches   5 sent, 6 of them again",
        "  crossing     7",
        "  violations   0",
    ]
    report.violations["too_large"] = 1
    assert render_report(report).splitlines()[-1] == "  violations   1 too_large"


async def test_the_greeting_says_how_to_get_there_and_keeps_the_token_to_itself(autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        open_to_all = render_greeting(gateway, Options())
        closed = render_greeting(gateway, Options(token="secret", churn=3))
    assert "any text that is not empty" in open_to_all
    assert "http://gateway.memory/api/v10/channels/" in open_to_all
    assert "secret" not in closed + repr(Options(token="secret"))
    assert "churn, seed 3" in closed


class Watched(io.StringIO):
    """Text that somebody waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._written = trio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        self._written = trio.Event()
        return super().write(text)

    async def wait_for(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self.getvalue())) is None:
            await self._written.wait()
        return found


async def test_it_serves_tells_and_stops():
    out = Watched()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, Options(token="t", messages_per_second=50), out)
            url = (await out.wait_for(r"ws://[\d.:]+")).group()
            await out.wait_for("Ctrl-C ends it")
            async with open_shard("t", intents=512, url=url) as shard:
                async for message in shard.subscribe("MESSAGE_CREATE"):
                    assert message.json()["content"].startswith("message ")
                    break
                await out.wait_for(r"s  connection 0 opened at /\n +\d\.\d s  identify   session")
            await out.wait_for("is over: the client closed with 1000")
            signal.raise_signal(signal.SIGINT)
    assert out.getvalue().endswith("  violations   0\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(path / "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(path / "both.pem"))
    return path


def test_certificates(certificate):
    assert make_ssl_context(None, None) is None
    assert make_ssl_context(str(certificate / "cert.pem"), str(certificate / "key.pem")) is not None
    assert make_ssl_context(str(certificate / "both.pem"), None) is not None
    with pytest.raises(ValueError, match="--tls-key needs --tls-cert"):
        make_ssl_context(None, "key.pem")
    with pytest.raises(ValueError, match="cannot be used for TLS"):
        make_ssl_context(str(certificate / "key.pem"), None)
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        make_ssl_context(str(certificate / "none.pem"), None)


async def test_it_serves_tls(certificate):
    out = Watched()
    context = make_ssl_context(str(certificate / "both.pem"), None)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, Options(ssl_context=context), out)
            await out.wait_for(r"wss://127\.0\.0\.1:\d+")
            await out.wait_for("https://127")
            signal.raise_signal(signal.SIGTERM)
