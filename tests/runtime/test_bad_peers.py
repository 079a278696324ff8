"""Addresses and servers that are not what they should be: a clear error or a recovery, and nothing left over."""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair

import trioshard
from tests.runtime.world import INTENTS, QUICK, open_world
from trioshard import Backoff, Phase, errors
from trioshard.testing import (
    After,
    BigMessage,
    CutAfter,
    Fragment,
    HelloInterval,
    RejectUpgrade,
    SendBytes,
    SendRaw,
    SendText,
    Sleep,
    Stall,
    TruncatedCompression,
    open_local_gateway,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

pytestmark = pytest.mark.usefixtures("each_transport")

NO_WAIT = Backoff(base=0.001, cap=0.001)


async def expect_failure(url: str, *, match: str, **options: Any) -> errors.GatewayUnreachable:
    with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable, match=match) as caught:
        async with trioshard.open_shard("secret", intents=INTENTS, url=url, backoff=NO_WAIT, **options):
            await trio.sleep_forever()
    return caught.value


@asynccontextmanager
async def open_server(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncGenerator[str]:
    """Serve something that is no gateway on loopback."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


# --- never connected: the user hears of it ---


async def test_a_url_that_nobody_answers() -> None:
    error = await expect_failure(f"ws://127.0.0.1:{await _closed_port()}", match="after 8 attempts")
    assert isinstance(error.__cause__, errors.ConnectFailed)


async def _closed_port() -> int:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_a_name_that_does_not_resolve() -> None:
    await expect_failure("ws://no-such-host.invalid", match="cannot be reached")


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_web_server_that_is_no_gateway_is_given_up_at_once(status: int, autojump_clock: MockClock) -> None:
    with pytest.raises(errors.GatewayUnreachable, match=f"HTTP {status}") as caught:
        async with open_world([RejectUpgrade(status)]):
            await trio.sleep_forever()
    assert "1 attempt" in str(caught.value)


async def test_an_overloaded_gateway_is_tried_again(autojump_clock: MockClock) -> None:
    async with open_world([RejectUpgrade(503)], [RejectUpgrade(429)]) as (_, shard):
        await shard.wait_ready()


async def test_a_server_that_does_not_speak_http() -> None:
    async def ssh(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n")
        await trio.sleep(5)

    async with open_server(ssh) as url:
        await expect_failure(url, match="does not speak WebSocket")


async def test_a_server_that_accepts_another_websocket() -> None:
    async def confused(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: c29tZWJvZHkgZWxzZQ==\r\n\r\n"
        )
        await trio.sleep(5)

    async with open_server(confused) as url:
        await expect_failure(url, match="does not speak WebSocket")


async def test_a_server_that_closes_without_a_word() -> None:
    async def close(stream: trio.SocketStream) -> None:
        while b"\r\n\r\n" not in await stream.receive_some():
            pass
        await stream.aclose()

    async with open_server(close) as url:
        await expect_failure(url, match="hung up")


async def test_a_server_that_hangs_up_during_the_handshake() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.aclose()

    async with open_server(hang_up) as url:
        await expect_failure(url, match="hung up|broke")


async def test_a_server_that_says_nothing(autojump_clock: MockClock) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return memory_stream_pair()[0]

    with pytest.raises(errors.GatewayUnreachable, match="did not answer within 30 s"):
        async with trioshard.open_shard("secret", intents=INTENTS, url="ws://silent", dial=dial, backoff=QUICK):
            await trio.sleep_forever()
    assert trio.current_time() >= 150


async def test_a_dialer_that_fails(autojump_clock: MockClock) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise OSError("the proxy refuses")

    with pytest.raises(errors.GatewayUnreachable, match="the proxy refuses"):
        async with trioshard.open_shard("secret", intents=INTENTS, url="ws://gateway", dial=dial, backoff=QUICK):
            await trio.sleep_forever()


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_with_a_context_that_trusts_the_certificate(authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with open_local_gateway(host="localhost", ssl_context=server_context(authority)) as gateway:
        with trio.fail_after(20):
            async with trioshard.open_shard(
                "secret", intents=INTENTS, url=gateway.url, ssl_context=trusting, backoff=NO_WAIT
            ) as shard:
                await shard.wait_ready()
                gateway.connections[0].reset()
                await gateway.wait_resumed()
                await shard.update_presence(status="idle")


async def test_a_certificate_that_does_not_verify_is_given_up_at_once(authority: trustme.CA) -> None:
    async with open_local_gateway(host="localhost", ssl_context=server_context(authority)) as gateway:
        error = await expect_failure(
            gateway.url,
            match="certificate of wss://localhost:.* does not verify",
            ssl_context=ssl.create_default_context(),
        )
    assert "after 1 attempt:" in str(error)
    assert "ssl_context=" in str(error)


async def test_a_certificate_for_another_name(authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with open_local_gateway(host="localhost", ssl_context=server_context(authority, "other.test")) as gateway:
        await expect_failure(gateway.url, match="does not verify", ssl_context=trusting)


async def test_a_server_without_tls_where_tls_is_expected() -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with open_server(plain) as url:
        await expect_failure(url.replace("ws:", "wss:"), match="TLS|broke|reached")


# --- connected, and then: recovered from inside ---


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(SendRaw(b"\xff\xff\xff\xff\xff\xff"), id="no frame"),
        pytest.param(SendRaw(b"\x81\xfe\x00\x10"), id="masked by the server"),
        pytest.param(SendRaw(b"\x81\x02\xff\xff"), id="text that is no UTF-8"),
        pytest.param(SendBytes(b"\x00\x01\x02\x00\x00\xff\xff"), id="broken zlib"),
        pytest.param(SendText("{}"), id="text in a zlib stream"),
    ],
)
async def test_garbage_ends_the_connection_and_the_session_goes_on(trouble: Any, autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), trouble]) as (gateway, shard):
        await gateway.wait_resumed()
        await shard.wait_ready()
        assert gateway.report.identifies == 1


async def test_a_truncated_compression_stream(autojump_clock: MockClock) -> None:
    async with open_world([TruncatedCompression()]) as (_, shard):
        await shard.wait_ready()


@pytest.mark.parametrize("size", [1, 40, 200, 400, 700])
@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream", "payload", None])
async def test_a_connection_that_is_cut_at_any_byte(size: int, compress: str | None, autojump_clock: MockClock) -> None:
    async with open_world([CutAfter(size)], compress=compress) as (_, shard):
        await shard.wait_ready()


@pytest.mark.parametrize("compress", ["zlib-stream", None])
async def test_messages_in_fragments(compress: str | None, autojump_clock: MockClock) -> None:
    async with open_world([Fragment(7)], compress=compress) as (gateway, shard):
        await shard.wait_ready()
        gateway.send_message("in small pieces")
        async for event in shard.subscribe("MESSAGE_CREATE"):
            assert event.json()["content"] == "in small pieces"
            break
        assert gateway.report.connections == 1


@pytest.mark.parametrize("interval", [0, -1, "soon", True, 1e12, []])
async def test_an_absurd_heartbeat_interval(interval: object, autojump_clock: MockClock) -> None:
    async with open_world([HelloInterval(interval)]) as (gateway, shard):
        await shard.wait_ready()
        assert gateway.report.connections == 2


async def test_a_tiny_heartbeat_interval_is_no_busy_loop(autojump_clock: MockClock) -> None:
    async with (
        open_local_gateway(port=None) as gateway,
        trioshard.open_shard("secret", intents=INTENTS, url=gateway.url, dial=gateway.dial, backoff=QUICK) as shard,
    ):
        await shard.wait_ready()
    async with open_local_gateway(port=None, heartbeat_interval=0.001, heartbeat_grace=100) as gateway:
        async with trioshard.open_shard(
            "secret", intents=INTENTS, url=gateway.url, dial=gateway.dial, backoff=QUICK
        ) as shard:
            await shard.wait_ready()
            await trio.sleep(120)
        assert 100 <= gateway.report.heartbeats <= 125
        assert not gateway.report.violations


async def test_a_message_of_50_mb_is_an_event_like_any_other(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), BigMessage(50_000_000)]) as (gateway, shard):
        async for event in shard.subscribe():
            if event.name not in ("READY", "GUILD_CREATE"):
                assert len(event.raw) >= 50_000_000
                break
        assert gateway.report.connections == 1


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream", None])
async def test_a_message_beyond_the_limit_costs_the_session_in_the_end_and_never_loops(
    compress: str | None, autojump_clock: MockClock
) -> None:
    """It is replayed on each Resume: after a few of them only a new session gets past it."""
    async with open_world(
        [After("ready"), Sleep(1), BigMessage(200_000)], compress=compress, max_message_size=100_000
    ) as (gateway, shard):
        await gateway.wait_ready(2)
        await shard.wait_ready()
        assert gateway.report.connections <= 5


async def test_a_peer_that_stops_reading_is_given_up_at_the_write_timeout(autojump_clock: MockClock) -> None:
    stalled = [After("ready"), Sleep(1), Stall(100_000)]
    async with open_world(stalled, write_timeout=3.0, gateway={"heartbeat_interval": 1000.0}) as (gateway, shard):
        await shard.wait_ready()
        await trio.sleep(2)
        # The memory stream holds 64 KiB before its sender has to wait.
        for number in range(40):
            await shard.send(trioshard.RequestMembers(guild_id=1, query="q" * 3000, limit=1, nonce=str(number)))
        assert gateway.report.connections == 2
        assert shard.phase is Phase.READY
        assert "did not get through within 3 s" in shard.statistics().last_ending


async def test_the_reason_is_found_although_the_write_broke_first(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway closes with 4014 and is gone when we write: the close code must not be lost."""
    caplog.set_level(logging.INFO, logger="trioshard")
    async with open_local_gateway(port=None) as gateway:
        with pytest.raises(errors.DisallowedIntents):
            async with trioshard.open_shard(
                "secret", intents=INTENTS, url=gateway.url, dial=gateway.dial, backoff=QUICK
            ) as shard:
                await shard.wait_ready()
                gateway.connections[0].close(4014)
                while True:
                    await shard.update_voice_state(1, None)


async def test_a_second_hello_changes_the_interval_and_nothing_else(autojump_clock: MockClock) -> None:
    hello = SendText('{"op":10,"d":{"heartbeat_interval":5000}}')
    async with open_world([After("ready"), Sleep(1), hello], compress=None) as (gateway, shard):
        await shard.wait_ready()
        await trio.sleep(61)
        assert 10 <= gateway.report.heartbeats <= 14
        assert (gateway.report.connections, gateway.report.identifies) == (1, 1)


class Breakable(trio.abc.Stream):
    """A stream whose writes break when the test says so, while reading goes on in silence."""

    def __init__(self, stream: trio.abc.Stream, allowed: int) -> None:
        self.stream = stream
        self.allowed = allowed

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.allowed -= 1
        if self.allowed < 0:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the line is dead")
        await self.stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


@pytest.mark.parametrize("allowed", [1, 2, 3], ids=["handshake", "first command", "later"])
async def test_a_write_that_breaks_is_followed_by_a_new_connection(allowed: int, autojump_clock: MockClock) -> None:
    """Writes 1 and 2 of a connection are the WebSocket's request and Identify."""
    dialled: list[Breakable] = []
    async with open_local_gateway(port=None) as gateway:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            dialled.append(Breakable(await gateway.dial(host, port), 1000 if dialled else allowed))
            return dialled[-1]

        with trio.fail_after(600):
            async with trioshard.open_shard(
                "secret", intents=INTENTS, url=gateway.url, dial=dial, backoff=QUICK
            ) as shard:
                receipts = [await shard.update_voice_state(1, None) for _ in range(4)]
                assert [receipt.epoch for receipt in receipts] == [1 + (number > allowed - 2) for number in range(1, 5)]
                assert max(receipt.attempts for receipt in receipts) == (2 if allowed > 1 else 1)
        assert not gateway.report.violations
