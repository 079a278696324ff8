"""Each step of a script, seen from the client's end."""

import json

import pytest
import trio

from trioshard.testing import (
    After,
    BigMessage,
    Close,
    CloseOnIdentify,
    CloseOnResume,
    CutAfter,
    DelayHello,
    DelayReady,
    DelayResumed,
    Drop,
    DropDuringReplay,
    Fragment,
    HelloInterval,
    InvalidateSession,
    NoHello,
    NoReady,
    Publish,
    Reconnect,
    ReconnectInsteadOfHello,
    RefuseIdentify,
    RefuseResume,
    RejectUpgrade,
    RequestHeartbeat,
    Reset,
    Scenario,
    SendBytes,
    SendPayload,
    SendRaw,
    SendText,
    Silence,
    Sleep,
    SlowReplay,
    Stall,
    StopAcks,
    TruncatedCompression,
    open_local_gateway,
)  # fmt: skip

from .raw_client import Rejected, connect


def opened(*scripts, **options):
    return open_local_gateway(port=None, scenario=Scenario(scripts), **options)


async def session_in(gateway, events=3):
    """A session whose connection is gone, with so many events that it missed; its id."""
    async with connect(gateway) as client:
        await client.start()
        await client.settle()
        await client.close(4900)
        await client.gone()
    for number in range(events):
        gateway.publish(f"E{number}", number)
    return client.session_id


async def can_resume(gateway, session_id):
    async with connect(gateway) as client:
        await client.hello()
        await client.resume(session_id, 1)
        return (await client.receive())["op"] == 0


async def test_scripts_belong_to_connections_in_order_of_arrival(autojump_clock):
    scenario = Scenario([[DelayHello(1)], []], then=lambda number, rng: [DelayHello(number)])
    async with open_local_gateway(port=None, scenario=scenario) as gateway:
        for delay in (1, 0, 2, 3):
            start = trio.current_time()
            async with connect(gateway) as client:
                await client.hello()
            assert trio.current_time() - start == delay


async def test_then_may_be_one_script_for_all(autojump_clock):
    async with open_local_gateway(port=None, scenario=Scenario(then=[NoHello()])) as gateway:
        for _ in range(2):
            async with connect(gateway) as client:
                assert await client.nothing_comes(1000)


async def test_steps_run_in_order(autojump_clock):
    async with (
        opened([After("ready"), Sleep(2), Publish("A", {"x": 1}, count=2), Sleep(1), Reconnect()]) as gateway,
        connect(gateway) as client,
    ):
        await client.start()
        await client.settle()
        assert (await client.receive())["d"] == {"x": 1}
        assert trio.current_time() == 2
        assert (await client.receive())["t"] == "A"
        assert (await client.receive())["op"] == 7
        assert trio.current_time() == 3


@pytest.mark.parametrize(
    ("moment", "count"),
    [("connect", 1), ("hello", 1), ("identify", 1), ("handshake", 1), ("ready", 1), ("session", 1), ("dispatch", 3),
     ("command", 2), ("heartbeat", 2)],
)  # fmt: skip
async def test_moments(moment, count, autojump_clock):
    async with opened([After(moment, count), SendText("now")]) as gateway, connect(gateway) as client:
        seen = []
        client._decode = lambda message: seen.append(message) or ([] if message == "now" else [json.loads(message)])
        if moment != "connect":
            await client.start()
            await client.settle()
            gateway.publish("A", 1)
            gateway.publish("B", 1)
            for _ in range(2):
                await client.send(31, {"guild_ids": []})
                await client.send(1, None)
        assert await client.nothing_comes(1) or seen
        while not await client.nothing_comes(1):
            pass
        assert seen.count("now") == 1


@pytest.mark.parametrize(("moment", "count"), [("resume", 1), ("handshake", 1), ("replay", 2), ("resumed", 1)])
async def test_moments_of_a_resume(moment, count, autojump_clock):
    async with opened([], [After(moment, count), Reconnect()]) as gateway:
        session_id = await session_in(gateway)
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 1)
            await client.expect(7)


async def test_reject_upgrade(autojump_clock):
    async with opened([RejectUpgrade(429)]) as gateway:
        with pytest.raises(Rejected) as caught:
            async with connect(gateway):
                pass
        assert caught.value.status == 429
        async with connect(gateway) as client:
            await client.start()


