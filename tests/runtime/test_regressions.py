"""Faults that were there once: each test is the shortest history that showed one."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trioshard
from tests.runtime.test_parts import VOICE, Bench
from tests.runtime.world import INTENTS, QUICK, open_world
from trioshard import Activity, Backoff, RequestMembers, Session, Shard, UpdatePresence, errors
from trioshard.testing import (
    After,
    Close,
    Drop,
    InvalidateSession,
    LocalGateway,
    NoReady,
    RejectUpgrade,
    Scenario,
    SendText,
    Sleep,
    open_local_gateway,
)

pytestmark = pytest.mark.usefixtures("each_transport")

AT_ONCE = Backoff(base=0.01, cap=0.01)


class Wrapped(trio.abc.Stream):
    """A stream as a proxy or a tunnel may hand it out: legal, and unlike a socket."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Late(Wrapped):
    """Its `send_all` returns some time after the last byte has left."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)
        for _ in range(20):
            await trio.lowlevel.checkpoint()


class Slow(Wrapped):
    """A line with so many bytes a second."""

    rate = math.inf

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self.inner.receive_some(4096)
        await trio.sleep(len(data) / self.rate)
        return data


class Clogged(Wrapped):
    """A line that takes nothing any more once it is told to."""

    clogged = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.clogged:
            await trio.sleep_forever()
        await self.inner.send_all(data)


def shard_at(gateway: LocalGateway, **options: Any) -> Any:
    return trioshard.open_shard(
        "secret", **{"intents": INTENTS, "url": gateway.url, "dial": gateway.dial, "backoff": QUICK} | options
    )


def clogging(gateway: LocalGateway) -> tuple[Callable[[str, int], Awaitable[Clogged]], list[Clogged]]:
    """A way to dial lines that can be clogged, and the lines that were dialled."""
    dialled: list[Clogged] = []

    async def dial(host: str, port: int) -> Clogged:
        dialled.append(Clogged(await gateway.dial(host, port)))
        return dialled[-1]

    return dial, dialled


def slow_to_return(gateway: LocalGateway) -> Callable[[str, int], Awaitable[trio.abc.Stream]]:
    """A way to dial that takes two seconds after the first READY."""

    async def dial(host: str, port: int) -> trio.abc.Stream:
        if gateway.report.readies:
            await trio.sleep(2)
        return await gateway.dial(host, port)

    return dial


def numbered(gateway: LocalGateway, *numbers: int) -> None:
    for number in numbers:
        gateway.publish("N", {"n": number})


# --- answers that are quicker than the end of the write ---


async def test_ready_may_come_before_the_write_of_identify_returns(autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            return Late(await gateway.dial(host, port))

        with trio.fail_after(300):
            async with shard_at(gateway, dial=dial) as shard:
                await shard.wait_ready()
                assert trio.current_time() < 5
                await trio.sleep(200)
                assert shard.statistics().connections == 1, "nor may an ACK be missed"


async def test_a_replay_may_begin_before_the_write_of_resume_returns(autojump_clock: MockClock) -> None:
    scenario = Scenario([[After("ready"), Sleep(1), Drop()]])
    async with open_local_gateway(port=None, scenario=scenario) as gateway:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            if gateway.report.readies:
                await trio.sleep(2)
            return Late(await gateway.dial(host, port))

        async with shard_at(gateway, dial=dial) as shard:
            subscription = shard.subscribe("N")
            await shard.wait_ready()
            await trio.sleep(2)
            numbered(gateway, *range(20))
            with trio.fail_after(60):
                assert [(await anext(subscription)).json()["n"] for _ in range(20)] == list(range(20))


async def test_bytes_of_a_long_message_are_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:
        dialled: list[Slow] = []

        async def dial(host: str, port: int) -> trio.abc.Stream:
            dialled.append(Slow(await gateway.dial(host, port)))
            return dialled[-1]

        async with shard_at(gateway, dial=dial, compress=None) as shard:
            subscription = shard.subscribe("BIG")
            await shard.wait_ready()
            dialled[0].rate = 10_000
            gateway.publish("BIG", {"x": "x" * 1_000_000})
            with trio.fail_after(600):
                await anext(subscription)
            assert shard.statistics().connections == 1


@pytest.mark.parametrize("code", [4000, 4014])
async def test_the_close_code_behind_a_stalled_write_is_found(code: int, autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:
        dial, dialled = clogging(gateway)

        async def run() -> None:
            async with shard_at(gateway, dial=dial) as shard:
                await shard.wait_ready()
                dialled[0].clogged = True
                shard.send_nowait(UpdatePresence())
                await trio.sleep(0.1)
                gateway.connections[0].close(code)
                await gateway.wait_resumed()
                assert str(code) in shard.statistics().last_ending

        if code == 4014:
            with pytest.raises(errors.DisallowedIntents):
                await run()
        else:
            await run()


async def test_a_refusal_is_found_behind_an_answer_that_nobody_takes(autojump_clock: MockClock) -> None:
    """The library has read the close, and is stuck in its answer to it; the next write finds only that it is over."""
    async with open_local_gateway(port=None) as gateway:
        dial, dialled = clogging(gateway)

        with pytest.raises(errors.DisallowedIntents), trio.fail_after(60):
            async with shard_at(gateway, dial=dial) as shard:
                await shard.wait_ready()
                dialled[0].clogged = True
                gateway.connections[0].close(4014)
                await trio.sleep(0.1)
                shard.send_nowait(UpdatePresence())
                await trio.sleep(30)
        assert len(dialled) == 1


@pytest.mark.parametrize("code", [4003, 4009, 1000])
async def test_a_close_is_not_believed_before_what_lies_unread_in_front_of_it(
    code: int, autojump_clock: MockClock
) -> None:
    """A write stalls, and the library knows of a close; but an op 9 true that came first still waits for the reader."""
    async with open_local_gateway(port=None) as gateway:
        dial, dialled = clogging(gateway)

        async with shard_at(gateway, dial=dial, write_timeout=3.0) as shard:
            subscription = shard.subscribe("N", capacity=1)
            await shard.wait_ready()
            numbered(gateway, *range(5))
            await trio.sleep(0.1)
            dialled[0].clogged = True
            shard.send_nowait(VOICE)
            await trio.sleep(0.1)
            gateway.connections[0].invalidate(resumable=True)
            gateway.connections[0].close(code, end_session=False)
            await trio.sleep(5)
            with trio.fail_after(60):
                assert [(await anext(subscription)).json()["n"] for _ in range(5)] == list(range(5))
                await gateway.wait_resumed()
        assert gateway.report.identifies == 1


async def test_op_9_true_behind_a_broken_write_keeps_the_session(autojump_clock: MockClock) -> None:
    """The reader is behind: a command crosses op 9, 4003 answers it, and the next write breaks before op 9 is read."""
    scenario = Scenario([[After("ready"), Sleep(1), InvalidateSession(resumable=True)]])
    async with open_local_gateway(port=None, scenario=scenario) as gateway, shard_at(gateway) as shard:
        subscription = shard.subscribe("N", capacity=1)
        await shard.wait_ready()
        await trio.sleep(0.5)
        numbered(gateway, *range(5))
        await trio.sleep(1)
        shard.send_nowait(VOICE)
        await trio.sleep(6)
        shard.send_nowait(VOICE)
        await trio.sleep(0.5)
        with trio.fail_after(60):
            assert [(await anext(subscription)).json()["n"] for _ in range(5)] == list(range(5))
        await gateway.wait_resumed()
        assert gateway.report.identifies == 1


async def test_identifies_are_five_seconds_apart_where_they_arrive(autojump_clock: MockClock) -> None:
    """The first one takes two seconds on its way, the second none."""
    scenario = Scenario([[After("ready"), Close(4009)]])
    backoff = Backoff(base=0.1, cap=0.1, identify_base=0.1, identify_cap=0.1)
    async with open_local_gateway(port=None, scenario=scenario) as gateway:
        writes = 0

        class SecondWriteIsSlow(Wrapped):
            async def send_all(self, data: bytes | bytearray | memoryview) -> None:
                nonlocal writes
                writes += 1
                if writes == 2:
                    await trio.sleep(2)
                await self.inner.send_all(data)

        async def dial(host: str, port: int) -> trio.abc.Stream:
            return SecondWriteIsSlow(await gateway.dial(host, port))

        async with shard_at(gateway, dial=dial, backoff=backoff):
            await gateway.wait_ready(2)
        times = [attempt.time for attempt in gateway.report.identify_attempts]
        assert times[1] - times[0] >= 5.0


# --- session starts ---


async def test_used_up_session_starts_do_not_end_a_shard_that_can_resume() -> None:
    scenario = Scenario([[After("ready"), Sleep(0.2), Drop()], [RejectUpgrade(503)], [RejectUpgrade(503)]])
    async with open_local_gateway(session_starts=1, scenario=scenario) as gateway:
        with trio.fail_after(20):
            async with trioshard.open_shard("t", intents=INTENTS, api_url=gateway.api_url, backoff=AT_ONCE):
                await gateway.wait_resumed()
        assert gateway.report.identifies == 1


async def test_used_up_session_starts_stop_the_identify_after_a_lost_session(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait, seconds in (("IDENTIFY_SPACING", 0.01), ("INVALID_SESSION_WAIT", (0.0, 0.01))):
        monkeypatch.setattr(f"trioshard.protocol.recovery.{wait}", seconds)
    async with open_local_gateway(session_starts=0) as gateway:
        gone = Session(id="gone", sequence=3, resume_url=gateway.resume_url)
        backoff = Backoff(base=0.01, cap=0.01, identify_base=0.01, identify_cap=0.01)
        with trio.fail_after(20), pytest.raises(errors.SessionStartsExhausted):
            async with trioshard.open_shard(
                "t", intents=INTENTS, api_url=gateway.api_url, session=gone, backoff=backoff
            ):
                await trio.sleep_forever()
        assert gateway.report.identifies == 0


async def test_a_retired_resume_url_is_left_for_the_gateways_own(autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            if host != "old.invalid":
                return await gateway.dial(host, port)
            ours, theirs = memory_stream_pair()
            await theirs.send_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return ours

        stored = Session(id="x", sequence=3, resume_url="ws://old.invalid")
        with trio.fail_after(600):
            async with shard_at(gateway, dial=dial, session=stored) as shard:
                await shard.wait_ready()


# --- nonsense ---


@pytest.mark.parametrize(
    "url", ["", "gateway.discord.gg", "https://x", "wss://[", "wss://h:99999", f"wss://{'a' * 70}.gg"]
)
async def test_a_resume_url_that_is_none(url: str, autojump_clock: MockClock) -> None:
    ready = {"op": 0, "t": "READY", "s": 1, "d": {"session_id": "x", "resume_gateway_url": url, "user": {"id": "1"}}}
    # The gateway knows nothing of this READY: what it thinks of heartbeats that mention it is no matter.
    odd = Scenario([[NoReady(), After("identify"), SendText(json.dumps(ready)), Sleep(1), Drop()]])
    async with open_local_gateway(port=None, scenario=odd) as gateway, shard_at(gateway, compress=None) as shard:
        await gateway.wait_ready()
        await shard.wait_ready()


async def test_a_session_id_that_fits_into_no_resume(autojump_clock: MockClock) -> None:
    ready = {"op": 0, "t": "READY", "s": 1, "d": {"session_id": "x" * 5000, "resume_gateway_url": "ws://g"}}
    async with open_world([NoReady(), After("identify"), SendText(json.dumps(ready))], compress=None) as (
        gateway,
        shard,
    ):
        await gateway.wait_ready()
        await shard.wait_ready()


@pytest.mark.parametrize("meta", [{"guild_id": None}, {"guild_id": [1]}, {"guild_id": "x"}, {}])
async def test_a_rate_limited_event_about_nothing(meta: Any, autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        gateway.publish("RATE_LIMITED", {"opcode": 8, "retry_after": 3.0, "meta": meta})
        await trio.sleep(5)
        await shard.update_presence()
        assert gateway.report.connections == 1


@pytest.mark.parametrize("retry_after", ["inf", 1e300, -5])
async def test_a_rate_limited_event_for_ever(retry_after: Any, autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        gateway.publish("RATE_LIMITED", {"opcode": 8, "retry_after": retry_after, "meta": {"guild_id": "1"}})
        await trio.sleep(5)
        with trio.fail_after(601):
            await shard.request_members(1)


@pytest.mark.parametrize("host", [f"{'a' * 70}.gg", "a..b"])
async def test_a_host_that_is_no_name(host: str) -> None:
    with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable):
        async with trioshard.open_shard("t", intents=INTENTS, url=f"ws://{host}", backoff=AT_ONCE):
            await trio.sleep_forever()


@pytest.mark.parametrize("url", ["https://discord.com", "", "wss://["])
async def test_an_api_that_names_no_gateway(url: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        body = json.dumps({"url": url}).encode()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        api_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable, match="something else"):
            async with trioshard.open_shard("t", intents=INTENTS, api_url=api_url, backoff=AT_ONCE):
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()


async def test_a_presence_that_would_not_fit_into_identify_is_refused(autojump_clock: MockClock) -> None:
    large = UpdatePresence(activities=(Activity.playing("x" * 3900),))
    async with open_world() as (_, shard):
        with pytest.raises(errors.InvalidCommand, match="Identify"):
            await shard.send(large)
    with pytest.raises(errors.InvalidCommand, match="Identify"):
        async with open_world(presence=large):
            pytest.fail("it was accepted")


# --- what leaves the block ---


async def test_the_bodys_error_survives_a_cancellation_around_it(autojump_clock: MockClock) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(ZeroDivisionError), trio.move_on_after(5):
        async with trioshard.open_shard("t", intents=INTENTS, url="ws://nobody.invalid", dial=dial):
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError


async def test_the_bodys_error_survives_a_fault_while_leaving(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise AssertionError("a fault")

    monkeypatch.setattr("trioshard._sender.Sender.run", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        async with open_world() as (_, shard):
            await shard.wait_ready()
            await trio.sleep(1)
            raise ZeroDivisionError
    assert any("a fault" in note for note in caught.value.__notes__)


async def test_a_gateway_that_answers_the_goodbye_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_world() as (_, shard):
        await shard.wait_ready()
        left = trio.current_time()
    assert trio.current_time() - left < 0.5


@pytest.mark.parametrize("keep_session", [True, False])
async def test_a_cancelled_block_says_the_same_goodbye(keep_session: bool, autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:
        with trio.move_on_after(5):
            async with shard_at(gateway, keep_session=keep_session):
                await trio.sleep_forever()
        await trio.sleep(2)
        assert gateway.report.closes_received == {4900 if keep_session else 1000: 1}


async def test_after_the_end_the_statistics_still_tell_what_was_received(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe()
        await shard.wait_ready()
        await anext(subscription)
        numbered(gateway, *range(5))
        await trio.sleep(1)
    assert shard.statistics().sequence_received == 7
    assert shard.session is not None
    assert shard.session.sequence == 1


async def test_a_session_that_ended_by_a_fatal_close_is_not_offered(autojump_clock: MockClock) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        async with open_world([After("ready"), Sleep(1), Close(4004)]) as (_, shard):
            await trio.sleep_forever()
    assert shard.session is None


# --- subscribers ---


async def listen(shard: Shard, pause: float) -> None:
    async for _ in shard.subscribe("N"):
        await trio.sleep(pause)


async def test_the_event_of_a_handler_that_failed_is_not_processed(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_world(keep_session=True) as (gateway, shard):
            await shard.wait_ready()
            numbered(gateway, 1, 2, 3)
            async for _ in shard.subscribe("N"):
                raise ZeroDivisionError
    assert shard.session is not None
    assert shard.session.sequence == 2


@pytest.mark.parametrize("pauses", [(1000.0, 0.0), (0.0, 1000.0)])
async def test_the_slower_of_two_cancelled_subscribers_decides(
    pauses: tuple[float, float], autojump_clock: MockClock
) -> None:
    with trio.move_on_after(10):
        async with open_world(keep_session=True) as (gateway, shard), trio.open_nursery() as nursery:
            for pause in pauses:
                nursery.start_soon(listen, shard, pause)
            await shard.wait_ready()
            numbered(gateway, 1, 2, 3)
            await trio.sleep_forever()
    gc.collect()
    assert shard.session is not None
    assert shard.session.sequence == 2


async def test_one_task_for_each_event_keeps_nothing_for_ever(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("N")
        await shard.wait_ready()

        async def one() -> None:
            await anext(subscription)

        for number in range(1000):
            numbered(gateway, number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
        statistics = shard.statistics()
        assert statistics.sequence_processed is not None
        assert statistics.sequence_processed > 700


async def test_the_garbage_collector_may_run_in_another_thread() -> None:
    async with open_local_gateway() as gateway:
        async with trioshard.open_shard("t", intents=INTENTS, url=gateway.url) as shard:
            gc.disable()
            try:
                cycle: list[Any] = [shard.subscribe("N", capacity=1)]
                cycle.append(cycle)
                other = shard.subscribe("M")
                with trio.fail_after(10):
                    await shard.wait_ready()
                    numbered(gateway, 1, 2, 3)
                    gateway.publish("M", {})
                    await gateway.wait_flushed()
                    del cycle
                    await trio.to_thread.run_sync(gc.collect)
                    await anext(other)
            finally:
                gc.enable()


async def test_a_replay_too_long_for_a_subscriber_that_waits_for_its_end_goes_on_loudly(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioshard._subscription.REPLAY_CAPACITY", 50)
    scenario = Scenario([[After("ready"), Sleep(2), Drop()]])
    async with open_local_gateway(port=None, scenario=scenario) as gateway:
        async with shard_at(gateway, dial=slow_to_return(gateway)) as shard:
            subscription = shard.subscribe("N", capacity=10)
            await shard.wait_ready()
            await trio.sleep(3)
            numbered(gateway, *range(200))
            with trio.fail_after(300):
                await anext(subscription)
                await shard.update_voice_state(1, None)
            assert shard.statistics().identifies == 1
            with pytest.raises(errors.SubscriptionOverflow, match="waits for the end of the resume"):
                async for _ in subscription:
                    pass


async def test_the_first_subscribers_policy_holds_for_the_backlog(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, *range(50))
        await trio.sleep(1)
        subscription = shard.subscribe("N", capacity=10, overflow="drop_oldest")
        assert (subscription.waiting, subscription.dropped) == (10, 40)


# --- the queue and the budget ---


async def test_a_presence_does_not_wait_for_somebody_elses_member_lists(autojump_clock: MockClock) -> None:
    bench = Bench()
    done: list[float] = []

    async def other() -> None:
        await bench.queue.send(UpdatePresence(status="idle"))
        done.append(trio.current_time())

    async def lister() -> None:
        for _ in range(5):
            bench.queue.send_nowait(RequestMembers(guild_id=1, query=""))
        bench.queue.send_nowait(UpdatePresence(status="dnd"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await wait_all_tasks_blocked()
        nursery.start_soon(lister)
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sender.run)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert done[0] < 1


async def test_a_callers_order_holds_when_the_presence_that_took_his_turn_is_withdrawn(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    for _ in range(5):
        bench.limits.take("presence")
        bench.limits.commit("presence", trio.current_time())

    async def first() -> None:
        bench.queue.send_nowait(UpdatePresence(status="idle"))
        await bench.queue.send(VOICE)

    async def second(scope: trio.CancelScope) -> None:
        with scope:
            await bench.queue.send(UpdatePresence(status="dnd"))

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(second, scope)
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sender.run)
        await trio.sleep(1)
        scope.cancel()
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert [opcode.name for opcode, _ in bench.transport.written] == ["PRESENCE_UPDATE", "VOICE_STATE_UPDATE"]


async def test_a_second_hello_reserves_slots_for_its_own_interval(autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway, shard_at(gateway, compress=None) as shard:
        await shard.wait_ready()
        gateway.connections[0].send_text('{"op":10,"d":{"heartbeat_interval":1000}}')
        await trio.sleep(1)

        async def flood() -> None:
            while True:
                await shard.update_voice_state(1, None)

        gaps: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            count, since = gateway.report.heartbeats, trio.current_time()
            while trio.current_time() < 200:
                await trio.sleep(0.25)
                if gateway.report.heartbeats != count:
                    gaps.append(trio.current_time() - since)
                    count, since = gateway.report.heartbeats, trio.current_time()
            nursery.cancel_scope.cancel()
        assert max(gaps) < 2.1


async def test_a_subscriber_that_holds_up_a_replay_is_no_silence_of_the_peer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioshard._subscription.REPLAY_CAPACITY", 50)
    scenario = Scenario([[After("ready"), Sleep(2), Drop()]])
    async with open_local_gateway(port=None, scenario=scenario) as gateway:
        async with shard_at(gateway, dial=slow_to_return(gateway)) as shard:
            idle, busy = shard.subscribe("N", capacity=10), shard.subscribe("N", capacity=10)
            await shard.wait_ready()
            await trio.sleep(3)
            numbered(gateway, *range(80))
            for _ in range(20):
                await anext(busy)
                await trio.sleep(5)
            # For 100 s the idle one has held up the replay, while the busy one shows that it is no deadlock.
            for _ in range(80):
                await anext(idle)
            assert shard.statistics().connections == 2
