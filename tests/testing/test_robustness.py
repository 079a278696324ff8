"""Nothing that a client does makes the gateway itself fail, and nothing that goes wrong in a test is hidden by it."""

import json
import random

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from trioshard.testing import Action, After, Scenario, open_local_gateway

from .raw_client import PROPERTIES, TOKEN, Gone, connect

VALUES = [None, True, 0, -1, 1, 2, 7, 1.5, 1 << 70, "", "x", "1", [], {}, ["1"], [1, 2], {"a": 1}]
KEYS = [
    "token",
    "properties",
    "intents",
    "shard",
    "session_id",
    "seq",
    "guild_id",
    "guild_ids",
    "user_ids",
    "query",
    "limit",
    "channel_id",
    "self_mute",
    "self_deaf",
    "fields",
    "since",
    "activities",
    "status",
    "afk",
    "nonce",
]
LINES = [
    b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"POST /gateway HTTP/1.1", b"Host: x", b"Upgrade: websocket",
    b"Connection: Upgrade", b"Sec-WebSocket-Key: x", b"Content-Length: 5", b"Transfer-Encoding: chunked",
    b"\x00\xff", b"",
]  # fmt: skip
GOOD = {
    1: None,
    2: {"token": TOKEN, "properties": PROPERTIES, "intents": 1},
    3: {"since": None, "activities": [], "status": "online", "afk": False},
    4: {"guild_id": "1", "channel_id": "2", "self_mute": True, "self_deaf": True},
    6: {"token": TOKEN, "session_id": "x", "seq": 1},
    8: {"guild_id": "1", "query": "", "limit": 0},
    31: {"guild_ids": ["1"]},
    43: {"guild_id": "1", "fields": ["status"]},
}


def draw(rng):
    """Some payload: good, nearly good, or nonsense."""
    op = rng.choice([*GOOD, 0, 7, 99])
    data = GOOD.get(op)
    if rng.random() < 0.5:
        data = rng.choice(VALUES)
    elif isinstance(data, dict) and rng.random() < 0.5:
        data = {**data, rng.choice(KEYS): rng.choice(VALUES)}
    text = json.dumps({"op": op, "d": data})
    if rng.random() < 0.05:
        text = text[: rng.randrange(len(text))]
    return text


@pytest.mark.parametrize("seed", range(8))
async def test_any_sequence_of_payloads(seed, autojump_clock):
    rng = random.Random(seed)
    async with open_local_gateway(port=None, identify_window=0, session_starts=10_000) as gateway:
        for _ in range(150):
            async with connect(gateway) as client:
                try:
                    if rng.random() < 0.7:
                        await client.start()
                    for _ in range(rng.randrange(6)):
                        await client.send_raw(draw(rng))
                    while not await client.nothing_comes(0.1):
                        pass
                except (Gone, trio.BrokenResourceError):
                    pass
        assert sum(gateway.report.violations.values()) > 20


@pytest.mark.parametrize("seed", range(8))
async def test_any_bytes(seed, autojump_clock):
    rng = random.Random(seed)
    async with open_local_gateway(port=None) as gateway:
        for _ in range(100):
            if rng.random() < 0.5:
                async with await gateway.dial() as stream:
                    await stream.send_all(b"\r\n".join(rng.choices(LINES, k=rng.randrange(8))) + b"\r\n\r\n")
                    await stream.send_eof()
                    with trio.move_on_after(1), pytest.raises(trio.BrokenResourceError):
                        while await stream.receive_some():
                            pass
                        raise trio.BrokenResourceError
            else:
                async with connect(gateway) as client:
                    await client.stream.send_all(rng.randbytes(rng.randrange(200)))
                    with trio.move_on_after(1):
                        await client.gone()


async def test_head(autojump_clock):
    async with open_local_gateway(port=None) as gateway, await gateway.dial() as stream:
        for _ in range(2):
            await stream.send_all(b"HEAD /gateway HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await stream.receive_some()
            assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("target", [b"//[", b"http://[::1/", b"//[x]/"])
async def test_a_target_that_is_no_url(target, autojump_clock):
    async with open_local_gateway(port=None) as gateway, await gateway.dial() as stream:
        await stream.send_all(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")


async def test_a_faulty_request_behind_a_head(autojump_clock):
    """The answer to HEAD has no body; the one to what follows has."""
    async with open_local_gateway(port=None) as gateway, await gateway.dial() as stream:
        await stream.send_all(b"HEAD /gateway HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some()
        await stream.send_all(b"no request\r\n\r\n")
        head, _, body = (await stream.receive_some()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert body


async def test_a_payload_right_behind_the_upgrade(autojump_clock):
    async with open_local_gateway(port=None) as gateway, await gateway.dial() as stream:
        ws = WSConnection(ConnectionType.CLIENT)
        upgrade = ws.send(Request(host="x", target="/?v=10"))
        # What the client would make of it, had the handshake been finished.
        frame = b"\x81\x80\x00\x00\x00\x00"
        await stream.send_all(upgrade + frame)
        await gateway.wait_connected()
        await trio.testing.wait_all_tasks_blocked()
        assert sum(gateway.report.violations.values()) == 1


async def test_a_failed_assertion_comes_out_as_it_is(autojump_clock):
    with pytest.raises(AssertionError, match="mine"):
        async with open_local_gateway(port=None), open_local_gateway(port=None):
            raise AssertionError("mine")


class Fail(Action):
    async def perform(self, connection):
        raise LookupError("a step of one's own")


async def test_a_step_that_fails_is_heard_of(autojump_clock):
    with pytest.raises(ExceptionGroup) as caught:
        scenario = Scenario([[After("ready"), Fail()]])
        async with open_local_gateway(port=None, scenario=scenario) as gateway, connect(gateway) as client:
            await client.start()
            await trio.sleep_forever()
    assert caught.group_contains(LookupError)
