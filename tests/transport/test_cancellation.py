"""Cancelled at every await: nothing is lost on the way in, and nothing follows a cut frame on the way out."""

from __future__ import annotations

import types
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from tests.transport.peer import (
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    Tls,
    closing,
    frame,
    opened,
    receive,
    split_frame,
    text,
    unmask,
)
from trioshard._open_transport import open_transport
from trioshard._transport import CLOSE_TIMEOUT
from trioshard.testing import memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

DOCUMENT = b"0123456789" * 30


@types.coroutine
def calling_before_each_wait(
    coroutine: Coroutine[Any, Any, Any], call: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Run a coroutine, and call something whenever it is about to wait."""
    answer, error = None, None
    while True:
        try:
            trap = coroutine.send(answer) if error is None else coroutine.throw(error)
        except StopIteration:
            return
        call()
        answer, error = None, None
        try:
            answer = yield trap
        except BaseException as exc:
            error = exc


async def cancel_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine, and cancel it at its n-th wait. Return whether it ended before that."""
    waits = 0

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == number:
            scope.cancel()

    with trio.CancelScope() as scope:
        await calling_before_each_wait(coroutine, wait)
    return waits < number


def split_written(written: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames of a client, and the payload of a cut one at the end, unmasked."""
    frames: list[Frame] = []
    while True:
        found, written = split_frame(written)
        if found is None:
            start = 8 if len(written) > 1 and written[1] & 0x7F == 126 else 6
            return frames, unmask(written[start:], written[start - 4 : start])
        frames.append(found)


@pytest.mark.parametrize("pinged", [False, True])
async def test_a_cut_document_is_the_last_thing_that_was_written(
    pinged: bool, transport: str, autojump_clock: MockClock
) -> None:
    """The peer reads slowly and has little room, so that most waits are in the middle of a frame."""
    for number in count(1):
        written = bytearray()

        async def read_slowly(peer: Peer, written: bytearray = written) -> None:
            while data := await peer.stream.receive_some(7):
                written += data
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery, opened(transport, capacity=50) as (client, peer):
            nursery.start_soon(read_slowly, peer)
            if pinged:
                await peer.send(frame(PING, b"ping"))
                with trio.move_on_after(0.01):
                    await client.receive_batch()
            finished = await cancel_at(number, client.send(DOCUMENT))
            before = trio.current_time()
            await client.aclose(4900)
            assert trio.current_time() - before <= CLOSE_TIMEOUT * 1.01
        frames, cut = split_written(bytes(written))
        assert {DOCUMENT} >= {frame.payload for frame in frames if frame.opcode == TEXT}
        assert DOCUMENT.startswith(cut)
        if finished:
            assert [frame.opcode for frame in frames] == [PONG, TEXT, CLOSE] if pinged else [TEXT, CLOSE]
            assert number > 8
            return


async def test_a_message_is_never_lost_by_a_cancelled_receive(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    """The receiver is cancelled at each of its waits in turn, with bytes of the message on their way."""
    stream = text("one") + frame(TEXT, b"tw", fin=False) + frame(PING, b"p") + frame(CONT, b"o") + text("three")
    async with opened(transport, tls=tls) as (client, peer), trio.open_nursery() as nursery:

        async def send_slowly() -> None:
            for position in range(len(stream)):
                await trio.sleep(0.01)
                await peer.stream.send_all(stream[position : position + 1])

        nursery.start_soon(send_slowly)
        messages: list[bytes | str] = []

        async def collect() -> None:
            messages.extend(await client.receive_batch())

        while len(messages) < 3:
            for number in (1, 2, 3, 4):
                with trio.move_on_after(0.007):
                    await cancel_at(number, collect())
                await trio.sleep(0.001)
        assert messages == ["one", "two", "three"]


async def test_opening_can_be_cancelled_at_every_wait(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async def open_and_use() -> None:
        async with opened(transport, tls=tls, first=text("hello")) as (client, _):
            assert await receive(client, 1) == ["hello"]
            await client.send(b"hello")

    for number in count(1):
        if await cancel_at(number, open_and_use()):
            break
    assert number > 8


async def test_a_cancelled_opening_closes_the_stream(transport: str, autojump_clock: MockClock) -> None:
    async def open_one(streams: list[trio.abc.Stream]) -> None:
        async def dial(host: str, port: int) -> trio.abc.Stream:
            client, server = memory_stream_pair()
            streams.extend([client, server])
            await trio.lowlevel.checkpoint()
            return client

        async with open_transport("ws://gateway.test", dial=dial, max_message_size=1000, transport=transport):
            raise AssertionError

    with trio.move_on_after(5):
        await open_one(streams := [])
    assert trio.current_time() == 5
    with pytest.raises(trio.ClosedResourceError):
        await streams[0].receive_some()


async def test_a_goodbye_is_said_whatever_is_cancelled_around_it(transport: str, autojump_clock: MockClock) -> None:
    for number in count(1):
        async with trio.open_nursery() as nursery:
            frames: list[Frame] = []

            async def answer(peer: Peer, frames: list[Frame] = frames) -> None:
                frames.append(await peer.receive())
                await peer.send(closing(4900))

            async with opened(transport) as (client, peer):
                nursery.start_soon(answer, peer)
                finished = await cancel_at(number, client.aclose(4900))
        assert [frame.code for frame in frames] == [4900]
        if finished:
            break
    assert trio.current_time() == 0
