"""What is sent arrives, whole, once and in order, however the bytes are cut."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.transport.peer import (
    BINARY,
    CONT,
    MEGABYTE,
    PING,
    PONG,
    TEXT,
    Frame,
    Tls,
    ending,
    frame,
    opened,
    receive,
    text,
)
from trioshard.errors import GatewayProtocolError

only_websockets = pytest.mark.parametrize("transport", ["websockets"])
LIMIT = 10_000


async def test_text_and_binary_messages_can_be_told_apart(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with opened(transport, tls=tls) as (client, peer):
        await peer.send(text("grüße"), frame(BINARY, b"\x00\xff"), text(""), frame(BINARY))
        assert await receive(client, 4) == ["grüße", b"\x00\xff", "", b""]


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 3 * MEGABYTE + 17])
async def test_messages_of_every_length_encoding(
    size: int, transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    async with opened(transport, tls=tls) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, frame(BINARY, payload[:size]), text("next"))
        assert await receive(client, 2) == [payload[:size], "next"]


async def test_bytes_may_come_one_by_one(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer), trio.open_nursery() as nursery:
        stream = text("grüße") + frame(PING, b"p") + frame(TEXT, b"a", fin=False) + frame(CONT, b"b" * 200)
        nursery.start_soon(peer.send_byte_by_byte, stream)
        assert await receive(client, 2) == ["grüße", "a" + "b" * 200]
        assert await peer.receive() == Frame(PONG, b"p")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", [1, 2, 5, 16])
async def test_fragments_are_joined(opcode: int, pieces: int, transport: str, autojump_clock: MockClock) -> None:
    """A fragment may end within a character."""
    payload = "ä€😀z".encode() * 4
    size = -(-len(payload) // pieces)
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    frames = [frame(opcode if n == 0 else CONT, part, fin=n == len(parts) - 1) for n, part in enumerate(parts)]
    async with opened(transport) as (client, peer):
        await peer.send(*frames, text("next"))
        assert await receive(client, 2) == [payload.decode() if opcode == TEXT else payload, "next"]


async def test_empty_fragments_change_nothing(transport: str, autojump_clock: MockClock) -> None:
    empty = frame(CONT, fin=False) * 5000
    async with opened(transport) as (client, peer):
        await peer.send(frame(TEXT, fin=False), empty, frame(CONT, b"a", fin=False), empty, frame(CONT))
        assert await receive(client, 1) == ["a"]


async def test_control_frames_may_come_between_fragments(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(frame(TEXT, b"a", fin=False), frame(PONG, b"x"), frame(PING, b"y"), frame(CONT, b"b"))
        assert await receive(client, 1) == ["ab"]
        assert await peer.receive() == Frame(PONG, b"y")


async def test_messages_that_come_with_the_handshake_are_not_lost(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport, first=text("a") + text("b")) as (client, _):
        assert await receive(client, 2) == ["a", "b"]


@only_websockets
async def test_what_one_read_brings_is_one_batch(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        await peer.send(*(text(str(number)) for number in range(700)), frame(TEXT, b"half", fin=False))
        assert await client.receive_batch() == [str(number) for number in range(700)]
        await peer.send(frame(CONT, b"done"))
        assert await client.receive_batch() == ["halfdone"]


def some_stream(random: Random) -> tuple[bytes, list[bytes | str]]:
    """A legal stream of frames, and the messages that it carries."""
    stream, messages = b"", list[bytes | str]()
    for _ in range(random.randrange(1, 15)):
        message = "aä€😀" * random.choice([0, 1, 20, 130, 9000])
        is_text = random.random() < 0.5
        messages.append(message if is_text else message.encode())
        parts, rest = list[bytes](), message.encode()
        while rest and random.random() < 0.6:
            size = random.randrange(len(rest) + 1)
            parts, rest = [*parts, rest[:size]], rest[size:]
        parts.append(rest)
        for number, part in enumerate(parts):
            opcode = CONT if number else TEXT if is_text else BINARY
            stream += frame(opcode, part, fin=number == len(parts) - 1)
            if random.random() < 0.3:
                stream += frame(random.choice([PING, PONG]), random.randbytes(random.randrange(126)))
    return stream, messages


@pytest.mark.parametrize("seed", range(25))
async def test_any_legal_stream_arrives_however_it_is_cut(seed: int, transport: str, autojump_clock: MockClock) -> None:
    random = Random(seed)
    stream, messages = some_stream(random)
    async with opened(transport) as (client, peer), trio.open_nursery() as nursery:

        async def send(rest: bytes) -> None:
            while rest:
                size = random.choice([1, 2, 7, 1000, 70_000])
                await peer.stream.send_all(rest[:size])
                rest = rest[size:]
                await trio.sleep(random.choice([0, 0.001]))

        nursery.start_soon(send, stream)
        assert await receive(client, len(messages)) == messages
        nursery.cancel_scope.cancel()


# --- the limit ---


async def test_a_message_may_have_as_many_bytes_as_the_limit_says(transport: str, autojump_clock: MockClock) -> None:
    half = b"x" * (LIMIT // 2)
    async with opened(transport, max_message_size=LIMIT) as (client, peer):
        await peer.send(frame(BINARY, half * 2))
        # A ping is no part of the message that it interrupts.
        await peer.send(
            frame(BINARY, half, fin=False), frame(CONT, half, fin=False), frame(PING, b"p" * 125), frame(CONT)
        )
        assert await receive(client, 2) == [half * 2] * 2


@pytest.mark.parametrize(
    "too_long",
    [
        pytest.param(frame(BINARY, b"x" * (LIMIT + 1)) + text("never seen"), id="whole"),
        pytest.param(frame(TEXT, b"x" * (LIMIT + 1)) + text("never seen"), id="text"),
        pytest.param(frame(BINARY, b"x" * LIMIT, fin=False) + frame(CONT, b"x") + text("never seen"), id="fragments"),
        pytest.param(frame(BINARY, b"x", fin=False) + frame(CONT, b"x" * LIMIT, fin=False), id="unfinished"),
    ],
)
async def test_a_message_beyond_the_limit_ends_the_connection(
    too_long: bytes, transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with opened(transport, tls=tls, max_message_size=LIMIT) as (client, peer):
        await peer.send(text("fine"), too_long)
        messages, error = await ending(client)
    assert messages == ["fine"]
    assert isinstance(error, GatewayProtocolError)
    assert "1009" in str(error)


@only_websockets
async def test_a_length_that_is_too_long_is_not_waited_for(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport, max_message_size=LIMIT) as (client, peer):
        await peer.send(b"\x82\x7f" + (2**62).to_bytes(8, "big"))
        with pytest.raises(GatewayProtocolError, match="1009"):
            await client.receive_batch()
        await client.aclose(4900)
        assert (await peer.receive()).code == 1009


# --- what we write ---


@pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 65535, 65536, 200_000])
async def test_a_document_is_written_as_one_masked_text_frame(
    size: int, transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    document = ("ü" * size).encode()[:size] if size % 2 == 0 else b"x" * size
    async with opened(transport, tls=tls) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send, document)
        assert await peer.receive() == Frame(TEXT, document)
        assert not peer.unread


async def test_each_frame_has_a_mask_of_its_own(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (client, peer):
        for _ in range(4):
            await client.send(b"0123")
        seen = b""
        while len(seen) < 40:
            seen += await peer.stream.receive_some()
    assert len({seen[start + 2 : start + 6] for start in range(0, 40, 10)}) == 4


async def test_documents_of_several_tasks_do_not_mix(transport: str, autojump_clock: MockClock) -> None:
    documents = [bytes([65 + number]) * 1000 for number in range(6)]
    async with opened(transport, capacity=64) as (client, peer), trio.open_nursery() as nursery:
        for document in documents:
            nursery.start_soon(client.send, document)
        await peer.send(frame(PING, b"p"))
        nursery.start_soon(client.receive_batch)
        frames = [await peer.receive() for _ in range(7)]
        assert sorted(frame.payload for frame in frames) == [*documents, b"p"]
        await peer.send(text("the end of the reader"))


async def test_no_extension_is_offered(transport: str, autojump_clock: MockClock) -> None:
    async with opened(transport) as (_, peer):
        assert peer.request.startswith("GET /path?v=10 HTTP/1.1\r\n")
        headers = dict(line.lower().split(": ", 1) for line in peer.request.splitlines()[1:])
        assert headers["host"] == "gateway.test"
        assert "sec-websocket-extensions" not in headers


async def test_bytes_are_heard_before_a_message_is_whole(transport: str, autojump_clock: MockClock) -> None:
    calls = 0

    def heard() -> None:
        nonlocal calls
        calls += 1

    async with opened(transport, heard=heard) as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_batch)
        await trio.sleep(1)
        for piece in (b"\x81", b"\x03", b"ab"):
            before = calls
            await peer.send(piece)
            await trio.sleep(1)
            assert calls == before + 1
        nursery.cancel_scope.cancel()
