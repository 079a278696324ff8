"""The parts that need a scripted counterpart: heartbeater, queue and sender, configuration, HTTP."""

from __future__ import annotations

import logging
import ssl
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trioshard
from tests.runtime.scripted import ScriptedTransport, ready_machine
from tests.runtime.world import INTENTS, QUICK, open_world
from trioshard import Backoff, Intents, Session, UpdatePresence, UpdateVoiceState, errors
from trioshard._config import ShardConfig, Token
from trioshard._heartbeater import CLOCK_CHECK
from trioshard._open_shard import run_shard
from trioshard._queue import CommandQueue, Receipt
from trioshard._sender import Sender
from trioshard._shard import Shard
from trioshard._wire import Wire
from trioshard.errors import ConnectionLost
from trioshard.protocol.machine import Machine
from trioshard.protocol.pacing import BotLimits, SendBudget
from trioshard.testing import After, LocalGateway, Scenario, Silence, Sleep, StopAcks, open_local_gateway

# --- cancelling a send, step by step ---


class Bench:
    """A sender between a queue and a scripted transport."""

    def __init__(self, capacity: int = 10) -> None:
        self.machine: Machine = ready_machine()
        self.transport = ScriptedTransport(self.machine)
        self.wire = Wire(self.transport, self.machine, write_timeout=10.0)
        self.limits = BotLimits()
        self.queue = CommandQueue(capacity, self.limits)
        self.budget = SendBudget(41.25)
        self.sender = Sender(
            wire=self.wire,
            machine=self.machine,
            queue=self.queue,
            budget=self.budget,
            limits=self.limits,
            epoch=1,
        )

    @property
    def counts(self) -> tuple[int, int, int, int]:
        counts = self.queue.statistics()
        assert counts.accepted == (
            counts.written + counts.superseded + counts.withdrawn + counts.failed + counts.pending
        )
        return counts.written, counts.withdrawn, counts.pending, counts.retried


VOICE = UpdateVoiceState(guild_id=1)


