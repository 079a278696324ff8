"""Pings are answered, however many come, and reading never waits for writing."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.peer import PING, PONG, TEXT, Frame, Tls, closing, frame, opened, receive, text
from trioshard.errors import ConnectionClosed

only_websockets = pytest.mark.parametrize("transport", ["websockets"])


@pytest.mark.parametrize("payload", [b"", b"p", b"\x00\xff" * 62])
async def test_a_ping_is_answered_with_its_payload(
    payload: bytes, transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with opened(transport, tls=tls) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(receive, client, 1)
        for _ in range(3):
            await peer.send(frame(PING, payload))
            assert await peer.receive() == Frame(PONG, payload)
        await peer.send(text("done"))


async def test_pongs_that_nobody_asked_for_are_ignored(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(frame(PONG), frame(PONG, b"x" * 125), text("a"), frame(PONG, b"y"), text("b"))
        assert await receive(client, 2) == ["a", "b"]
        await client.send(b"the next frame")
        assert await peer.receive() == Frame(TEXT, b"the next frame")


async def test_the_last_of_many_pings_is_answered(transport: str, autojump_clock: MockClock) -> None:
    """RFC 6455, section 5.5.3: a pong for the most recent ping is enough."""
    async with opened(transport) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, *(frame(PING, b"%d" % number) for number in range(5000)), text("after them"))
        nursery.start_soon(receive, client, 1)
        answered = -1
        while answered < 4999:
            pong = await peer.receive()
            assert pong.opcode == PONG
            assert int(pong.payload) > answered
            answered = int(pong.payload)


async def test_a_document_gets_its_turn_among_the_pongs(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport, capacity=256) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, *(frame(PING, b"p") for _ in range(20_000)), text("done"))
        nursery.start_soon(receive, client, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(client.send, b"document")
        before = 0
        while (await peer.receive()).opcode != TEXT:
            before += 1
        assert before < 200
        nursery.cancel_scope.cancel()


@only_websockets
async def test_pings_to_a_client_that_cannot_write_take_no_memory_and_no_time(
    transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport, capacity=100) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, *(frame(PING, b"%05d" % number) for number in range(20_000)), text("after them"))
        assert await receive(client, 1) == ["after them"]
        # 100 bytes lay in the stream and one frame in the write that waited for room; one more has waited since.
        pongs = [await peer.receive()]
        while pongs[-1].payload != b"19999":
            pongs.append(await peer.receive())
        assert len(pongs) <= 100 // 11 + 2


@only_websockets
async def test_a_stalled_write_does_not_keep_the_close_frame_from_the_reader(
    transport: str, autojump_clock: MockClock
) -> None:
    async with opened(transport, capacity=100) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 1000)
        await wait_all_tasks_blocked()
        await peer.send(frame(PING), text("last"), closing(4014, "not allowed"))
        assert await receive(client, 1) == ["last"]
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive_batch()
        assert (caught.value.code, caught.value.reason) == (4014, "not allowed")
        seen = client.close_seen()
        assert seen is not None
        assert seen.code == 4014
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()


async def test_a_close_frame_behind_a_stalled_write_is_seen(transport: str, autojump_clock: MockClock) -> None:
    """Whoever gives the write up asks for it: the reader of trio-websocket stands in line behind the write."""
    async with opened(transport, capacity=100) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 1000)
        await wait_all_tasks_blocked()
        assert client.close_seen() is None
        await peer.send(closing(4014))
        with trio.move_on_after(1), suppress(ConnectionClosed):
            await client.receive_batch()
        seen = client.close_seen()
        assert seen is not None
        assert seen.code == 4014
        nursery.cancel_scope.cancel()


async def test_a_ping_behind_a_stalled_write_is_answered_after_it(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport, capacity=100) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 1000)
        nursery.start_soon(receive, client, 1)
        await wait_all_tasks_blocked()
        await peer.send(frame(PING, b"p"))
        await wait_all_tasks_blocked()
        assert await peer.receive() == Frame(TEXT, b"x" * 1000)
        assert await peer.receive() == Frame(PONG, b"p")
        await peer.send(text("done"))