async def test_reconnect_instead_of_hello(autojump_clock):
    async with opened([ReconnectInsteadOfHello()]) as gateway, connect(gateway) as client:
        assert (await client.receive())["op"] == 7
        assert await client.gone() == 4000
        assert gateway.report.hellos == 0


@pytest.mark.parametrize("value", [45000, 0, -5, "soon", 1.5, [], True, None])
async def test_hello_interval(value, autojump_clock):
    async with opened([HelloInterval(value)]) as gateway, connect(gateway) as client:
        assert (await client.hello())["d"] == {"heartbeat_interval": value}
        await trio.sleep(1000)
        assert gateway.report.violations == ({"heartbeat_late": 1} if value == 45000 else {})


async def test_delay_ready_with_heartbeats_meanwhile(autojump_clock):
    async with opened([DelayReady(7)]) as gateway, connect(gateway) as client:
        await client.hello()
        await client.identify()
        await trio.sleep(3)
        await client.sync()
        assert trio.current_time() == 3
        await client.expect(0, "READY")
        assert trio.current_time() == 7
        assert not gateway.report.violations


async def test_no_ready(autojump_clock):
    async with opened([NoReady()]) as gateway:
        async with connect(gateway) as client:
            await client.hello()
            await client.identify()
            for _ in range(100):
                await client.sync()
                assert await client.nothing_comes(40)
        # Nobody knows the session, so that nobody could resume it.
        [statistics] = gateway.report.sessions.values()
        await trio.testing.wait_all_tasks_blocked()
        assert statistics.ended == "READY was never sent"


async def test_slow_replay_and_delayed_resumed(autojump_clock):
    async with opened([], [SlowReplay(2), DelayResumed(5)]) as gateway:
        session_id = await session_in(gateway)
        start = trio.current_time()
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            times = []
            while not times or times[-1][0] != "RESUMED":
                times.append(((await client.receive())["t"], trio.current_time() - start))
            assert times == [("E0", 2), ("E1", 4), ("E2", 6), ("RESUMED", 13)]


@pytest.mark.parametrize(("after", "seen"), [(0, []), (2, ["E0", "E1"]), (99, ["E0", "E1", "E2"])])
async def test_drop_during_replay(after, seen, autojump_clock):
    async with opened([], [DropDuringReplay(after)]) as gateway:
        session_id = await session_in(gateway)
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            for name in seen:
                assert (await client.receive())["t"] == name
            assert await client.gone() is None
        assert gateway.report.resumes == 0
        assert await can_resume(gateway, session_id)


@pytest.mark.parametrize("resumable", [True, False])
async def test_refuse_identify(resumable, autojump_clock):
    async with opened([RefuseIdentify(resumable)]) as gateway, connect(gateway) as client:
        await client.hello()
        await client.identify()
        assert (await client.receive())["d"] is resumable
        assert gateway.report.identifies == 1
        assert not gateway.report.violations


@pytest.mark.parametrize("resumable", [True, False])
async def test_refuse_resume(resumable, autojump_clock):
    async with opened([], [RefuseResume(resumable)]) as gateway:
        session_id = await session_in(gateway)
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            assert (await client.receive())["d"] is resumable
        assert gateway.report.resumes_refused == 1
        assert await can_resume(gateway, session_id) is resumable


async def test_close_on_identify(autojump_clock):
    async with opened([CloseOnIdentify(4014)]) as gateway, connect(gateway) as client:
        await client.hello()
        await client.identify()
        assert await client.gone() == 4014
        assert not gateway.report.violations


@pytest.mark.parametrize(("code", "lives"), [(4000, True), (4009, False)])
async def test_close_on_resume(code, lives, autojump_clock):
    async with opened([], [CloseOnResume(code)]) as gateway:
        session_id = await session_in(gateway)
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            assert await client.gone() == code
        assert await can_resume(gateway, session_id) is lives


@pytest.mark.parametrize(
    ("step", "code", "lives"),
    [(Close(4000), 4000, True), (Close(4000, end_session=True), 4000, False), (Close(4009), 4009, False),
     (Close(4009, end_session=False), 4009, True), (Close(1001, "bye"), 1001, True), (Drop(), None, True),
     (Reset(), "reset", True)],
)  # fmt: skip
async def test_ends(step, code, lives, autojump_clock):
    async with opened([After("dispatch"), step]) as gateway:
        async with connect(gateway) as client:
            await client.hello()
            await client.identify()
            assert await client.gone() == code
        session_id = next(iter(gateway.report.sessions))
        assert await can_resume(gateway, session_id) is lives


