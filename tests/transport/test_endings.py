"""Every way in which a connection can end, and what is said about it."""

from __future__ import annotations

import logging
from contextlib import suppress
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.peer import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Frame,
    Tls,
    closing,
    ending,
    frame,
    opened,
    receive,
    text,
)
from trioshard._transport import CLOSE_TIMEOUT
from trioshard.errors import ConnectionClosed, ConnectionLost, GatewayProtocolError
from trioshard.testing import MemoryStream

only_websockets = pytest.mark.parametrize("transport", ["websockets"])

# --- the peer closes ---


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 4000, 4014, 4999])
async def test_the_peers_close_code_is_told_after_the_last_message(
    code: int, transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport) as (client, peer):
        assert client.close_seen() is None
        await peer.send(text("last"), closing(code, "der Grund"), text("nobody reads this"))
        messages, error = await ending(client)
        assert messages == ["last"]
        assert isinstance(error, ConnectionClosed)
        assert (error.code, error.reason) == (code, "der Grund")
        seen = client.close_seen()
        assert seen is not None
        assert (seen.code, seen.reason) == (code, "der Grund")
        with pytest.raises(ConnectionClosed):
            await client.receive_batch()


@only_websockets
@pytest.mark.parametrize("code", [1002, 1007, 1009])
async def test_a_complaint_of_the_peer_is_no_verdict_of_ours(
    code: int, transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(closing(code))
        with pytest.raises(ConnectionClosed, match=str(code)):
            await client.receive_batch()


async def test_a_close_frame_without_a_code_tells_nothing(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(frame(CLOSE))
        with pytest.raises(ConnectionLost):
            await client.receive_batch()
        assert client.close_seen() is None


async def test_the_peers_close_is_answered_once_and_nothing_follows(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        frames: list[Frame] = []

        async def collect() -> None:
            frames.extend(await peer.receive_rest())

        async with opened(transport, tls=tls) as (client, peer):
            await peer.send(closing(4000, "bye"), frame(PING))
            with pytest.raises(ConnectionClosed):
                await client.receive_batch()
            nursery.start_soon(collect)
            with pytest.raises(ConnectionLost):
                await client.send(b"too late")
            await client.aclose(4900)
            await client.aclose(4900)
    assert [frame.code for frame in frames] == [4000]
    assert trio.current_time() == 0


@only_websockets
async def test_a_close_frame_between_fragments_counts(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(frame(TEXT, b"half", fin=False), closing(4014))
        with pytest.raises(ConnectionClosed, match="4014"):
            await client.receive_batch()


# --- we close ---


async def test_our_close_frame_waits_for_the_peers(transport: str, tls: Tls | None, autojump_clock: MockClock) -> None:
    async with opened(transport, tls=tls) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4900)
        assert (await peer.receive()).code == 4900
        await peer.send(text("crossed it"), closing(4900))
    assert await peer.receive_rest() == []
    assert trio.current_time() == 0


@only_websockets
async def test_a_ping_that_crosses_our_close_frame_is_not_answered(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4900)
        assert (await peer.receive()).code == 4900
        await peer.send(frame(PING), closing(4900))
    assert await peer.receive_rest() == []
    assert trio.current_time() == 0


@pytest.mark.parametrize("chatty", [False, True])
async def test_a_peer_that_does_not_answer_is_not_waited_for_long(
    chatty: bool, transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport) as (client, peer), trio.open_nursery() as nursery:
        if chatty:

            async def chat() -> None:
                while True:
                    await peer.send(text("still here"))
                    await trio.sleep(0.01)

            nursery.start_soon(chat)
        await client.aclose(1000)
        assert trio.current_time() == pytest.approx(CLOSE_TIMEOUT)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_is_not_waited_for_long(transport: str, autojump_clock: MockClock) -> None:
    async def send() -> None:
        with suppress(ConnectionLost):
            await client.send(b"x" * 1000)

    async with opened(transport, capacity=100) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await client.aclose(1000)
        assert trio.current_time() == pytest.approx(CLOSE_TIMEOUT)
        nursery.cancel_scope.cancel()


async def test_both_may_close_at_once(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(closing(4000))
        await client.aclose(4900)
        assert (await peer.receive()).code in (4000, 4900)
    assert trio.current_time() == 0


async def test_a_goodbye_to_somebody_gone_is_no_error(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.stream.aclose()
        await client.aclose(1000)
    assert trio.current_time() == 0


async def test_a_cancelled_block_still_gets_its_answer(transport: str, autojump_clock: MockClock) -> None:
    """The answer has to be read although everything around is cancelled."""
    frames: list[Frame] = []

    async def answer() -> None:
        frames.append(await peer.receive())
        await peer.send(closing(4900))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(5):
            async with opened(transport) as (client, peer):
                nursery.start_soon(answer)
                try:
                    await trio.sleep_forever()
                finally:
                    await client.aclose(4900)
    assert [frame.code for frame in frames] == [4900]
    assert trio.current_time() == 5


# --- it breaks ---

SCRIPT = text("one") + frame(TEXT, b"tw", fin=False) + frame(PING, b"p") + frame(CONT, b"o") + frame(BINARY, b"3" * 200)


@pytest.mark.parametrize("how", ["close", "half-close", "tls"])
async def test_the_end_of_the_stream_at_every_byte(
    how: str, transport: str, certificates: Tls, autojump_clock: MockClock
) -> None:
    ends = [SCRIPT.index(mark) + len(mark) for mark in (b"one", b"o" + frame(BINARY, b"3" * 200)[:4])]
    for size in range(len(SCRIPT)):
        async with opened(transport, tls=certificates if how == "tls" else None) as (client, peer):
            stream = peer.stream.transport_stream if isinstance(peer.stream, trio.SSLStream) else peer.stream
            assert isinstance(stream, MemoryStream)
            await peer.send(SCRIPT[:size])
            await (stream.send_eof() if how == "half-close" else stream.aclose())
            messages, error = await ending(client)
            assert messages == ["one", "two"][: (size >= ends[0]) + (size >= ends[1] - 4)]
            assert type(error) is ConnectionLost
            assert client.close_seen() is None


@pytest.mark.parametrize("size", [0, 1, 4, 5, 9, len(SCRIPT)])
async def test_a_reset_at_any_byte(size: int, transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        assert isinstance(peer.stream, MemoryStream)
        await peer.send(SCRIPT[:size])
        peer.stream.reset()
        _, error = await ending(client)
        assert type(error) is ConnectionLost


@pytest.mark.parametrize("notified", [True, False])
async def test_tls_may_end_with_or_without_a_notice(
    notified: bool, transport: str, certificates: Tls, autojump_clock: MockClock
) -> None:
    async with opened(transport, tls=certificates) as (client, peer), trio.open_nursery() as nursery:
        await peer.send(text("last"))
        assert isinstance(peer.stream, trio.SSLStream)
        nursery.start_soon((peer.stream if notified else peer.stream.transport_stream).aclose)
        messages, error = await ending(client)
        assert messages == ["last"]
        assert type(error) is ConnectionLost


async def test_tls_records_that_are_none(transport: str, certificates: Tls, autojump_clock: MockClock) -> None:
    async with opened(transport, tls=certificates) as (client, peer):
        assert isinstance(peer.stream, trio.SSLStream)
        await peer.stream.transport_stream.send_all(b"\x17\x03\x03\x00\x10" + b"x" * 16)
        _, error = await ending(client)
        assert type(error) is ConnectionLost
        with pytest.raises(ConnectionLost):
            await client.send(b"into the void")
        await client.aclose(4900)
    assert trio.current_time() == 0


async def test_a_write_that_breaks_does_not_hide_the_close_frame(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with opened(transport, tls=tls) as (client, peer):
        await peer.send(text("last"), closing(4014))
        raw = peer.stream.transport_stream if isinstance(peer.stream, trio.SSLStream) else peer.stream
        await raw.aclose()
        with pytest.raises(ConnectionLost):
            await client.send(b"into the void")
        messages, error = await ending(client)
        assert messages == ["last"]
        assert isinstance(error, ConnectionClosed)
        assert error.code == 4014
        await client.aclose(4900)
    assert trio.current_time() == 0


async def test_a_pong_that_cannot_be_written_does_not_hide_the_close_frame(
    transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(frame(PING), text("last"), closing(4014))
        await peer.stream.aclose()
        await trio.sleep(1)
        messages, error = await ending(client)
        assert messages == ["last"]
        assert isinstance(error, ConnectionClosed)


async def test_after_a_cut_frame_nothing_is_written(transport: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with opened(transport, capacity=100) as (client, peer):
            with trio.move_on_after(1):
                await client.send(b"x" * 1000)
            await peer.send(frame(PING, b"p"))
            with trio.move_on_after(1), suppress(ConnectionLost):
                await client.receive_batch()
            with pytest.raises(ConnectionLost):
                await client.send(b"y")
            nursery.start_soon(peer.receive_rest)
            await client.aclose(4900)
            assert trio.current_time() <= 2
    assert len(peer.unread) == 100


# --- it makes no sense ---


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(frame(TEXT, b"abcd", mask=b"mask"), id="masked"),
        *(pytest.param(frame(TEXT, b"x", reserved=bit), id=f"reserved bit {bit}") for bit in (1, 2, 4)),
        *(pytest.param(frame(opcode), id=f"opcode {opcode}") for opcode in (3, 7, 11, 15)),
        pytest.param(frame(PING, b"x" * 126), id="a long ping"),
        pytest.param(frame(PING, fin=False), id="a ping in fragments"),
        pytest.param(frame(CLOSE, b"\x0f"), id="half a close code"),
        pytest.param(closing(999), id="a close code that is none"),
        pytest.param(closing(1005), id="a close code that cannot be sent"),
        pytest.param(closing(1006), id="another one"),
        pytest.param(frame(CLOSE, b"\x0f\xa0\xff"), id="a reason that is no UTF-8"),
        pytest.param(frame(CONT, b"x"), id="the continuation of nothing"),
        pytest.param(frame(TEXT, b"x", fin=False) + text("y"), id="a message within a message"),
        pytest.param(frame(TEXT, b"\xff\xff"), id="text that is no UTF-8"),
        pytest.param(frame(TEXT, "ü".encode()[:1]), id="half a character"),
        pytest.param(frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"x"), id="two halves that do not fit"),
    ],
)
async def test_nonsense_ends_the_connection_after_the_last_message(
    nonsense: bytes, transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(text("fine"), nonsense)
        messages, error = await ending(client)
        assert messages == ["fine"]
        assert isinstance(error, GatewayProtocolError)
        assert client.close_seen() is None
        await client.aclose(4900)
    assert trio.current_time() == 0


@only_websockets
@pytest.mark.parametrize(
    ("nonsense", "code"), [(frame(3), 1002), (frame(TEXT, b"\xff"), 1007), (frame(TEXT, b"x" * 101), 1009)]
)
async def test_the_peer_is_told_what_made_no_sense(
    nonsense: bytes, code: int, transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport, max_message_size=100) as (client, peer):
        await peer.send(frame(PING), nonsense)
        _, error = await ending(client)
        assert str(code) in str(error)
        await client.aclose(4900)
        assert (await peer.receive()).code == code


async def test_random_bytes_never_hang_or_crash(transport: str, autojump_clock: MockClock) -> None:
    for seed in range(150):
        async with opened(transport, max_message_size=1000) as (client, peer):
            await peer.send(text("fine") + Random(seed).randbytes(300))
            await peer.stream.aclose()
            messages, error = await ending(client)
            assert messages[0] == "fine"
            assert isinstance(error, (ConnectionLost, ConnectionClosed, GatewayProtocolError))


async def test_no_payload_is_logged(
    transport: str, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The token is in one of them."""
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "trioshard.websockets", "trio-websocket"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with opened(transport) as (client, peer):
        await peer.send(text("what they say"))
        await receive(client, 1)
        await client.send(b"what we say")
        await client.aclose(4900)
    assert "they" not in caplog.text
    assert "we say" not in caplog.text
