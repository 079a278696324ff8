"""Each rule, broken once."""

import pytest
import trio

from trioshard.testing import Phase, open_local_gateway

from .raw_client import PROPERTIES, TOKEN, Rejected, connect

PRESENCE = {"since": None, "activities": [], "status": "online", "afk": False}
VOICE = {"guild_id": "1", "channel_id": None, "self_mute": False, "self_deaf": False}
COMMANDS = {
    3: PRESENCE,
    4: VOICE,
    8: {"guild_id": "1", "query": "", "limit": 0},
    31: {"guild_ids": ["1"]},
    43: {"guild_id": "1", "fields": ["status"]},
}


async def broken(client, gateway, kind, code):
    """The connection is closed with `code`, for one violation of this kind."""
    assert await client.gone() == code
    assert gateway.report.violations == {kind: 1}
    assert gateway.report.closes_sent == {code: 1}
    [violation] = gateway.report.violation_list
    assert violation.kind == kind
    assert violation.detail


@pytest.mark.parametrize("op", COMMANDS)
async def test_commands_before_identify(op, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.hello()
        await client.send(op, COMMANDS[op])
        await broken(client, gateway, "not_authenticated", 4003)
        assert not gateway.report.commands


@pytest.mark.parametrize("op", COMMANDS)
async def test_commands_while_identifying(op, autojump_clock):
    from trioshard.testing import NoReady, Scenario

    async with (
        open_local_gateway(port=None, scenario=Scenario([[NoReady()]])) as gateway,
        connect(gateway) as client,
    ):
        await client.hello()
        await client.identify()
        await client.send(op, COMMANDS[op])
        await broken(client, gateway, "not_authenticated", 4003)


@pytest.mark.parametrize("op", COMMANDS)
async def test_commands_while_resuming(op, autojump_clock):
    from trioshard.testing import DelayResumed, Scenario

    async with open_local_gateway(port=None, scenario=Scenario([[], [DelayResumed(5)]])) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            await client.close(4900)
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            await back.expect(0, "GUILD_CREATE")
            assert gateway.connections[-1].phase is Phase.RESUMING
            await back.send(op, COMMANDS[op])
            assert await back.gone() == 4003
            assert gateway.report.violations == {"not_authenticated": 1}


@pytest.mark.parametrize("op", COMMANDS)
async def test_commands_when_ready(op, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send(op, COMMANDS[op])
        await client.sync()
        assert gateway.report.commands_by_op == {op: 1}
        [arrival] = gateway.report.commands
        assert (arrival.session_id, arrival.data) == (client.session_id, COMMANDS[op])
        assert not gateway.report.violations


@pytest.mark.parametrize("op", [1, 2, 6])
async def test_anything_before_hello(op, autojump_clock):
    from trioshard.testing import DelayHello, Scenario

    async with (
        open_local_gateway(port=None, scenario=Scenario([[DelayHello(5)]])) as gateway,
        connect(gateway) as client,
    ):
        await client.send(op, None)
        await broken(client, gateway, "not_authenticated", 4003)


@pytest.mark.parametrize("phase", ["identifying", "ready"])
@pytest.mark.parametrize("again", ["identify", "resume"])
async def test_second_handshake(phase, again, autojump_clock):
    from trioshard.testing import NoReady, Scenario

    script = [NoReady()] if phase == "identifying" else []
    async with open_local_gateway(port=None, scenario=Scenario([script])) as gateway, connect(gateway) as client:
        await client.hello()
        await client.identify()
        if phase == "ready":
            await client.expect(0, "READY")
        if again == "identify":
            await client.identify()
        else:
            await client.resume("x", 1)
        await broken(client, gateway, "already_authenticated", 4005)


@pytest.mark.parametrize("op", [0, 5, 7, 9, 10, 11, 12, 40, 999, -1])
async def test_unknown_opcodes(op, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send(op, {})
        await broken(client, gateway, "unknown_opcode", 4001)


WRONG = [
    (1, "7"), (1, {}), (1, 1.5), (1, True), (1, -1),
    (3, None), (3, {}), (3, {**PRESENCE, "afk": 0}), (3, {**PRESENCE, "activities": None}),
    (3, {**PRESENCE, "since": "now"}), (3, {**PRESENCE, "activities": [{"type": 0}]}),
    (3, {**PRESENCE, "activities": [{"name": "x", "type": 6}]}),
    (4, {"guild_id": "1", "channel_id": None, "self_mute": False}), (4, {**VOICE, "guild_id": "x"}),
    (4, {**VOICE, "channel_id": True}),
    (8, {"guild_id": "1"}), (8, {"guild_id": "1", "query": ""}), (8, {"guild_id": ["1"], "query": "", "limit": 0}),
    (8, {"guild_id": "1", "query": "", "limit": -1}), (8, {"query": "", "limit": 0}),
    (8, {"guild_id": "1", "user_ids": "me"}),
    (31, {"guild_ids": "1"}), (31, {}), (43, {"guild_id": "1"}), (43, {"guild_id": "1", "fields": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "data"), WRONG)
async def test_wrong_shapes(op, data, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send(op, data)
        await broken(client, gateway, "invalid_data", 4001)
        assert not gateway.report.commands


RIGHT = [
    (1, None), (1, 0), (3, {**PRESENCE, "since": 0.0}), (3, {**PRESENCE, "since": 1_700_000_000_000}),
    (3, {**PRESENCE, "activities": [{"name": "x", "type": 4, "state": "y", "more": 1}]}),
    (4, {**VOICE, "guild_id": 1, "channel_id": 2}), (8, {"guild_id": 1, "user_ids": [1, "2"]}),
    (8, {"guild_id": "1", "user_ids": "2"}), (8, {"guild_id": "1", "query": "", "limit": 0, "nonce": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "data"), RIGHT)
async def test_right_shapes(op, data, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send(op, data)
        await client.sync()
        assert not gateway.report.violations


@pytest.mark.parametrize(
    ("change", "code", "kind"),
    [
        ({"token": ""}, 4004, "authentication_failed"),
        ({"token": "other"}, 4004, "authentication_failed"),
        ({"token": None}, 4001, "invalid_data"),
        ({"properties": {}}, 4001, "invalid_data"),
        ({"intents": None}, 4001, "invalid_data"),
        ({"intents": "1"}, 4001, "invalid_data"),
        ({"intents": 1 << 17}, 4013, "invalid_intents"),
        ({"intents": -1}, 4013, "invalid_intents"),
        ({"intents": 1 << 1}, 4014, "disallowed_intents"),
        ({"large_threshold": 49}, 4001, "invalid_data"),
        ({"large_threshold": 251}, 4001, "invalid_data"),
        ({"shard": [1]}, 4001, "invalid_data"),
        ({"shard": [1, 1]}, 4010, "invalid_shard"),
        ({"shard": [-1, 1]}, 4010, "invalid_shard"),
        ({"shard": [0, 0]}, 4010, "invalid_shard"),
    ],
)
async def test_faulty_identify(change, code, kind, autojump_clock):
    async with open_local_gateway(port=None, token=TOKEN, allowed_intents=1) as gateway, connect(gateway) as client:
        await client.hello()
        await client.send(2, {"token": TOKEN, "properties": PROPERTIES, "intents": 1, **change})
        await broken(client, gateway, kind, code)
        assert gateway.report.readies == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '{"d":1}', '{"op":"1"}', '{"op":true}', "{} {}"])
async def test_undecodable(text, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send_raw(text)
        await broken(client, gateway, "decode_error", 4002)


async def test_binary_messages_may_be_json(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.send_bytes(b'{"op":1,"d":null}')
        await client.expect(11)
        await client.send_bytes(b'{"op":1,"d":"\xff"}')
        await broken(client, gateway, "decode_error", 4002)


async def test_4096_bytes_are_the_limit(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        start, end = '{"op":1,"d":null,"x":"', '"}'
        room = 4096 - len(start) - len(end)
        await client.send_raw(start + "x" * room + end)
        await client.expect(11)
        # Half as many characters of two bytes, and one more.
        await client.send_raw(start + "é" * (room // 2) + "xx" + end)
        await broken(client, gateway, "too_large", 4002)


@pytest.mark.parametrize("size", [4097, 70_000, 1_000_000])
async def test_too_large(size, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_raw, "x" * size)
            await broken(client, gateway, "too_large", 4002)


async def test_broken_websocket(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        await client.stream.send_all(b"\xff\xff\xff\xff")
        await client.gone()
        assert gateway.report.violations == {"websocket_error": 1}


@pytest.mark.parametrize("target", ["/", "/?encoding=json", "/?v=8", "/?v=x", "/?v=11"])
async def test_wrong_version(target, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway, target=target) as client:
        await broken(client, gateway, "invalid_version", 4012)
        assert gateway.report.hellos == 0


@pytest.mark.parametrize("target", ["/?v=10&encoding=etf", "/?v=10&compress=br"])
async def test_what_is_not_spoken_here(target, autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        with pytest.raises(Rejected) as caught:
            async with connect(gateway, target=target):
                pass
        assert caught.value.status == 501
        assert gateway.report.connections == 0


@pytest.mark.parametrize(
    ("sequence", "code", "kind"),
    [(99, 4007, {"invalid_seq": 1}), (3, 4007, {"invalid_seq": 1}), (0, 4007, {"invalid_seq": 1}),
     (-1, 4007, {"invalid_seq": 1}), (2, None, {})],
)  # fmt: skip
async def test_resume_with_a_sequence(sequence, code, kind, autojump_clock):
    async with open_local_gateway(port=None) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            await client.close(4900)
            await client.gone()
        gateway.publish("NEVER_SENT", 1)
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, sequence)
            if code is None:
                await back.expect(0, "RESUMED")
            else:
                assert await back.gone() == code
        assert gateway.report.violations == kind
        assert gateway.report.resumes_refused == (code is not None)


@pytest.mark.parametrize("what", ["unknown", "foreign", "expired", "too_old"])
async def test_resume_refused(what, autojump_clock):
    async with open_local_gateway(port=None, session_ttl=100, replay_limit=5) as gateway:
        async with connect(gateway) as client:
            await client.start()
            await client.settle()
            await client.close(4900)
            await client.gone()
        if what == "expired":
            await trio.sleep(101)
        elif what == "too_old":
            for number in range(6):
                gateway.publish("E", number)
        async with connect(gateway) as back:
            await back.hello()
            session_id = "0" * 32 if what == "unknown" else client.session_id
            await back.resume(session_id, 2, token="other" if what == "foreign" else TOKEN)
            payload = await back.receive()
            assert (payload["op"], payload["d"]) == (9, False)
        assert gateway.report.resumes_refused == 1
        assert not gateway.report.violations
        ended = gateway.report.sessions[client.session_id].ended
        assert ended == {"expired": "timed out", "too_old": "too old to replay"}.get(what)


async def test_resume_with_a_wrong_token(autojump_clock):
    async with open_local_gateway(port=None, token=TOKEN) as gateway, connect(gateway) as client:
        await client.hello()
        await client.resume("x", 1, token="wrong")
        await broken(client, gateway, "authentication_failed", 4004)


async def test_a_session_just_within_its_time_can_be_resumed(autojump_clock):
    async with open_local_gateway(port=None, session_ttl=100) as gateway:
        async with connect(gateway) as client:
            await client.start()
        await trio.sleep(99)
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            await back.expect(0, "RESUMED")


@pytest.mark.parametrize("resumable", [True, False])
async def test_what_crosses_an_invalid_session_is_nobodys_fault(resumable, autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].invalidate(resumable)
        await client.send(3, PRESENCE)
        assert await client.gone() == 4003
        assert gateway.report.crossing == 1
        assert [arrival.op for arrival in gateway.report.crossings] == [3]
        assert not gateway.report.commands
        async with connect(gateway) as back:
            await back.hello()
            await back.resume(client.session_id, 1)
            assert (await back.receive())["op"] == (0 if resumable else 9)
        assert not gateway.report.violations


async def test_what_crosses_a_close_is_nobodys_fault(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].close(4000)
        await client.send(3, PRESENCE)
        await client.send_raw("gibberish")
        assert await client.gone() == 4000
        assert (gateway.report.crossing, len(gateway.report.crossings)) == (2, 1)
        assert not gateway.report.violations


async def test_commands_after_a_refused_handshake_did_not_cross(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.hello()
        await client.resume("x", 1)
        assert (await client.receive())["op"] == 9
        await client.send(3, PRESENCE)
        await broken(client, gateway, "not_authenticated", 4003)
        assert gateway.report.crossing == 0


async def test_identify_on_the_same_socket_after_invalid_session(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.hello()
        await client.resume("x", 1)
        await client.expect(9)
        await client.send(1, None)
        await client.expect(11)
        await client.identify()
        await client.expect(0, "READY")
        assert await client.nothing_comes(0) is False
        assert not gateway.report.violations
        # The gateway does not close this connection later on because of the old Invalid Session.
        await trio.sleep(11)
        await client.sync()


async def test_an_invalidated_connection_is_closed_at_last(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].invalidate(resumable=True)
        start = trio.current_time()
        assert await client.gone() == 4003
        assert trio.current_time() - start == pytest.approx(10.0)


async def test_commands_are_legal_between_reconnect_and_the_close(autojump_clock):
    async with open_local_gateway(port=None) as gateway, connect(gateway) as client:
        await client.start()
        gateway.connections[0].reconnect()
        await client.expect(7)
        await client.send(3, PRESENCE)
        gateway.publish("STILL_HERE", 1)
        await client.expect(0, "STILL_HERE")
        start = trio.current_time()
        assert await client.gone() == 4000
        assert trio.current_time() - start == pytest.approx(5.0)
        assert gateway.report.commands_by_op == {3: 1}
        assert not gateway.report.violations
