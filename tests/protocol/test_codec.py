"""Bytes to payloads, and payloads to bytes."""

from __future__ import annotations

import json

import msgspec
import pytest

from trioshard.errors import GatewayProtocolError, InvalidCommand
from trioshard.protocol import codec
from trioshard.protocol.opcodes import Opcode

from .samples import SESSION

DEEP = b"[" * 100_000 + b"]" * 100_000
PROPERTIES = {"os": "linux", "browser": "trioshard", "device": "trioshard"}


def identify(**changes: object) -> bytes:
    arguments = {
        "token": "t0ken",
        "intents": 513,
        "shard": (1, 2),
        "properties": PROPERTIES,
        "presence": None,
        "large_threshold": None,
        "payload_compression": False,
    }
    return codec.encode_identify(**(arguments | changes))


# Inbound


def test_an_envelope_with_everything():
    envelope = codec.scan(b' {"t":"X_Y", "s":5, "op":0, "d": {"a": [1, 2]}, "new": {"field": true}} ')
    assert (envelope.op, envelope.s, envelope.t) == (0, 5, "X_Y")
    assert codec.decode_json(envelope.d) == {"a": [1, 2]}


@pytest.mark.parametrize("document", [b'{"op":11}', '{"op":11}', b'{"op":11,"d":null,"s":null,"t":null}'])
def test_absent_means_null(document):
    envelope = codec.scan(document)
    assert (envelope.op, envelope.s, envelope.t, codec.decode_json(envelope.d)) == (11, None, None, None)


@pytest.mark.parametrize("document", ['{"op":0,"d":"ü🦊"}', '{"op":0,"d":"ü🦊"}'.encode()])
def test_text_and_bytes_read_the_same(document):
    assert codec.decode_json(codec.scan(document).d) == "ü🦊"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"d":1}',
        b'{"op":null}',
        b'{"op":"0"}',
        b'{"op":0.5}',
        b'{"op":true}',
        b'{"op":0,"s":"1"}',
        b'{"op":0,"s":1.5}',
        b'{"op":0,"t":5}',
        b'{"op":0,"t":"\xff"}',
        b'{"op":0',
        b'{"op":0}{"op":0}',
        b'{"op":0,"d":{]}',
        b'{"op":0,"d":' + DEEP + b"}",
        '{"op":0,"t":"\ud800"}',
        b"\x1f\x8b\x00",
    ],
    ids=lambda document: repr(document)[:30],
)
def test_what_is_no_payload(document):
    with pytest.raises(GatewayProtocolError, match=f"{len(document)} bytes"):
        codec.scan(document)


def test_data_is_not_looked_at_before_it_is_asked_for():
    envelope = codec.scan(b'{"op":0,"d":"\xff"}')
    with pytest.raises(GatewayProtocolError):
        codec.decode_json(envelope.d)


@pytest.mark.parametrize("raw", [b"", b"{", b'"\xff"', b"1 2", DEEP], ids=lambda raw: repr(raw)[:12])
def test_data_that_cannot_be_decoded(raw):
    with pytest.raises(GatewayProtocolError):
        codec.decode_json(raw)


# Outbound


@pytest.mark.parametrize(
    ("sequence", "document"),
    [(None, b'{"op":1,"d":null}'), (0, b'{"op":1,"d":0}'), (2**53, b'{"op":1,"d":9007199254740992}')],
)
def test_a_heartbeat_is_the_sequence_alone(sequence, document):
    assert codec.encode_heartbeat(sequence) == document


def test_identify():
    assert identify() == (
        b'{"op":2,"d":{"token":"t0ken","intents":513,'
        b'"properties":{"os":"linux","browser":"trioshard","device":"trioshard"},"shard":[1,2]}}'
    )


def test_identify_with_everything():
    presence = {"activities": [], "status": "dnd", "since": None, "afk": False}
    data = json.loads(identify(presence=presence, large_threshold=250, payload_compression=True))["d"]
    assert data == {
        "token": "t0ken",
        "intents": 513,
        "properties": PROPERTIES,
        "shard": [1, 2],
        "compress": True,
        "large_threshold": 250,
        "presence": presence,
    }


def test_an_identify_that_is_too_long_is_refused_without_the_token():
    with pytest.raises(InvalidCommand, match="IDENTIFY") as refusal:
        identify(presence={"activities": [{"name": "x" * 4096, "type": 0}]})
    assert "t0ken" not in str(refusal.value)


def test_resume():
    assert codec.encode_resume(token="t0ken", session=SESSION) == (
        b'{"op":6,"d":{"token":"t0ken","session_id":"5e55","seq":40}}'
    )


def test_json_is_compact_and_not_escaped():
    assert codec.encode(Opcode.PRESENCE_UPDATE, {"a": "ü", "b": [1, None]}) == (
        '{"op":3,"d":{"a":"ü","b":[1,null]}}'.encode()
    )


@pytest.mark.parametrize("character", ["a", "ü", "🦊"])
def test_4096_bytes_are_counted_in_utf_8(character):
    room = 4096 - len(codec.encode(Opcode.PRESENCE_UPDATE, ""))
    filler, rest = divmod(room, len(character.encode()))
    text = character * filler + "a" * rest
    assert len(codec.encode(Opcode.PRESENCE_UPDATE, text)) == codec.MAX_OUTBOUND == 4096
    with pytest.raises(InvalidCommand, match="4097 bytes"):
        codec.encode(Opcode.PRESENCE_UPDATE, text + "a")


def endless() -> list[object]:
    nest: list[object] = []
    nest.append(nest)
    return nest


@pytest.mark.parametrize("data", [object(), "\ud800", {1j: 1}, endless()], ids=["object", "surrogate", "key", "loop"])
def test_what_cannot_be_json(data):
    with pytest.raises(InvalidCommand, match="PRESENCE_UPDATE"):
        codec.encode(Opcode.PRESENCE_UPDATE, data)


def test_an_envelope_keeps_its_data_after_the_buffer_was_reused():
    buffer = bytearray(b'{"op":0,"d":"first"}')
    envelope = codec.scan(bytes(buffer))
    buffer[:] = b"x" * len(buffer)
    assert envelope.d == msgspec.Raw(b'"first"')