@pytest.mark.parametrize("resumable", [True, False])
async def test_invalidate_session(resumable, autojump_clock):
    async with opened([After("ready"), Sleep(1), InvalidateSession(resumable)]) as gateway:
        async with connect(gateway) as client:
            await client.start()
            assert (await client.expect(9))["d"] is resumable
            gateway.publish("MISSED", 1)
            await client.close(4900)
        assert await can_resume(gateway, client.session_id) is resumable


async def test_stop_acks(autojump_clock):
    async with opened([After("ready"), StopAcks(), Sleep(1), Publish("A")]) as gateway, connect(gateway) as client:
        await client.start()
        await client.settle()
        await client.send(1, None)
        assert (await client.receive())["t"] == "A"
        assert await client.nothing_comes(30)
        assert (gateway.report.heartbeats, gateway.report.acks) == (1, 0)


async def test_silence(autojump_clock):
    async with opened([After("dispatch"), Sleep(1), Silence()]) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            await trio.sleep(2)
            gateway.publish("A", 1)
            await client.send(1, None)
            await client.send(31, {"guild_ids": []})
            assert await client.nothing_comes(30)
            assert (gateway.report.heartbeats, gateway.report.commands_by_op) == (1, {31: 1})
            await client.close(4900)
            assert await client.gone() is None
        assert await can_resume(gateway, client.session_id)


async def test_stall(autojump_clock):
    async with (
        opened([After("dispatch"), Sleep(1), Stall(60), Publish("AFTER")]) as gateway,
        connect(gateway) as client,
    ):
        await client.start()
        await client.settle()
        await trio.sleep(2)
        gateway.publish("A", 1)
        with trio.move_on_after(5) as scope:
            # Much more than fits into the buffers of the stream.
            await client.stream.send_all(client.ws.send(_text("x" * 100_000)))
        assert scope.cancelled_caught
        assert await client.nothing_comes(53.9)
        assert (await client.receive())["t"] in ("A", "AFTER")
        assert trio.current_time() == pytest.approx(61)


def _text(text):
    from wsproto.events import TextMessage

    return TextMessage(text)


async def test_request_heartbeat(autojump_clock):
    async with opened([After("ready"), RequestHeartbeat(2)]) as gateway, connect(gateway) as client:
        await client.start()
        for _ in range(2):
            assert (await client.expect(1))["d"] is None


async def test_garbage(autojump_clock):
    steps = [After("hello"), SendText("{nonsense"), SendBytes(b"\x00\x01"), SendRaw(b"\x83\x00")]
    async with opened(steps) as gateway, connect(gateway) as client:
        seen = []
        client._decode = lambda message: seen.append(message) or []
        # A reserved opcode, which no WebSocket library takes.
        assert await client.gone() == 1002
        assert seen[1:] == ["{nonsense", b"\x00\x01"]
        assert gateway.report.connections == 1


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_a_payload_of_any_kind_goes_through_the_compression(compress, autojump_clock):
    odd = {"op": 99, "d": [1, {"x": None}]}
    async with opened([After("ready"), SendPayload(odd)]) as gateway:
        target = "/?v=10&encoding=json" + (f"&compress={compress}" if compress else "")
        async with connect(gateway, target=target, compress=compress) as client:
            await client.start()
            assert await client.expect(99) == odd
            await client.sync()


async def test_an_excuse_covers_what_comes_late(autojump_clock):
    async with opened(heartbeat_interval=10.0, heartbeat_grace=1.0) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].excuse(50.0)
        await trio.sleep(60.0)
        await client.sync()
        assert not gateway.report.violations
        await trio.sleep(11.5)
        assert gateway.report.violations == {"heartbeat_late": 1}


async def test_a_heartbeat_read_as_a_stall_begins_ends_no_excuse(autojump_clock):
    async with opened(heartbeat_interval=10.0, heartbeat_grace=1.0) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].excuse(50.0)
        await client.sync()
        await trio.sleep(60.5)
        assert not gateway.report.violations
        await trio.sleep(1.0)
        assert gateway.report.violations == {"heartbeat_late": 1}


