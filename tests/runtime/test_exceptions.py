"""What leaves `open_shard`: one plain exception, and the right one."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioshard
from tests.runtime.world import INTENTS, QUICK, open_world
from trioshard import errors
from trioshard._groups import sole
from trioshard.testing import After, Close, CloseOnIdentify, DelayHello, NoHello, Sleep, Stall

pytestmark = pytest.mark.usefixtures("each_transport")


async def test_what_the_body_raises_leaves_as_it_is(autojump_clock: MockClock) -> None:
    mine = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_world() as (_, shard):
            await shard.wait_ready()
            raise mine
    assert sole(caught.value) is mine


async def test_a_body_that_raises_is_not_wrapped_by_open_shard(autojump_clock: MockClock) -> None:
    mine = ZeroDivisionError("mine")
    try:
        async with trioshard.open_shard("t", intents=INTENTS, url="ws://nobody.invalid", dial=never, backoff=QUICK):
            raise mine
    except ZeroDivisionError as exc:
        assert exc is mine
        assert exc.__cause__ is None


async def never(host: str, port: int) -> trio.abc.Stream:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_group_of_the_body_stays_that_group(autojump_clock: MockClock) -> None:
    mine = ExceptionGroup("mine", [ValueError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with trioshard.open_shard("t", intents=INTENTS, url="ws://nobody.invalid", dial=never):
            raise mine
    assert caught.value is mine


async def test_a_group_out_of_the_bodys_own_nursery(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise ValueError("in a task of mine")

    with pytest.raises(ExceptionGroup) as caught:
        async with trioshard.open_shard("t", intents=INTENTS, url="ws://nobody.invalid", dial=never):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
    assert [type(exc) for exc in caught.value.exceptions] == [ValueError]


async def test_a_failure_cancels_the_body_and_leaves_bare(autojump_clock: MockClock) -> None:
    cleaned_up = False
    with pytest.raises(errors.AuthenticationFailed):
        async with open_world([CloseOnIdentify(4004)]):
            try:
                await trio.sleep_forever()
            finally:
                cleaned_up = True
    assert cleaned_up


async def test_a_failure_while_the_body_raises_is_a_note_on_the_bodys_error(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_world([CloseOnIdentify(4004)]):
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError
    assert any("the token was not accepted" in note for note in caught.value.__notes__)


async def test_the_echo_of_a_failure_gives_way_to_it(autojump_clock: MockClock) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        async with open_world([CloseOnIdentify(4004)]) as (_, shard):
            with trio.CancelScope(shield=True):
                await shard.wait_ready()


async def test_the_echo_out_of_the_bodys_own_tasks_gives_way_too(autojump_clock: MockClock) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        async with open_world([DelayHello(5), CloseOnIdentify(4004)]) as (_, shard):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(shard.update_voice_state, 1, None)


async def test_a_send_outside_the_block_ends_with_the_failure_as_its_cause(autojump_clock: MockClock) -> None:
    async def outside(shard: trioshard.Shard) -> None:
        with pytest.raises(errors.ShardClosed) as caught:
            await shard.update_presence()
        assert isinstance(caught.value.__cause__, errors.DisallowedIntents)
        with pytest.raises(errors.ShardClosed):
            async for _ in shard.subscribe(trioshard.events.RateLimited):
                pass

    async with trio.open_nursery() as nursery:
        with pytest.raises(errors.DisallowedIntents):
            async with open_world([DelayHello(5), CloseOnIdentify(4014)]) as (_, shard):
                nursery.start_soon(outside, shard)
                await trio.sleep_forever()


async def test_a_subscription_ends_quietly_when_the_block_is_left(autojump_clock: MockClock) -> None:
    names: list[str] = []

    async def outside(shard: trioshard.Shard, task_status: trio.TaskStatus[None]) -> None:
        subscription = shard.subscribe()
        task_status.started()
        names.extend([event.name async for event in subscription])

    async with trio.open_nursery() as nursery, open_world() as (_, shard):
        await nursery.start(outside, shard)
        await shard.wait_ready()
        await trio.sleep(1)
    assert names == ["READY", "GUILD_CREATE"]


@pytest.mark.parametrize("moment", [0.0, 0.5, 5.0, 45.0])
async def test_cancellation_ends_everything_at_once(moment: float, autojump_clock: MockClock) -> None:
    with trio.move_on_after(moment) as scope:
        async with open_world([NoHello()] if moment == 5.0 else []) as (_, shard):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(shard.update_voice_state, 1, None)
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() <= moment + 1.5
    await wait_all_tasks_blocked()


async def test_keyboard_interrupt_passes_through(autojump_clock: MockClock) -> None:
    interrupt = KeyboardInterrupt()
    try:
        async with trioshard.open_shard("t", intents=INTENTS, url="ws://nobody.invalid", dial=never):
            await trio.sleep(1)
            raise interrupt
    except KeyboardInterrupt as exc:
        assert exc is interrupt


async def test_leaving_does_not_wait_long_for_a_stalled_write(autojump_clock: MockClock) -> None:
    script = [After("ready"), Sleep(1), Stall(100_000)]
    async with open_world(script, write_timeout=1000.0, gateway={"heartbeat_interval": 3000.0}) as (_, shard):
        await shard.wait_ready()
        await trio.sleep(2)
        for number in range(40):
            shard.send_nowait(trioshard.RequestMembers(guild_id=1, query="q" * 3000, limit=1, nonce=str(number)))
        await trio.sleep(1)
        left = trio.current_time()
    assert trio.current_time() - left <= 4.0


async def test_a_fault_inside_leaves_bare(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: object) -> None:
        raise AssertionError("a fault")

    monkeypatch.setattr("trioshard._sender.Sender.run", broken)
    with pytest.raises(AssertionError, match="a fault"):
        async with open_world():
            await trio.sleep_forever()


async def test_a_closed_connection_at_the_moment_of_leaving(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Close(4000)]) as (_, shard):
        await shard.wait_ready()
