"""The shard against the built-in gateway: sessions, recovery, and the promise to whoever sends."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trioshard
from tests.runtime.world import HOUR, INTENTS, open_world
from trioshard import Activity, Backoff, Phase, UpdatePresence, UpdateVoiceState, errors, events
from trioshard.testing import (
    After,
    Close,
    CloseOnIdentify,
    CloseOnResume,
    DelayHello,
    DelayReady,
    DelayResumed,
    Drop,
    DropDuringReplay,
    InvalidateSession,
    NoHello,
    NoReady,
    Publish,
    Reconnect,
    ReconnectInsteadOfHello,
    RefuseIdentify,
    RefuseResume,
    RequestHeartbeat,
    Reset,
    SendText,
    Silence,
    Sleep,
    SlowReplay,
    StopAcks,
    open_local_gateway,
)

pytestmark = pytest.mark.usefixtures("each_transport")

PRESENCE = UpdatePresence(activities=[Activity.watching("the reconnects")])  # type: ignore[arg-type]  # a list is fine


# --- the session ---


async def test_a_shard_becomes_ready_and_leaves_with_1000(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        assert shard.phase is Phase.READY
        assert shard.session is not None
        assert shard.session.shard == (0, 1)
    assert gateway.report.closes_received == {1000: 1}
    assert shard.phase is Phase.CLOSED


async def test_keep_session_leaves_with_a_code_that_keeps_it_and_another_shard_resumes(
    autojump_clock: MockClock,
) -> None:
    async with open_local_gateway(port=None) as gateway:
        options: dict[str, Any] = {"intents": INTENTS, "url": gateway.url, "dial": gateway.dial}
        async with trioshard.open_shard("secret", keep_session=True, **options) as first:
            with first.subscribe("GUILD_CREATE") as subscription:
                assert (await anext(subscription)).name == "GUILD_CREATE"
        assert gateway.report.closes_received == {4900: 1}
        gateway.send_message("while nobody was there")
        async with trioshard.open_shard("secret", session=first.session, **options) as second:
            seen = [event.name async for event in _until(second.subscribe(), "RESUMED")]
        assert seen == ["MESSAGE_CREATE", "RESUMED"]
        assert (gateway.report.identifies, gateway.report.resumes) == (1, 1)
        assert gateway.report.resumes_on_wrong_url == 0


async def test_a_kept_session_can_be_resumed_although_nobody_subscribed(autojump_clock: MockClock) -> None:
    async with open_local_gateway(port=None) as gateway:
        options: dict[str, Any] = {"intents": INTENTS, "url": gateway.url, "dial": gateway.dial}
        async with trioshard.open_shard("secret", keep_session=True, **options) as first:
            await first.wait_ready()
        async with trioshard.open_shard("secret", session=first.session, **options) as second:
            assert [event.name async for event in _until(second.subscribe(), "RESUMED")] == ["GUILD_CREATE", "RESUMED"]
        assert (gateway.report.identifies, gateway.report.resumes) == (1, 1)
        assert not gateway.report.violations


async def test_after_a_refused_session_from_elsewhere_the_identify_waits_out_the_window(
    autojump_clock: MockClock,
) -> None:
    stranger = trioshard.Session(id="unknown", sequence=5, resume_url="ws://gateway.memory/resume")
    async with open_world(session=stranger) as (gateway, shard):
        await shard.wait_ready()
        assert trio.current_time() >= 5.0
        assert gateway.report.resumes_refused == 1


async def _until(subscription: trioshard.Subscription[trioshard.Dispatch], name: str) -> Any:
    async for event in subscription:
        yield event
        if event.name == name:
            return


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([After("ready"), Sleep(1), Reconnect()], id="op 7"),
        pytest.param([After("ready"), Sleep(1), InvalidateSession(resumable=True)], id="op 9 true"),
        pytest.param([After("ready"), Sleep(1), Drop()], id="drop"),
        pytest.param([After("ready"), Sleep(1), Reset()], id="reset"),
        pytest.param([After("ready"), Sleep(1), StopAcks(), Silence()], id="silence"),
        *(
            pytest.param([After("ready"), Sleep(1), Close(code)], id=f"close {code}")
            for code in (1000, 1001, 1011, 4000, 4001, 4002, 4005, 4008, 4999)
        ),
    ],
)
@pytest.mark.parametrize("compress", ["zlib-stream", None])
async def test_what_can_be_resumed_is_resumed(
    autojump_clock: MockClock, trouble: list[Any], compress: str | None
) -> None:
    async with open_world(trouble, compress=compress) as (gateway, shard):
        await gateway.wait_resumed()
        await shard.wait_ready()
        assert gateway.report.identifies == 1
        assert gateway.report.resumes_on_wrong_url == 0
        assert 1000 not in gateway.report.closes_received


@pytest.mark.parametrize(
    "text", ["garbage", '{"op":0}{"op":0}', '{"op":null}', '{"op":10,"d":{"heartbeat_interval":-1}}']
)
async def test_an_undecodable_message_ends_the_connection_and_not_the_session(
    text: str, autojump_clock: MockClock
) -> None:
    async with open_world([After("ready"), Sleep(1), SendText(text)], compress=None) as (gateway, shard):
        await gateway.wait_resumed()
        await shard.wait_ready()
        assert gateway.report.identifies == 1


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([After("ready"), Sleep(1), InvalidateSession(resumable=False)], id="op 9 false"),
        *(
            pytest.param([After("ready"), Sleep(1), Close(code, end_session=True)], id=f"close {code}")
            for code in (4003, 4007, 4009)
        ),
    ],
)
async def test_what_is_gone_is_started_anew_after_a_wait(autojump_clock: MockClock, trouble: list[Any]) -> None:
    async with open_world(trouble) as (gateway, shard):
        await gateway.wait_ready(1)
        first = trio.current_time()
        await gateway.wait_ready(2)
        await shard.wait_ready()
        assert (gateway.report.identifies, gateway.report.resumes) == (2, 0)
        assert trio.current_time() - first >= 2.5, "identifies never come in a rush"


async def test_a_second_4001_on_the_same_session_costs_it(autojump_clock: MockClock) -> None:
    trouble = [After("resumed"), Sleep(1), Close(4001)]
    async with open_world([After("ready"), Sleep(1), Close(4001)], trouble) as (gateway, _):
        await gateway.wait_ready(2)
        assert (gateway.report.identifies, gateway.report.resumes) == (2, 1)


async def test_a_refused_resume_leads_to_a_new_session(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [RefuseResume(resumable=False)]) as (gateway, shard):
        await gateway.wait_ready(2)
        await shard.wait_ready()
        assert gateway.report.resumes_refused == 1


async def test_a_resume_that_is_refused_for_now_is_tried_again(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [RefuseResume(resumable=True)]) as (gateway, _):
        await gateway.wait_resumed()
        assert gateway.report.identifies == 1


async def test_a_refused_identify_is_repeated_after_the_window(autojump_clock: MockClock) -> None:
    async with open_world([RefuseIdentify()]) as (gateway, shard):
        await shard.wait_ready()
        times = [attempt.time for attempt in gateway.report.identify_attempts]
        assert len(times) == 2
        assert times[1] - times[0] >= 5.0


async def test_op_7_instead_of_hello(autojump_clock: MockClock) -> None:
    async with open_world([ReconnectInsteadOfHello()]) as (gateway, shard):
        await shard.wait_ready()
        assert gateway.report.connections == 2
        assert gateway.report.identifies == 1


async def test_op_7_during_the_replay_resumes_again(autojump_clock: MockClock) -> None:
    replay = [DelayResumed(5.0), After("resume"), Reconnect()]
    async with open_world([After("ready"), Sleep(1), Drop()], replay) as (gateway, shard):
        await gateway.wait_resumed()
        await shard.wait_ready()
        assert gateway.report.identifies == 1
        assert gateway.report.connections == 3


@pytest.mark.parametrize("slow", [DelayHello(19.0), DelayReady(300.0)], ids=["hello", "ready"])
async def test_patience(autojump_clock: MockClock, slow: Any) -> None:
    async with open_world([slow]) as (gateway, shard):
        await shard.wait_ready()
        assert gateway.report.connections == 1


async def test_no_hello(autojump_clock: MockClock) -> None:
    async with open_world([NoHello()]) as (gateway, shard):
        await shard.wait_ready()
        assert trio.current_time() >= 20.0
        assert gateway.report.connections == 2


async def test_no_ready_is_given_up_only_after_a_long_time_of_acknowledged_beats(autojump_clock: MockClock) -> None:
    async with open_world([NoReady()]) as (gateway, shard):
        await shard.wait_ready()
        assert 900 <= trio.current_time() < 1200
        assert gateway.report.identifies == 2


async def test_a_slow_replay_is_progress(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [DelayHello(5), SlowReplay(50.0)]) as (gateway, shard):
        await gateway.wait_ready()
        await trio.sleep(3)
        for _ in range(20):
            gateway.send_message("missed")
        await gateway.wait_resumed()
        await shard.wait_ready()
        assert trio.current_time() > 900
        assert gateway.report.connections == 2


async def test_a_silent_replay_is_given_up_and_resumed_again(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [DelayResumed(10_000.0), StopAcks(), Silence()]) as (
        gateway,
        _,
    ):
        await gateway.wait_resumed()
        assert gateway.report.identifies == 1
        assert gateway.report.connections == 3


async def test_a_replay_that_is_cut_goes_on_where_it_stopped(autojump_clock: MockClock) -> None:
    names: list[str] = []
    async with open_world([After("ready"), Sleep(1), Drop()], [DropDuringReplay(3)], [DropDuringReplay(4)]) as (
        gateway,
        shard,
    ):
        subscription = shard.subscribe()
        await gateway.wait_ready()
        for number in range(10):
            gateway.publish("NUMBERED", {"n": number})
        numbers: list[int] = []
        async for event in subscription:
            names.append(event.name)
            if event.name == "NUMBERED":
                numbers.append(event.json()["n"])
            if event.name == "RESUMED":
                break
        assert numbers == list(range(10))
        assert gateway.report.identifies == 1


# --- what a person has to deal with ---


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4004, errors.AuthenticationFailed),
        (4010, errors.InvalidShard),
        (4011, errors.ShardingRequired),
        (4012, errors.InvalidVersion),
        (4013, errors.InvalidIntents),
        (4014, errors.DisallowedIntents),
    ],
)
async def test_a_fatal_close_leaves_open_shard_bare(
    autojump_clock: MockClock, code: int, error: type[errors.ShardFailed]
) -> None:
    with pytest.raises(error) as caught:
        async with open_world([CloseOnIdentify(code)]):
            await trio.sleep_forever()
    assert caught.value.code == code
    assert str(code) in str(caught.value)
    assert "To do:" in str(caught.value)


async def test_a_wrong_token_is_not_shown_to_anybody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trioshard")
    async with open_local_gateway(port=None, token="right") as gateway:
        with pytest.raises(errors.AuthenticationFailed) as caught:
            async with trioshard.open_shard(
                "wrong-token", intents=INTENTS, url=gateway.url, dial=gateway.dial
            ) as shard:
                assert "wrong-token" not in repr(shard)
                await shard.send(PRESENCE)
    assert "wrong-token" not in str(caught.value)
    assert "wrong-token" not in caplog.text


async def test_disallowed_intents_while_live_come_as_4003_and_then_4014(autojump_clock: MockClock) -> None:
    with pytest.raises(errors.DisallowedIntents):
        async with open_world([After("ready"), Sleep(1), Close(4003, end_session=True)], [CloseOnIdentify(4014)]):
            await trio.sleep_forever()


async def test_4003_after_every_ready_slows_down(autojump_clock: MockClock) -> None:
    again = [After("ready"), Sleep(1), Close(4003, end_session=True)]
    async with open_world(then=again, backoff=Backoff(), within=2 * HOUR * 24) as (gateway, _):
        await trio.sleep(86_400)
        assert 20 < gateway.report.identifies < 400


async def test_a_connection_that_breaks_right_after_resumed_slows_down_and_keeps_the_session(
    autojump_clock: MockClock,
) -> None:
    async with open_world(
        [After("ready"), Sleep(1), Drop()],
        then=[After("resumed"), Sleep(0.5), Drop()],
        backoff=Backoff(),
        within=2 * HOUR,
    ) as (gateway, _):
        await trio.sleep(3600)
        assert gateway.report.identifies == 1
        assert 30 < gateway.report.connections < 300


# --- sending ---


async def test_a_command_before_ready_waits(autojump_clock: MockClock) -> None:
    async with open_world([DelayReady(30.0)]) as (gateway, shard):
        receipt = await shard.send(PRESENCE)
        assert trio.current_time() >= 30.0
        assert receipt.attempts == 1
        assert receipt.epoch == 1
        assert receipt.waited == pytest.approx(30.0, abs=0.5)
        await gateway.wait_command()


async def test_a_command_that_meets_a_reconnect_goes_out_after_resumed(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [DelayResumed(20.0)]) as (gateway, shard):
        await gateway.wait_ready()
        await trio.sleep(5)
        assert shard.phase is Phase.RESUMING
        receipt = await shard.send(PRESENCE)
        assert receipt.epoch == 2
        await gateway.wait_command()
        assert gateway.report.resumes == 1


async def test_whoever_awaits_readiness_wakes_on_resumed(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Drop()], [DelayResumed(20.0)]) as (gateway, shard):
        await gateway.wait_ready()
        await trio.sleep(5)
        assert shard.phase is not Phase.READY
        with trio.fail_after(30):
            await shard.wait_ready()


async def test_a_send_from_a_ready_listener_does_not_hang(autojump_clock: MockClock) -> None:
    async with open_world() as (_, shard):
        async for _ in shard.subscribe(events.Ready):
            assert shard.phase is Phase.READY
            with trio.fail_after(1):
                await shard.send(PRESENCE)
            break


async def test_a_subscriber_that_sends_during_a_long_replay_does_not_hang(autojump_clock: MockClock) -> None:
    """Its outbox is full of replayed events, the gate is closed until RESUMED, and it waits for the gate."""
    async with open_world([After("ready"), Sleep(1), Drop()], [DelayHello(5)]) as (gateway, shard):
        subscription = shard.subscribe("NUMBERED", "RESUMED", capacity=2)
        await gateway.wait_ready()
        await trio.sleep(2)
        for number in range(50):
            gateway.publish("NUMBERED", {"n": number})
        with trio.fail_after(60):
            count = 0
            async for event in subscription:
                await shard.send(UpdateVoiceState(guild_id=1))
                count += event.name == "NUMBERED"
                if event.name == "RESUMED":
                    break
        assert count == 50


async def test_commands_of_one_caller_arrive_in_order(autojump_clock: MockClock) -> None:
    async with open_world([After("command", 3), Reconnect()], [DelayResumed(5)]) as (gateway, shard):
        for number in range(1, 4):
            shard.send_nowait(UpdateVoiceState(guild_id=number))
        await gateway.wait_command(3)
        await trio.sleep(1)
        for number in range(4, 9):
            shard.send_nowait(UpdateVoiceState(guild_id=number))
        await gateway.wait_command(8)
        assert [int(arrival.data["guild_id"]) for arrival in gateway.report.commands] == list(range(1, 9))


async def test_a_cancelled_send_before_the_write_is_withdrawn(autojump_clock: MockClock) -> None:
    async with open_world([DelayReady(30.0)]) as (gateway, shard):
        with trio.move_on_after(5) as scope:
            await shard.send(PRESENCE)
        assert scope.cancelled_caught
        assert shard.statistics().commands.withdrawn == 1
        await shard.wait_ready()
        await trio.sleep(5)
        assert not gateway.report.commands


async def test_a_newer_presence_replaces_one_that_waits(autojump_clock: MockClock) -> None:
    async with open_world([DelayReady(30.0)]) as (gateway, shard):
        receipts: dict[str, trioshard.Receipt] = {}

        async def rotate(name: str) -> None:
            receipts[name] = await shard.update_presence(activities=[Activity.playing(name)])

        async with trio.open_nursery() as nursery:
            for name in ("old", "middle", "new"):
                nursery.start_soon(rotate, name)
                await trio.sleep(1)
        assert [receipts[name].superseded for name in ("old", "middle", "new")] == [True, True, False]
        assert receipts["old"].written == receipts["new"].written
        await gateway.wait_command()
        assert len(gateway.report.commands) == 1
        assert gateway.report.commands[0].data["activities"][0]["name"] == "new"


async def test_a_withdrawn_newer_presence_gives_the_older_its_place_back(autojump_clock: MockClock) -> None:
    async with open_world([DelayReady(30.0)]) as (gateway, shard), trio.open_nursery() as nursery:
        nursery.start_soon(shard.send, PRESENCE)
        await trio.sleep(1)
        with trio.move_on_after(5):
            await shard.update_presence(status="dnd")
        await gateway.wait_command()
        assert gateway.report.commands[0].data["status"] == "online"


async def test_the_limits_hold_and_nobody_waits_for_somebody_elses(autojump_clock: MockClock) -> None:
    async with open_world(gateway={"guilds": 3}) as (gateway, shard):
        await shard.wait_ready()
        begun = trio.current_time()
        guild = gateway.guilds[0].id

        async def presences() -> None:
            for number in range(12):
                await shard.update_presence(activities=[Activity.playing(str(number))])

        async def lists() -> None:
            for _ in range(3):
                await shard.request_members(guild)

        async def others() -> None:
            for _ in range(20):
                await shard.update_voice_state(guild, None)
            assert trio.current_time() - begun < 1.0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(presences)
            nursery.start_soon(lists)
            nursery.start_soon(others)
        assert trio.current_time() - begun >= 60.0
        assert gateway.report.member_lists_limited == 0


async def test_the_120_a_minute_hold_and_heartbeats_are_on_time(autojump_clock: MockClock) -> None:
    async with open_world(gateway={"heartbeat_interval": 10.0, "heartbeat_grace": 0.5}) as (gateway, shard):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(_send_many, shard, 100)
        assert len(gateway.report.commands) == 400
        assert trio.current_time() > 180


async def _send_many(shard: trioshard.Shard, count: int) -> None:
    for _ in range(count):
        await shard.update_voice_state(1, None)


async def test_a_full_queue_makes_send_wait_and_send_nowait_raise(autojump_clock: MockClock) -> None:
    async with open_world([DelayReady(30.0)], queue_capacity=2) as (gateway, shard):
        shard.send_nowait(UpdateVoiceState(guild_id=1))
        shard.send_nowait(UpdateVoiceState(guild_id=2))
        with pytest.raises(errors.QueueFull, match="not queued"):
            shard.send_nowait(UpdateVoiceState(guild_id=3))
        with trio.move_on_after(5) as scope:
            await shard.send(UpdateVoiceState(guild_id=4))
        assert scope.cancelled_caught
        await shard.send(UpdateVoiceState(guild_id=5))
        await gateway.wait_command(3)
        assert [int(arrival.data["guild_id"]) for arrival in gateway.report.commands] == [1, 2, 5]


async def test_a_refused_command_is_refused_at_the_caller(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        with pytest.raises(errors.InvalidCommand):
            await shard.request_members(1, query="x", user_ids=[1])
        with pytest.raises(errors.InvalidCommand, match="4096"):
            await shard.request_soundboard_sounds(range(10**18, 10**18 + 300))
        with pytest.raises(errors.InvalidCommand, match="only commands"):
            await shard.send("hello")  # type: ignore[arg-type]
        assert not gateway.report.commands
        assert shard.statistics().commands.accepted == 0


async def test_every_command_is_understood(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        guild = gateway.guilds[0].id
        await shard.update_presence(status="idle", since=1, afk=True)
        await shard.update_voice_state(guild, 5, self_mute=True)
        await shard.request_members(guild, query="a", limit=3, nonce="n", presences=True)
        await shard.request_members(guild, user_ids=[1, "2"])
        await shard.request_soundboard_sounds([guild])
        await shard.request_channel_info(guild)
        await shard.request_channel_info(guild, fields=["status"])
        await gateway.wait_command(7)
        assert [arrival.op for arrival in gateway.report.commands] == [3, 4, 8, 8, 31, 43, 43]


async def test_the_last_presence_is_what_a_new_session_begins_with(autojump_clock: MockClock) -> None:
    async with open_world(
        [After("command"), InvalidateSession(resumable=False)], presence=UpdatePresence(status="idle")
    ) as (gateway, shard):
        await shard.update_presence(status="dnd")
        await gateway.wait_ready(2)
        await shard.wait_ready()
        assert shard.statistics().identifies == 2


async def test_a_closed_shard_ends_every_send(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        async def late(shard: trioshard.Shard) -> None:
            with pytest.raises(errors.ShardClosed, match="has been left"):
                await shard.send(PRESENCE)
            with pytest.raises(errors.ShardClosed):
                await shard.wait_ready()
            with pytest.raises(errors.ShardClosed):
                shard.send_nowait(PRESENCE)

        async with open_world([NoHello()]) as (_, shard):
            nursery.start_soon(late, shard)
            await trio.sleep(1)
    assert shard.statistics().commands.failed == 1


# --- heartbeats ---


async def test_a_requested_beat_goes_out_at_once_and_leaves_the_timer_alone(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), RequestHeartbeat(3)]) as (gateway, shard):
        await shard.wait_ready()
        await trio.sleep(1.1)
        assert 1 <= gateway.report.heartbeats <= 4
        await trio.sleep(41.25 * 3)
        assert gateway.report.connections == 1
        assert shard.latency is not None


async def test_a_flood_of_requests_stays_within_the_limit(autojump_clock: MockClock) -> None:
    flood = [After("ready"), Sleep(1), *([RequestHeartbeat(), Sleep(0.05)] * 2000)]
    async with open_world(flood, gateway={"heartbeat_interval": 20.0}) as (gateway, shard):
        await shard.wait_ready()
        await trio.sleep(120)
        assert gateway.report.connections == 1
        assert 150 < gateway.report.heartbeats <= 240


async def test_statistics_tell_what_happened(autojump_clock: MockClock) -> None:
    async with open_world([After("ready"), Sleep(1), Reconnect()], [Publish("X", {})]) as (gateway, shard):
        await gateway.wait_resumed()
        await shard.wait_ready()
        await shard.send(PRESENCE)
        snapshot = shard.statistics()
        assert (snapshot.connections, snapshot.identifies, snapshot.resumes, snapshot.epoch) == (2, 1, 1, 2)
        assert snapshot.phase is Phase.READY
        assert snapshot.commands.accepted == snapshot.commands.written == 1
        assert "asked to reconnect" in snapshot.last_ending
        assert len(snapshot.recovery_times) == 1
        assert snapshot.budget_left is not None
        assert 100 < snapshot.budget_left < 120
        assert snapshot.sequence_received is not None
        assert repr(shard) == "<Shard 0 of 1: ready, epoch 2>"


async def test_close_on_resume_4007_and_4009_start_anew(autojump_clock: MockClock) -> None:
    for code in (4007, 4009):
        async with open_world([After("ready"), Sleep(1), Drop()], [CloseOnResume(code)]) as (gateway, _):
            await gateway.wait_ready(2)
            assert gateway.report.identifies == 2
