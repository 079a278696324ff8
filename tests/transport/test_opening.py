"""How a connection is opened, and every way in which that can fail."""

from __future__ import annotations

import ssl
import sys
from contextlib import asynccontextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from tests.transport.peer import Peer, Tls, closing, opened, receive, response, text
from trioshard import Intents, open_shard
from trioshard._open_transport import CONNECT_TIMEOUT, open_transport
from trioshard.errors import ConnectFailed, ConnectionClosed, ConnectionLost, MissingDependency
from trioshard.testing import MemoryStream, memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

REFUSAL = response(404, "Content-Length: 9") + b"not found"


@asynccontextmanager
async def failing(transport: str, serve: Callable[[Peer], Awaitable[None]]) -> AsyncGenerator[ConnectFailed]:
    """Open a transport to a server that does what ``serve`` says; yield why that failed. The stream must be closed."""
    client, server = memory_stream_pair(4096)

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return client

    async def run() -> None:
        with suppress(trio.BrokenResourceError):
            await serve(Peer(server))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with pytest.raises(ConnectFailed) as caught:
            async with open_transport("ws://gateway.test", dial=dial, max_message_size=1000, transport=transport):
                pytest.fail("it was opened")
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()
        nursery.cancel_scope.cancel()
    yield caught.value


# --- the server says no ---


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((status, True) for status in (100, 400, 401, 403, 404)),
        *((status, False) for status in (200, 204, 301, 302, 408, 425, 429, 500, 502, 503, 511, 520)),
    ],
)
async def test_a_refusal_tells_whether_waiting_may_help(
    status: int, permanent: bool, transport: str, autojump_clock: MockClock
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.stream.send_all(response(status, "Content-Length: 2") + b"no")

    async with failing(transport, refuse) as error:
        assert f"HTTP {status}" in str(error)
        assert error.permanent is permanent


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Connection: close", b""),
        ("Connection: close", b"<html>"),
        ("Content-Length: 99999999999", b"<html>"),
        ("Transfer-Encoding: chunked", b"6\r\n<html>\r\n"),
        ("Transfer-Encoding: gzip, chunked", b""),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
async def test_nobody_waits_for_the_body_of_a_refusal(
    header: str, body: bytes, ends: bool, transport: str, autojump_clock: MockClock
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.stream.send_all(response(503, header) + body)
        if ends:
            await peer.stream.aclose()

    async with failing(transport, refuse) as error:
        assert "HTTP 503" in str(error)
    assert trio.current_time() == 0


async def test_a_refusal_that_comes_byte_by_byte(transport: str, autojump_clock: MockClock) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_byte_by_byte(REFUSAL[:-1])

    async with failing(transport, refuse) as error:
        assert "HTTP 404" in str(error)


async def test_a_refusal_before_the_request_was_read(transport: str, autojump_clock: MockClock) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.stream.send_all(REFUSAL)
        await peer.stream.aclose()

    async with failing(transport, refuse) as error:
        assert "HTTP 404" in str(error)


# --- the server speaks something else ---


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n", id="ssh"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x50", id="tls"),
        pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="binary"),
        pytest.param(b"HTTP/1.1 ok\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 101 Sure\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(response(101), id="no upgrade"),
        pytest.param(response(101, "Upgrade: websocket", "Connection: Upgrade"), id="no key"),
        pytest.param(
            response(101, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: c29tZWJvZHkgZWxzZQ=="),
            id="another key",
        ),
    ],
)
async def test_a_server_that_does_not_speak_websocket(answer: bytes, transport: str, autojump_clock: MockClock) -> None:
    async def confuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.stream.send_all(answer)

    async with failing(transport, confuse) as error:
        assert "not speak WebSocket" in str(error)
        assert error.permanent
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "header",
    [
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Protocol: chat",
        "Upgrade: h2c",
    ],
)
async def test_a_server_that_takes_what_was_not_offered(header: str, transport: str, autojump_clock: MockClock) -> None:
    async def confuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.stream.send_all(peer.acceptance(header))

    async with failing(transport, confuse) as error:
        assert "not speak WebSocket" in str(error)
        assert error.permanent


@pytest.mark.parametrize("piece", [b"X-Filler: " + b"x" * 50 + b"\r\n", b"x" * 50], ids=["many lines", "one line"])
async def test_an_answer_whose_header_has_no_end_is_refused(
    piece: bytes, transport: str, autojump_clock: MockClock
) -> None:
    sent = 0

    async def fill(peer: Peer) -> None:
        nonlocal sent
        await peer.read_request()
        await peer.stream.send_all(b"HTTP/1.1 101 Sure\r\nX-Filler: ")
        while True:
            await peer.stream.send_all(piece)
            sent += len(piece)

    async with failing(transport, fill) as error:
        assert "not speak WebSocket" in str(error)
        assert error.permanent
    assert sent < 100_000


# --- the server is slow, or gone ---


