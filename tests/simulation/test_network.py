"""The network of the simulation: a stream like any other, which is slow, thin, cut or stuck when it shall be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trioshard._simulation.network import PAUSE, Line

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trioshard._simulation.network import End, Way

MESSAGE = b"0123456789abcdef"


def ends(line: Line, direction: str) -> tuple[End, Way, End]:
    """Return who sends, the way between, and who receives."""
    return (line.client, line.up, line.server) if direction == "up" else (line.server, line.down, line.client)


both_ways = pytest.mark.parametrize("direction", ["up", "down"])
eof_or_reset = pytest.mark.parametrize("reset", [False, True], ids=["end of stream", "reset"])


async def receive_all(end: End) -> bytes:
    """Receive until the end of the stream."""
    received = b""
    while chunk := await end.receive_some():
        received += chunk
    return received


# --- a stream by Trio's own measure ---


@pytest.mark.parametrize("capacity", [65_536])
@both_ways
async def test_its_ends_are_streams_by_trios_own_measure(capacity: int, direction: str) -> None:
    async def make() -> tuple[End, End]:
        sender, _, receiver = ends(Line(0, capacity=capacity), direction)
        return sender, receiver

    async def make_clogged() -> tuple[End, End]:
        sender, receiver = await make()
        await sender.send_all(b"x" * capacity)
        await receiver.send_all(b"x" * capacity)
        return sender, receiver

    await trio.testing.check_two_way_stream(make, make_clogged)
    await trio.testing.check_half_closeable_stream(make, make_clogged)


# --- latency, width, capacity ---


@both_ways
async def test_bytes_take_the_latency(autojump_clock: MockClock, direction: str) -> None:
    sender, way, receiver = ends(Line(0, latency=0.125), direction)
    await sender.send_all(MESSAGE)
    assert trio.current_time() == 0.0
    assert (bytes(way.taken), way.read) == (MESSAGE, 0)
    assert await receiver.receive_some() == MESSAGE
    assert trio.current_time() == 0.125
    assert way.read == len(MESSAGE)


async def test_what_arrived_apart_may_be_read_together_and_what_has_not_arrived_is_not(
    autojump_clock: MockClock,
) -> None:
    line = Line(0, latency=1.0)
    for chunk in (b"a", b"b", b"c"):
        await line.client.send_all(chunk)
        await trio.sleep(0.25)
    await trio.sleep_until(1.25)
    assert await line.server.receive_some() == b"ab"
    assert trio.current_time() == 1.25
    assert await line.server.receive_some() == b"c"
    assert trio.current_time() == 1.5


async def test_bytes_stay_in_order_when_the_latency_falls(autojump_clock: MockClock) -> None:
    line = Line(0, latency=1.0)
    await line.client.send_all(b"slow")
    line.up.latency = 0.0
    await line.client.send_all(b"fast")
    assert await line.server.receive_some() == b"slowfast"
    assert trio.current_time() == 1.0


@both_ways
async def test_a_thin_line_takes_one_portion_after_the_other(autojump_clock: MockClock, direction: str) -> None:
    sender, way, receiver = ends(Line(0, up=6, down=6), direction)
    portions = []

    async def read() -> None:
        while chunk := await receiver.receive_some():
            portions.append((trio.current_time(), chunk))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await sender.send_all(MESSAGE)
        assert trio.current_time() == pytest.approx(2 * PAUSE, abs=1e-12)
        await sender.send_eof()
    assert [chunk for _, chunk in portions] == [MESSAGE[:6], MESSAGE[6:12], MESSAGE[12:]]
    assert [time for time, _ in portions] == pytest.approx([0.0, PAUSE, 2 * PAUSE], abs=1e-12)
    assert way.taken == MESSAGE


@both_ways
async def test_a_full_line_takes_no_more_than_is_read(autojump_clock: MockClock, direction: str) -> None:
    sender, way, receiver = ends(Line(0, capacity=10), direction)
    done_at = []

    async def send() -> None:
        await sender.send_all(MESSAGE)
        done_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(1.0)
        assert (bytes(way.taken), way.read, done_at) == (MESSAGE[:10], 0, [])
        assert await receiver.receive_some(4) == MESSAGE[:4]
        await trio.sleep(1.0)
        assert (bytes(way.taken), way.read, done_at) == (MESSAGE[:14], 4, [])
        assert await receiver.receive_some() == MESSAGE[4:14]
        assert await receiver.receive_some() == MESSAGE[14:]
    assert done_at == pytest.approx([2.0], abs=2 * PAUSE)
    assert way.taken == MESSAGE
    assert way.read == len(MESSAGE)


async def test_the_ways_do_not_share_their_room(autojump_clock: MockClock) -> None:
    line = Line(0, capacity=10)
    await line.client.send_all(b"x" * 10)
    with trio.fail_after(1.0):
        await line.server.send_all(b"y" * 10)
    assert await line.client.receive_some() == b"y" * 10


async def test_whoever_waits_for_room_wakes_when_there_is_some(autojump_clock: MockClock) -> None:
    line = Line(0, capacity=10)
    await line.client.send_all(b"x" * 10)
    with trio.move_on_after(1.0) as patience:
        await line.client.wait_send_all_might_not_block()
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.client.wait_send_all_might_not_block)
        await trio.testing.wait_all_tasks_blocked()
        await line.server.receive_some(1)


# --- cancellation ---


@both_ways
async def test_a_cancelled_receive_loses_nothing(autojump_clock: MockClock, direction: str) -> None:
    sender, way, receiver = ends(Line(0, latency=1.0), direction)
    received = b""
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for byte in MESSAGE:
                await sender.send_all(bytes([byte]))
                await trio.sleep(0.25)
            await sender.send_eof()

        nursery.start_soon(send)
        for attempt in range(1, 100):
            # Some of these deadlines fall on the moment in which a byte arrives.
            with trio.move_on_at(attempt / 8):
                received += await receiver.receive_some(1)
            assert way.read == len(received)
        assert received == MESSAGE


@both_ways
async def test_of_a_cancelled_send_that_much_arrives_that_was_taken(autojump_clock: MockClock, direction: str) -> None:
    for turn in range(6):
        sender, way, receiver = ends(Line(0, up=3, down=3), direction)
        with trio.move_on_at(trio.current_time() + (turn - 0.5) * PAUSE):
            await sender.send_all(MESSAGE)
        assert way.taken == MESSAGE[: 3 * turn]
        await sender.aclose()
        assert await receive_all(receiver) == MESSAGE[: 3 * turn]


# --- the end ---


@both_ways
async def test_what_is_under_way_arrives_before_the_end(autojump_clock: MockClock, direction: str) -> None:
    sender, _, receiver = ends(Line(0, latency=0.5), direction)
    await sender.send_all(MESSAGE)
    await sender.aclose()
    assert await receive_all(receiver) == MESSAGE
    assert trio.current_time() == 0.5
    with pytest.raises(trio.BrokenResourceError):
        await receiver.send_all(b"x")


@both_ways
async def test_a_reset_loses_what_is_under_way(autojump_clock: MockClock, direction: str) -> None:
    sender, way, receiver = ends(Line(0, latency=0.5), direction)
    await sender.send_all(MESSAGE)
    await trio.sleep(0.5)
    assert await receiver.receive_some(4) == MESSAGE[:4]
    await sender.send_all(b"more")
    sender.reset()
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await receiver.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await receiver.send_all(b"x")
    for lost in (sender.receive_some(), sender.send_all(b"x")):
        with pytest.raises(trio.ClosedResourceError):
            await lost
    assert (way.read, bytes(way.taken)) == (4, MESSAGE + b"more")


@both_ways
@eof_or_reset
async def test_the_end_of_a_line_wakes_everyone_who_waits(
    autojump_clock: MockClock, direction: str, reset: bool
) -> None:
    line = Line(0, capacity=4)
    sender, _, receiver = ends(line, direction)
    ended: dict[str, str] = {}

    async def wait(name: str, end: End) -> None:
        try:
            received = await (end.send_all(MESSAGE) if name.startswith("send") else end.receive_some())
            ended[name] = repr(received)
        except trio.BrokenResourceError:
            ended[name] = "broken"

    with trio.fail_after(1.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "send", sender)
            nursery.start_soon(wait, "receive what never came", sender)
            await trio.testing.wait_all_tasks_blocked()
            (line.reset if reset else line.cut_off)()
    assert ended == {"send": "broken", "receive what never came": "broken" if reset else "b''"}
    if reset:
        with pytest.raises(trio.BrokenResourceError):
            await receiver.receive_some()
    else:
        assert await receive_all(receiver) == MESSAGE[:4]


# --- cut at every byte ---


@both_ways
@eof_or_reset
@pytest.mark.parametrize("width", [1000, 5], ids=["wide", "thin"])
async def test_a_line_is_cut_at_every_byte(autojump_clock: MockClock, direction: str, reset: bool, width: int) -> None:
    for nbytes in range(1, len(MESSAGE) + 1):
        line = Line(0, latency=0.5, up=width, down=width)
        sender, way, receiver = ends(line, direction)
        await sender.send_all(b"before")
        line.cut_after(way, nbytes, reset=reset)
        if nbytes < len(MESSAGE):
            with pytest.raises(trio.BrokenResourceError):
                await sender.send_all(MESSAGE)
        else:
            # The last byte was taken: nobody knows yet.
            await sender.send_all(MESSAGE)
        assert way.taken == b"before" + MESSAGE[:nbytes]
        with pytest.raises(trio.BrokenResourceError):
            await sender.send_all(b"after")
        with pytest.raises(trio.BrokenResourceError):
            await receiver.send_all(b"the other way")
        if reset:
            with pytest.raises(trio.BrokenResourceError):
                await receiver.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await sender.receive_some()
            assert way.read == 0
        else:
            assert await receive_all(receiver) == b"before" + MESSAGE[:nbytes]
            assert await receive_all(sender) == b""
            assert way.read == len(way.taken)


@both_ways
@eof_or_reset
async def test_a_line_is_whole_up_to_its_cut(autojump_clock: MockClock, direction: str, reset: bool) -> None:
    line = Line(0)
    sender, way, receiver = ends(line, direction)
    line.cut_after(way, len(MESSAGE) + 1, reset=reset)
    await sender.send_all(MESSAGE)
    assert await receiver.receive_some() == MESSAGE
    await receiver.send_all(MESSAGE)
    assert await sender.receive_some() == MESSAGE


# --- clogged ---


@both_ways
async def test_a_clogged_way_takes_nothing_and_says_nothing(autojump_clock: MockClock, direction: str) -> None:
    line = Line(0)
    sender, way, receiver = ends(line, direction)
    await sender.send_all(b"before")
    way.clogged = True
    with trio.move_on_after(1000.0) as patience:
        await sender.send_all(MESSAGE)
    assert patience.cancelled_caught
    assert way.taken == b"before"
    assert await receiver.receive_some() == b"before"
    await receiver.send_all(MESSAGE)
    assert await sender.receive_some() == MESSAGE
    async with trio.open_nursery() as nursery:

        async def hear_of_it() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await sender.send_all(MESSAGE)

        nursery.start_soon(hear_of_it)
        await trio.testing.wait_all_tasks_blocked()
        await receiver.aclose()


async def test_closing_is_known_at_once_and_without_a_checkpoint() -> None:
    line = Line(0)
    assert not line.client.closed
    line.client.close()
    assert line.client.closed
    assert not line.server.closed
    assert await line.server.receive_some() == b""