async def test_an_identify_read_late_makes_no_other_one_early(autojump_clock):
    async with opened([After("hello"), Stall(60)]) as gateway:
        async with connect(gateway) as stalled:
            await stalled.hello()
            await stalled.identify()
            await trio.sleep(57)
            async with connect(gateway) as client:
                await client.start()
                assert await stalled.expect(0, "READY")
        assert gateway.report.identifies == 2
        assert not gateway.report.violations


async def test_the_numbers_that_resumed_took_are_on_record(autojump_clock):
    async with opened([], [DropDuringReplay(1)]) as gateway:
        session_id = await session_in(gateway, events=2)
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            assert await client.gone() is None, "dropped after one event"
        async with connect(gateway) as client:
            await client.hello()
            await client.resume(session_id, 2)
            assert (await client.expect(0, "RESUMED"))["s"] == 6
        assert gateway.report.sessions[session_id].resumed_at == [5, 6], "the first one was never sent"


@pytest.mark.parametrize("reset", [True, False])
async def test_cut_after(reset, autojump_clock):
    async with opened([After("ready"), Sleep(1), CutAfter(700, reset=reset)]) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            await trio.sleep(2)
            received = []
            client.ws.receive_data = received.append
            gateway.send_message("cut")
            assert await client.gone() == ("reset" if reset else None)
            assert reset or sum(map(len, received)) == 700
        assert await can_resume(gateway, client.session_id)


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_truncated_compression(compress, autojump_clock):
    async with (
        opened([After("dispatch"), Sleep(1), TruncatedCompression()]) as gateway,
        connect(gateway, compress=compress) as client,
    ):
        await client.start()
        await client.settle()
        await trio.sleep(2)
        gateway.send_message("one")
        gateway.send_message("two")
        with pytest.raises(Exception, match=r".") as caught:
            await client.receive()
            await client.receive()
        assert type(caught.value).__name__ in ("JSONDecodeError", "error", "ZstdError")


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_fragments(compress, autojump_clock):
    async with opened([Fragment(5)]) as gateway, connect(gateway, compress=compress) as client:
        await client.start()
        await client.settle()
        assert len(client.messages) == 3
        assert client.frames == 15


async def test_fragments_as_messages_of_their_own(autojump_clock):
    async with opened([Fragment(5, messages=True)]) as gateway, connect(gateway, compress="zlib-stream") as client:
        await client.start()
        await client.settle()
        assert len(client.messages) == 15


async def test_big_message(autojump_clock):
    async with opened([After("ready"), BigMessage(3_000_000)]) as gateway, connect(gateway) as client:
        await client.start()
        message = await client.expect(0, "MESSAGE_CREATE")
        assert len(message["d"]["content"]) == 3_000_000
        assert gateway.report.dispatches_sent == 3


async def test_a_script_ends_quietly_with_its_connection(autojump_clock):
    late = [Sleep(10), Publish("A"), Reconnect(), InvalidateSession(), SendText("x"), Drop(), Reset(), Stall(1)]
    async with opened([After("ready"), Close(4000), *late], [After("ready"), Drop(), *late]) as gateway:
        for _ in range(2):
            async with connect(gateway) as client:
                await client.hello()
                await client.identify()
                await client.gone()
            await trio.sleep(20)
        assert gateway.connections == []


async def test_powers_on_a_closed_connection(autojump_clock):
    async with opened() as gateway:
        async with connect(gateway) as client:
            await client.start()
            connection = gateway.connections[0]
            assert "ready" in repr(connection)
            assert connection.shard == (0, 1)
        await trio.testing.wait_all_tasks_blocked()
        for power in (connection.reconnect, connection.invalidate, connection.close, connection.drop,
                      connection.reset, connection.request_heartbeat):  # fmt: skip
            with pytest.raises(trio.ClosedResourceError):
                power()
        assert connection.shard is None


async def test_a_gateway_can_be_left_in_the_middle_of_everything(autojump_clock):
    async with opened([Stall(100)], [DelayHello(100)], [After("ready"), Drop()]) as gateway:
        streams = [await gateway.dial() for _ in range(5)]
        await streams[0].send_all(b"GET / HT")
        async with connect(gateway) as client, connect(gateway), connect(gateway):
            assert client
            await gateway.wait_connected(3)