async def test_an_answer_may_come_byte_by_byte(transport: str, autojump_clock: MockClock) -> None:
    client, server = memory_stream_pair()
    peer = Peer(server)

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return client

    async def accept() -> None:
        await peer.read_request()
        await peer.send_byte_by_byte(peer.acceptance("X-More: header") + text("hello"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        async with open_transport(
            "ws://gateway.test", dial=dial, max_message_size=1000, transport=transport
        ) as connection:
            assert await receive(connection, 1) == ["hello"]


@pytest.mark.parametrize(("behind", "ended"), [(b"", ConnectionLost), (closing(4004), ConnectionClosed)])
async def test_what_ends_the_connection_right_behind_the_answer_is_no_failure_to_open_it(
    behind: bytes, ended: type[Exception], transport: str, autojump_clock: MockClock
) -> None:
    """Which task runs first is left to chance, so this is done several times."""

    async def end(stream: trio.abc.Stream) -> None:
        peer = Peer(stream)
        await peer.accept(behind)
        await stream.aclose()

    for _ in range(20):
        client, server = memory_stream_pair()

        async def dial(host: str, port: int, client: trio.abc.Stream = client) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return client

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, server)
            async with open_transport(
                "ws://gateway.test", dial=dial, max_message_size=1000, transport=transport
            ) as connection:
                with pytest.raises(ended):
                    await connection.receive_batch()


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 101 Sure\r\n"], ids=["silent", "half"])
async def test_a_server_that_does_not_answer_in_time(begin: bytes, transport: str, autojump_clock: MockClock) -> None:
    async def drip(peer: Peer) -> None:
        await peer.read_request()
        for byte in begin:
            await trio.sleep(7)
            await peer.stream.send_all(bytes([byte]))
        await trio.sleep_forever()

    async with failing(transport, drip) as error:
        assert "did not answer within 30 s" in str(error)
        assert not error.permanent
    assert trio.current_time() == pytest.approx(CONNECT_TIMEOUT)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_server_that_hangs_up_at_any_byte_of_its_answer(
    how: str, transport: str, autojump_clock: MockClock
) -> None:
    for size in range(0, 116, 5):

        async def hang_up(peer: Peer, size: int = size) -> None:
            assert isinstance(peer.stream, MemoryStream)
            await peer.read_request()
            await peer.stream.send_all(peer.acceptance()[:size])
            if how == "closes":
                await peer.stream.aclose()
            else:
                peer.stream.reset()

        async with failing(transport, hang_up) as error:
            assert ("hung up" if how == "closes" else "broke") in str(error)
            assert not error.permanent


# --- TLS ---


async def dial_to_nobody(host: str, port: int) -> trio.abc.Stream:
    client, server = memory_stream_pair()
    await server.aclose()
    return client


async def test_a_certificate_that_does_not_verify(transport: str, certificates: Tls, autojump_clock: MockClock) -> None:
    stranger = Tls(ssl.create_default_context(), certificates.server)
    with pytest.raises(ExceptionGroup) as caught:
        async with opened(transport, tls=stranger):
            pytest.fail("it was opened")
    found = caught.value.subgroup(ConnectFailed)
    assert found is not None
    error = found.exceptions[0]
    assert isinstance(error, ConnectFailed)
    assert "does not verify" in str(error)
    assert error.permanent


async def test_a_server_that_hangs_up_instead_of_tls(
    transport: str, certificates: Tls, autojump_clock: MockClock
) -> None:
    with pytest.raises(ConnectFailed) as caught:
        async with open_transport(
            "wss://gateway.test",
            dial=dial_to_nobody,
            ssl_context=certificates.client,
            max_message_size=1000,
            transport=transport,
        ):
            pytest.fail("it was opened")
    assert not caught.value.permanent


# --- which transport ---


@pytest.mark.parametrize("found", [None, ModuleType("websockets.client")], ids=["missing", "too old"])
def test_websockets_without_the_package_is_refused_at_the_border(
    found: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", found)
    with pytest.raises(MissingDependency, match=r"pip install 'trioshard\[speed\]'"):
        trio.run(open_shard("secret", intents=Intents.GUILDS, transport="websockets").__aenter__)


async def test_a_transport_that_does_not_exist_is_refused_at_the_border() -> None:
    with pytest.raises(ValueError, match="transport is one of"):
        async with open_shard("secret", intents=Intents.GUILDS, transport="aiohttp"):
            pytest.fail("it was opened")


@pytest.mark.parametrize(("missing", "batch"), [(False, ["a", "b"]), (True, ["a"])])
async def test_auto_takes_websockets_where_it_is_installed(
    missing: bool, batch: list[str], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """They can be told apart by how many messages they hand over at a time."""
    if missing:
        monkeypatch.setitem(sys.modules, "websockets.client", None)
    async with opened("auto", first=text("a") + text("b")) as (client, _):
        assert await client.receive_batch() == batch
