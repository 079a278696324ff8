"""Each trouble, made on real sockets over loopback."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from trioshard._soak.line import Line
from trioshard._soak.trouble import Cut, Drip, End, HalfClose, Stall, Way


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection with small buffers."""
    with trio.socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        dialling = trio.socket.socket()
        dialling.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await dialling.connect(listening.getsockname())
        accepted, _ = await listening.accept()
    return trio.SocketStream(dialling), trio.SocketStream(accepted)


@asynccontextmanager
async def line(*troubles):
    """The outer ends of a line on which these troubles happen, one after the other, and the line."""
    client, client_side = await socket_pair()
    gateway, gateway_side = await socket_pair()
    joined = Line(client_side, gateway_side)

    coming = list(troubles)

    async def next_trouble():
        return coming.pop(0) if coming else await trio.sleep_forever()

    async with client, gateway, trio.open_nursery() as nursery:
        with trio.fail_after(5):
            nursery.start_soon(joined.run, next_trouble)
            yield client, gateway, joined
            nursery.cancel_scope.cancel()


async def read_all(stream) -> tuple[bytes, str]:
    """Everything that comes, and how it ends."""
    received = b""
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        return received, "RST"
    return received, "FIN"


async def test_bytes_and_ends_pass_in_both_directions():
    async with line() as (client, gateway, _):
        await client.send_all(b"to the gateway")
        assert await gateway.receive_some() == b"to the gateway"
        await gateway.send_all(b"to the client")
        await gateway.send_eof()
        assert await read_all(client) == (b"to the client", "FIN")
        await client.send_all(b"more")
        await client.send_eof()
        assert await read_all(gateway) == (b"more", "FIN")


async def test_a_reset_passes():
    async with line() as (client, gateway, _):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()
        assert await read_all(gateway) == (b"", "RST")


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize(
    ("end", "seen"),
    [
        (End.CLOSE, ("FIN", "FIN")),
        (End.RESET, ("RST", "RST")),
        (End.RESET_CLIENT, ("RST", "FIN")),
        (End.RESET_GATEWAY, ("FIN", "RST")),
    ],
)
async def test_a_cut_lets_exactly_so_many_bytes_pass(way, end, seen):
    async with line(Cut(way, 5, end)) as (client, gateway, _):
        sender, receiver = (client, gateway) if way is Way.UP else (gateway, client)
        await trio.testing.wait_all_tasks_blocked()
        await sender.send_all(b"0123456789")
        received = b""
        with suppress(trio.BrokenResourceError):
            received = await receiver.receive_some(100)
        endings = {}
        for name, stream in (("client", client), ("gateway", gateway)):
            more, endings[name] = await read_all(stream)
            assert more == b""
        # RST may overtake bytes that were not read yet.
        assert received in ((b"01234",) if end is End.CLOSE else (b"01234", b""))
        assert (endings["client"], endings["gateway"]) == seen or received == b""


@pytest.mark.parametrize("way", Way)
async def test_a_half_close_ends_one_direction_only(way):
    async with line(HalfClose(way, 0.2)) as (client, gateway, _):
        ended, other = (gateway, client) if way is Way.UP else (client, gateway)
        assert await ended.receive_some() == b""
        await ended.send_all(b"still here")
        assert await other.receive_some() == b"still here"
        with suppress(trio.BrokenResourceError):
            await other.send_all(b"nobody reads this")
        assert (await read_all(other))[0] == b""


@pytest.mark.parametrize("way", Way)
async def test_a_stall_fills_the_buffers_and_loses_nothing(way):
    size = 600_000
    async with line(Stall(way, 0.2, None)) as (client, gateway, _):
        sender, receiver = (client, gateway) if way is Way.UP else (gateway, client)
        sent = 0

        async def send():
            nonlocal sent
            while sent < size:
                await sender.send_all(bytes(100))
                sent += 100

        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with trio.move_on_after(0.1) as early:
                await receiver.receive_some()
            assert early.cancelled_caught
            assert 0 < sent < 50_000, "a full buffer holds up the sender"
            received = 0
            while received < size:
                received += len(await receiver.receive_some())
        assert received == size


async def test_a_stall_may_end_the_connection_and_what_it_held_up_is_gone():
    async with line(Stall(Way.UP, 0.05, End.RESET)) as (client, gateway, _):
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(b"held up")
        assert await read_all(gateway) == (b"", "RST")
        assert await read_all(client) == (b"", "RST")


async def test_a_drip_brings_single_bytes_and_then_the_rest_at_once():
    async with line(Drip(Way.UP, 3, 0.02)) as (client, gateway, _):
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(b"0123456789")
        chunks = []
        while sum(map(len, chunks)) < 10:
            chunks.append(bytes(await gateway.receive_some()))
        assert chunks == [b"0", b"1", b"2", b"3456789"]


async def test_a_line_that_is_ended_resets_both_sides():
    async with line() as (client, gateway, joined):
        joined.end(End.RESET)
        assert (await read_all(client))[1] == (await read_all(gateway))[1] == "RST"
