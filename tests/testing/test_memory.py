"""The stream in memory is a stream like any other, only faster."""

import pytest
import trio
import trio.testing

from trioshard.testing import memory_stream_pair


@pytest.mark.parametrize("capacity", [4096, 65_536])
async def test_it_is_a_stream_by_trios_own_measure(capacity):
    async def make():
        return memory_stream_pair(capacity)

    async def make_clogged():
        left, right = memory_stream_pair(capacity)
        await left.send_all(b"x" * capacity)
        await right.send_all(b"x" * capacity)
        return left, right

    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_backpressure(autojump_clock):
    left, right = memory_stream_pair(10)
    await left.send_all(b"x" * 10)
    with trio.move_on_after(1) as scope:
        await left.send_all(b"y" * 5)
    assert scope.cancelled_caught
    assert await right.receive_some() == b"x" * 10
    await left.send_all(b"z")
    assert await right.receive_some(100) == b"z"


async def test_reset_loses_what_was_in_flight(autojump_clock):
    left, right = memory_stream_pair()
    await left.send_all(b"lost")
    left.reset()
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await left.receive_some()


async def test_reset_wakes_everyone(autojump_clock):
    left, right = memory_stream_pair(1)

    async def broken(function, *args):
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await function(*args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broken, left.receive_some)
        nursery.start_soon(broken, left.send_all, b"xyz")
        await trio.testing.wait_all_tasks_blocked()
        right.reset()