async def test_a_send_cancelled_during_its_write_is_written_whole_and_has_its_receipt(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.transport.stall()
    receipts: list[Receipt] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery, trio.open_nursery() as tasks:
            with trio.CancelScope(shield=True):
                tasks.start_soon(_run_shielded, bench.sender.run)

            async def caller() -> None:
                with trio.CancelScope() as mine:
                    nursery.start_soon(_cancel_later, mine, bench)
                    receipts.append(await bench.queue.send(VOICE))
                assert not mine.cancelled_caught, "it was written: there was nothing to cancel"
                tasks.cancel_scope.cancel()

            nursery.start_soon(caller)
    assert not scope.cancelled_caught
    assert len(receipts) == 1
    assert len(bench.transport.written) == 1
    assert bench.transport.cut == 0
    assert bench.counts == (1, 0, 0, 0)


async def _run_shielded(function: Any) -> None:
    await function()


async def _cancel_later(scope: trio.CancelScope, bench: Bench) -> None:
    await wait_all_tasks_blocked()
    assert bench.transport.begun == 1
    scope.cancel()
    await wait_all_tasks_blocked()
    assert bench.counts[2] == 1, "held back until the write is over"
    bench.transport.proceed()


async def test_a_send_cancelled_during_a_write_that_breaks_is_withdrawn(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.transport.stall()

    async def run() -> None:
        with pytest.raises(ConnectionLost):
            await bench.sender.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.CancelScope() as scope:
            nursery.start_soon(_break_later, scope, bench)
            await bench.queue.send(VOICE)
        assert scope.cancelled_caught
    assert bench.transport.written == []
    assert bench.counts == (0, 1, 0, 0)


async def _break_later(scope: trio.CancelScope, bench: Bench) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()
    bench.transport.broken = True
    bench.transport.proceed()


async def test_a_command_whose_write_breaks_stays_and_its_permit_is_given_back(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.transport.broken = True
    before = bench.budget.left(trio.current_time())
    bench.queue.send_nowait(UpdatePresence())
    with pytest.raises(ConnectionLost):
        await bench.sender.run()
    assert bench.counts == (0, 0, 1, 1)
    assert bench.budget.left(trio.current_time()) == before
    assert bench.limits.wait("presence", trio.current_time()) == 0.0


async def test_a_command_withdrawn_while_the_sender_stands_in_line_is_not_written(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.transport.stall()
    async with trio.open_nursery() as nursery:
        from trioshard import Opcode

        nursery.start_soon(bench.wire.write, Opcode.HEARTBEAT, lambda: b'{"op":1,"d":1}')
        await wait_all_tasks_blocked()
        nursery.start_soon(bench.sender.run)
        with trio.CancelScope() as scope:
            nursery.start_soon(_withdraw_in_line, scope, bench)
            await bench.queue.send(VOICE)
        assert scope.cancelled_caught
        bench.queue.send_nowait(UpdateVoiceState(guild_id=2))
        bench.transport.proceed()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [opcode.name for opcode, _ in bench.transport.written] == ["HEARTBEAT", "VOICE_STATE_UPDATE"]
    assert bench.counts == (1, 1, 0, 0)


async def _withdraw_in_line(scope: trio.CancelScope, bench: Bench) -> None:
    await wait_all_tasks_blocked()
    assert bench.transport.begun == 1, "only the heartbeat has begun"
    scope.cancel()


async def test_one_callers_limit_does_not_hold_others_up_but_keeps_his_order(autojump_clock: MockClock) -> None:
    bench = Bench()
    order: list[str] = []
    members = trioshard.RequestMembers(guild_id=1, query="")

    async def first() -> None:
        bench.queue.send_nowait(members)
        bench.queue.send_nowait(members)
        await bench.queue.send(VOICE)
        order.append("first")

    async def second() -> None:
        await trio.sleep(1)
        await bench.queue.send(VOICE)
        order.append("second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.sender.run)
        nursery.start_soon(first)
        nursery.start_soon(second)
        await trio.sleep(40)
        nursery.cancel_scope.cancel()
    assert order == ["second", "first"]


async def test_a_newest_presence_waits_for_what_its_own_caller_sent_before(autojump_clock: MockClock) -> None:
    bench = Bench()

    async def older() -> None:
        assert (await bench.queue.send(UpdatePresence(status="idle"))).superseded

    async with trio.open_nursery() as nursery:
        nursery.start_soon(older)
        await wait_all_tasks_blocked()
        bench.queue.send_nowait(VOICE)
        bench.queue.send_nowait(UpdatePresence(status="dnd"))
        nursery.start_soon(bench.sender.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [opcode.name for opcode, _ in bench.transport.written] == ["VOICE_STATE_UPDATE", "PRESENCE_UPDATE"]
    assert bench.queue.last_presence == UpdatePresence(status="dnd")


# --- heartbeats, and time that jumps ---


class Clocks:
    """A wall clock that goes with Trio's, until the test makes it jump."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return 1_000_000.0 + trio.current_time() + self.ahead


def config(gateway: LocalGateway, **options: Any) -> ShardConfig:
    return ShardConfig(
        token=Token("secret"), intents=INTENTS, url=gateway.url, dial=gateway.dial, backoff=QUICK, **options
    )


async def test_after_a_sleep_of_the_machine_the_shard_resumes_at_once(autojump_clock: MockClock) -> None:
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway:
        async with run_shard(Shard(config(gateway, wall_clock=clocks))) as shard:
            await shard.wait_ready()
            await trio.sleep(5)
            clocks.ahead += 3600
            await trio.sleep(CLOCK_CHECK)
            await shard.wait_ready()
            assert (gateway.report.resumes, gateway.report.identifies) == (1, 1)
            assert "3600 s passed unnoticed" in shard.statistics().last_ending


async def test_a_small_step_of_the_wall_clock_means_nothing(autojump_clock: MockClock) -> None:
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway:
        async with run_shard(Shard(config(gateway, wall_clock=clocks))) as shard:
            await shard.wait_ready()
            for step in (30.0, -7200.0, 20.0):
                clocks.ahead += step
                await trio.sleep(60)
            assert gateway.report.connections == 1


async def test_a_process_that_was_frozen_resumes_at_once(mock_clock: MockClock) -> None:
    async with open_local_gateway(port=None, heartbeat_grace=10_000) as gateway:
        async with run_shard(Shard(config(gateway))) as shard:
            await shard.wait_ready()
            await wait_all_tasks_blocked()
            mock_clock.jump(500)
            mock_clock.autojump_threshold = 0
            await gateway.wait_resumed()
            assert "passed unnoticed" in shard.statistics().last_ending


async def test_a_zombie_is_left_with_a_resume_and_without_waiting_for_it(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), StopAcks(), Silence()]) as (gateway, shard):
        await gateway.wait_resumed()
        assert trio.current_time() < 41.25 * 3
        assert "stopped answering" in shard.statistics().last_ending
        assert gateway.report.identifies == 1


async def test_missing_acks_with_data_flowing_are_a_verdict_only_after_three_intervals(
    autojump_clock: MockClock,
) -> None:
    async with open_world([After("ready"), StopAcks()]) as (gateway, shard):
        with trio.move_on_after(400):
            async with trio.open_nursery() as nursery:

                async def chatter() -> None:
                    while True:
                        gateway.send_message("still here")
                        await trio.sleep(5)

                async def listen() -> None:
                    async for _ in shard.subscribe():
                        pass

                nursery.start_soon(chatter)
                nursery.start_soon(listen)
                await gateway.wait_resumed()
                assert 41.25 * 3 <= trio.current_time() <= 41.25 * 5
                nursery.cancel_scope.cancel()
        assert gateway.report.resumes == 1


# --- configuration ---


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"token": ""}, "empty"),
        ({"token": "Bot abc"}, "bare"),
        ({"token": "a b"}, "characters"),
        ({"token": None}, "empty"),
        ({"intents": 1 << 30}, "does not know"),
        ({"intents": "GUILDS"}, "Intents"),
        ({"intents": -1}, "does not know"),
        ({"shard": (1, 1)}, "shard_id"),
        ({"shard": [0, 1]}, "shard_id"),
        ({"url": "https://discord.com"}, "looks like"),
        ({"url": "wss://host:port"}, "ort"),
        ({"compress": "gzip"}, "compress is one of"),
        ({"transport": "carrier pigeon"}, "transport is one of"),
        ({"write_timeout": 0}, "write_timeout"),
        ({"queue_capacity": 0}, "queue_capacity"),
        ({"max_message_size": 0}, "max_message_size"),
        ({"large_threshold": 10}, "large_threshold"),
        ({"presence": "online"}, "UpdatePresence"),
        ({"session": "abc"}, "Session"),
        ({"session": Session(id="s", sequence=1, resume_url="ws://x", shard=(0, 2))}, "belongs to shard"),
        ({"session": Session(id="s", sequence=1, resume_url="nowhere")}, "looks like"),
    ],
)
async def test_an_argument_that_makes_no_sense_is_named_at_once(options: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"token": "secret", "intents": Intents.GUILDS} | options
    with pytest.raises(ValueError, match=match) as caught:
        async with trioshard.open_shard(arguments.pop("token"), **arguments):
            pass
    assert "secret" not in str(caught.value)


async def test_zstd_without_a_binding_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "backports", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(errors.MissingDependency, match=r"trioshard\[zstd\]"):
        async with trioshard.open_shard("secret", intents=0, compress="zstd-stream"):
            pass


def test_a_token_shows_itself_to_nobody() -> None:
    assert "secret" not in f"{Token('secret')!r} {Token('secret')}"


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream", "payload", None])
async def test_every_compression_connects_resumes_and_keeps_its_kind(compress: Any, autojump_clock: MockClock) -> None:
    async with open_world(compress=compress, large_threshold=100) as (gateway, shard):
        await shard.wait_ready()
        gateway.connections[0].drop()
        await gateway.wait_resumed()
        gateway.send_message("x" * 2000)
        async for event in shard.subscribe("MESSAGE_CREATE"):
            assert event.json()["content"] == "x" * 2000
            break
        assert shard.session is not None
        assert shard.session.compress == (compress if compress != "payload" else None)


# --- HTTP ---


async def test_without_a_url_the_gateway_is_asked_for() -> None:
    async with open_local_gateway(token="secret") as gateway:
        with trio.fail_after(20):
            async with trioshard.open_shard("secret", intents=INTENTS, api_url=gateway.api_url) as shard:
                await shard.wait_ready()
        assert gateway.report.http_requests["GET /gateway/bot"] == 1


async def test_a_wrong_token_costs_no_identify() -> None:
    async with open_local_gateway(token="right") as gateway:
        with trio.fail_after(20), pytest.raises(errors.AuthenticationFailed, match="HTTP 401"):
            async with trioshard.open_shard("wrong", intents=INTENTS, api_url=gateway.api_url):
                await trio.sleep_forever()
        assert gateway.report.identifies == 0


async def test_an_api_that_nobody_answers() -> None:
    with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable, match="cannot be reached"):
        async with trioshard.open_shard(
            "secret", intents=INTENTS, api_url="http://127.0.0.1:1", backoff=Backoff(base=0.01, cap=0.01)
        ):
            await trio.sleep_forever()


async def test_an_api_that_is_something_else() -> None:
    async with open_local_gateway() as gateway:
        with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable, match="HTTP 404"):
            async with trioshard.open_shard("secret", intents=INTENTS, api_url=gateway.api_url + "/elsewhere/x"):
                await trio.sleep_forever()


async def test_used_up_session_starts_stop_the_shard_before_it_identifies() -> None:
    async with open_local_gateway(session_starts=0) as gateway:
        with trio.fail_after(20), pytest.raises(errors.SessionStartsExhausted, match="reset the token") as caught:
            async with trioshard.open_shard("secret", intents=INTENTS, api_url=gateway.api_url):
                await trio.sleep_forever()
        assert caught.value.reset_after > 0
        assert gateway.report.identifies == 0


async def test_an_api_that_answers_nonsense() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(20), pytest.raises(errors.GatewayUnreachable, match="something else"):
            async with trioshard.open_shard(
                "secret", intents=INTENTS, api_url=f"http://127.0.0.1:{port}", backoff=Backoff(base=0.01, cap=0.01)
            ):
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()


async def test_rate_limited_postpones_the_guilds_next_full_list(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        gateway.publish("RATE_LIMITED", {"opcode": 8, "retry_after": 100.0, "meta": {"guild_id": "1"}})
        gateway.publish("RATE_LIMITED", {"opcode": 99, "retry_after": 100.0, "meta": {}})
        gateway.publish("RATE_LIMITED", ["nonsense"])
        await trio.sleep(1)
        begun = trio.current_time()
        await shard.request_members(1)
        assert trio.current_time() - begun >= 98.0


async def test_a_history_depends_on_its_seed_alone(autojump_clock: MockClock, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)
    beats: list[float] = []
    for _ in range(2):
        async with open_local_gateway(port=None, scenario=Scenario()) as gateway:
            async with run_shard(Shard(config(gateway, random=Random(5)))) as shard:
                begun = trio.current_time()
                await shard.wait_ready()
                while not gateway.report.heartbeats:
                    await trio.sleep(0.5)
                beats.append(trio.current_time() - begun)
    assert beats[0] == beats[1]


def test_the_default_ssl_context_verifies() -> None:
    from trioshard._streams import default_ssl_context

    context = default_ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_a_window_of_a_limit_begins_when_the_slow_write_of_a_command_is_over(autojump_clock: MockClock) -> None:
    bench = Bench()
    written: list[float] = []

    async def slow_send(document: bytes) -> None:
        await trio.sleep(4.0)
        written.append(trio.current_time())

    bench.transport.send = slow_send  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.sender.run)
        for _ in range(6):
            await bench.queue.send(UpdatePresence())
        nursery.cancel_scope.cancel()
    assert written[5] - 4.0 - written[0] >= 20.0, "the sixth begins 20 s after the first has left"
