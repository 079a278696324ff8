"""Frames that pass the library by: what is cut out of a read is what the library alone would have made of it.

`skim` and `frame_length` are held to RFC 6455, written down here once more; the transport as a whole is held to the
`websockets` library, which gets the same stream in one piece and sees every frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from tests.transport.peer import BINARY, CLOSE, CONT, PING, PONG, TEXT, closing, ending, frame, opened, text
from trioshard._frames import MALFORMED, frame_length, skim
from trioshard.errors import ConnectionClosed, ConnectionLost, GatewayProtocolError

EDGES: Final = (0, 1, 2, 125, 126, 127, 128, 65535, 65536, 65537)
"""Lengths around which the header changes its shape."""

LONGEST_CONTROL: Final = 125
JUNK: Final = b"\x00\xff\x82"
NO_LIMIT: Final = 1 << 40

# --- skim ---


def skimmed(data: bytes, position: int = 0, limit: int = NO_LIMIT) -> tuple[int, list[bytes | str]]:
    batch: list[bytes | str] = []
    return skim(data, position, batch, limit), batch


@pytest.mark.parametrize("size", EDGES)
def test_a_whole_message_is_taken_unless_its_length_needs_eight_bytes(size: int) -> None:
    payload, what_follows = b"x" * size, text("next")
    for plain, message in ((frame(BINARY, payload), payload), (frame(TEXT, payload), payload.decode())):
        stop, batch = skimmed(JUNK + plain + what_follows, len(JUNK))
        if size < 65536:
            assert batch == [message, "next"]
            assert stop == len(JUNK + plain + what_follows)
        else:
            assert (stop, batch) == (len(JUNK), [])


def test_messages_are_told_apart_as_text_and_binary() -> None:
    _, batch = skimmed(text("grüße") + frame(BINARY, "grüße".encode()) + text("") + frame(BINARY) + text("end"))
    assert batch == ["grüße", "grüße".encode(), "", b"", "end"]
    assert [type(message) for message in batch] == [str, bytes, str, bytes, str]


@pytest.mark.parametrize("first", range(256))
def test_whatever_else_begins_a_frame_is_left_to_the_library(first: int) -> None:
    before = text("before")
    stop, batch = skimmed(before + bytes([first]) + b"\x03abc" + text("after"))
    if first in (0x81, 0x82):
        assert batch == ["before", "abc" if first == 0x81 else b"abc", "after"]
    else:
        assert (stop, batch) == (len(before), ["before"])


@pytest.mark.parametrize("second", range(128, 256))
def test_a_masked_frame_is_left_to_the_library(second: int) -> None:
    assert skimmed(b"\x82" + bytes([second]) + b"x" * 70_000) == (0, [])


@pytest.mark.parametrize("wrong", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_no_utf_8_is_left_to_the_library(wrong: bytes) -> None:
    before = text("before")
    assert skimmed(before + frame(TEXT, wrong) + text("after")) == (len(before), ["before"])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000])
def test_what_is_longer_than_the_limit_is_left_to_the_library(size: int) -> None:
    stream = frame(BINARY, b"x" * size) + text("")
    assert skimmed(stream + b"\x00\x00", limit=size) == (len(stream), [b"x" * size, ""])
    assert skimmed(stream + b"\x00\x00", limit=size - 1) == (0, [])


@given(sizes=st.lists(st.sampled_from([0, 1, 2, 3, 125, 126, 127, 300]), max_size=8), data=st.data())
def test_a_stream_that_is_cut_anywhere_is_taken_up_to_the_last_whole_frame(
    sizes: list[int], data: st.DataObject
) -> None:
    frames = [frame(BINARY, bytes([number]) * size) for number, size in enumerate(sizes)]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    stop, batch = skimmed(whole[:cut])
    boundaries = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    assert stop in boundaries
    assert batch == [bytes([number]) * size for number, size in enumerate(sizes[: boundaries.index(stop)])]
    # Too little to look at is left over, even if it is a frame; anything longer only if it is none.
    rest = whole[stop:cut]
    assert len(rest) < 4 or cut < boundaries[boundaries.index(stop) + 1]


# --- frame_length ---


def header_of(first: int, size: int, width: int) -> bytes:
    """A header as RFC 6455, 5.2 has it, with the length in ``width`` further bytes."""
    match width:
        case 0:
            return bytes([first, size])
        case 2:
            return bytes([first, 126]) + struct.pack("!H", size)
        case _:
            return bytes([first, 127]) + struct.pack("!Q", size)


@pytest.mark.parametrize("size", [*EDGES, 2**32, 2**63 - 1])
@pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0xC1, 0x83])
def test_a_frame_is_as_long_as_its_header_says(size: int, first: int) -> None:
    for width in (0, 2, 8):
        if size > {0: 125, 2: 65535, 8: 2**64}[width]:
            continue
        header = header_of(first, size, width)
        for available in range(len(header)):
            least = frame_length(JUNK + header[:available], len(JUNK))
            assert available < least <= len(header), "it would not be waited for"
        for follows in (b"", b"\xff", b"\xff" * 20):
            assert frame_length(JUNK + header + follows, len(JUNK)) == len(header) + size


def test_a_masked_frame_is_not_waited_for_and_a_legal_one_is() -> None:
    for first in range(256):
        longest = LONGEST_CONTROL if first & 0x08 else 127
        for second in range(256):
            for available in (2, 3, 20):
                length = frame_length(bytes([first, second, *[0] * (available - 2)]), 0)
                if second >= 0x80:
                    assert length == MALFORMED
                elif second <= longest:
                    assert length != MALFORMED


# --- the transport and the library ---


@dataclass(frozen=True)
class Spec:
    """One frame that a server might send, right or wrong.

    ``width`` is in how many bytes its length is written; ``None`` is the shortest way.
    """

    opcode: int
    size: int
    fill: bytes = b"x"
    fin: bool = True
    reserved: int = 0
    masked: bool = False
    width: int | None = None

    def encoded(self) -> bytes:
        payload = (self.fill * (self.size // len(self.fill) + 1))[: self.size]
        if self.width is None:
            return frame(self.opcode, payload, fin=self.fin, reserved=self.reserved, mask=b"mask" * self.masked)
        first = (0x80 if self.fin else 0) | self.reserved << 4 | self.opcode
        return header_of(first, self.size, self.width) + payload


FRAMES_INSIDE: Final = frame(BINARY, b"no message") + text("nor this") + closing(4014) + frame(PING, b"nor a ping")
"""A payload that looks like frames: whoever loses track of where frames begin takes it for some."""

FILLS: Final = st.sampled_from([b"x", "aä€😀".encode(), FRAMES_INSIDE, text("no"), b"\xff", b"\x82\x7e\x00\x10"])
SIZES: Final = st.sampled_from([*EDGES, 3, 90, 124, 200, 230, 1000, 1125, 1126])

PLAIN: Final = st.builds(Spec, st.sampled_from([TEXT, BINARY]), SIZES, FILLS)
FRAGMENTS: Final = st.builds(Spec, st.sampled_from([TEXT, BINARY, CONT, CONT, CONT]), SIZES, FILLS, st.booleans())
CONTROL: Final = st.builds(Spec, st.sampled_from([PING, PONG]), st.integers(0, LONGEST_CONTROL), FILLS)
CLOSES: Final = st.builds(
    Spec, st.just(CLOSE), st.sampled_from([0, 1, 2, 9, 125]), st.sampled_from([closing(4000, "bye bye")[2:], b"\xff"])
)
WIDE: Final = st.builds(
    Spec, st.sampled_from([TEXT, BINARY, PING]), st.integers(0, 130), FILLS, width=st.sampled_from([2, 8])
)
ANYTHING: Final = st.builds(
    Spec, st.integers(0, 15), SIZES, FILLS, st.booleans(), st.sampled_from([0, 0, 1, 2, 4]), st.booleans()
)
STREAMS: Final = st.lists(
    st.one_of(PLAIN, PLAIN, PLAIN, FRAGMENTS, FRAGMENTS, CONTROL, CONTROL, WIDE, CLOSES, ANYTHING), max_size=8
)
PIECES: Final = st.lists(st.sampled_from([1, 2, 3, 4, 5, 9, 10, 11, 60, 130, 4096, 70_000]), max_size=20)
LIMITS: Final = st.sampled_from([100, 1000, 70_000])

Told = tuple[list[bytes | str], str]
"""The messages, and how it ended."""


def told_by_the_library(stream: bytes, limit: int) -> Told:
    """What the library makes of a stream that ends there, with every frame in its hands."""
    core = ClientProtocol(WebSocketURI(False, "x", 80, "/", ""), state=State.OPEN, max_size=limit + LONGEST_CONTROL)
    core.receive_data(stream)
    core.receive_eof()
    messages: list[bytes | str] = []
    parts: list[bytes] = []
    is_text = False
    for event in core.events_received():
        assert isinstance(event, Frame)
        if event.opcode not in (Opcode.CONT, Opcode.TEXT, Opcode.BINARY):
            continue
        if event.opcode is not Opcode.CONT:
            is_text = event.opcode is Opcode.TEXT
        parts.append(bytes(event.data))
        if sum(map(len, parts)) > limit:
            return messages, "it makes no sense"
        if event.fin:
            whole, parts = b"".join(parts), []
            try:
                messages.append(whole.decode() if is_text else whole)
            except UnicodeDecodeError:
                return messages, "it makes no sense"
    if core.close_rcvd is not None:
        return messages, "lost" if core.close_rcvd.code == 1005 else f"closed {core.close_rcvd.code}"
    return messages, "lost" if core.close_sent is None else "it makes no sense"


async def told_by_the_transport(stream: bytes, pieces: list[int], limit: int) -> Told:
    """The same of our transport, with the stream in pieces of these sizes, each of which is read before the next."""

    async def send() -> None:
        position = 0
        for size in [*pieces, len(stream)]:
            await peer.stream.send_all(stream[position : position + size])
            await wait_all_tasks_blocked()
            position += size
            if position >= len(stream):
                break
        await peer.stream.aclose()

    async with trio.open_nursery() as nursery:
        async with opened("websockets", max_message_size=limit, capacity=1 << 20) as (client, peer):
            nursery.start_soon(send)
            messages, error = await ending(client)
            nursery.cancel_scope.cancel()
    match error:
        case ConnectionClosed():
            return messages, f"closed {error.code}"
        case ConnectionLost():
            return messages, "lost"
        case GatewayProtocolError():
            return messages, "it makes no sense"
        case _:
            raise error


def check_alike(specs: list[Spec], cut: int, pieces: list[int], limit: int) -> None:
    """Compare both on a stream of these frames, of which the last ``cut`` bytes are missing."""
    frames = [spec.encoded() for spec in specs]
    stream = b"".join(frames)
    stream = stream[: max(0, len(stream) - cut)]
    whole = b""
    for one in frames:
        if len(whole) + len(one) > len(stream):
            break
        whole += one
    messages, how = told_by_the_library(stream, limit)
    # Of a frame that is not whole, it may be told that it makes no sense, or that it was cut.
    hows = {how, told_by_the_library(whole, limit)[1]}
    told = trio.run(told_by_the_transport, stream, pieces, limit, clock=MockClock(autojump_threshold=0))
    assert told[0] == messages
    assert told[1] in hows


LIMIT_PASSED: Final = [Spec(BINARY, 150, text("no"))]
LONG_PING: Final = [Spec(PING, 150, text("no")), Spec(TEXT, 1)]
TOO_LONG_BEFORE_A_CLOSE: Final = [Spec(TEXT, 125), Spec(CLOSE, 9, closing(4000, "bye bye")[2:])]
WITHIN_A_MESSAGE: Final = [Spec(TEXT, 5, fin=False), Spec(BINARY, 5), Spec(CONT, 5)]
PING_ABOVE_THE_LIMIT: Final = [Spec(PING, 120), Spec(TEXT, 1), Spec(PING, 0), Spec(BINARY, 126, width=8)]


@settings(max_examples=300)
@given(specs=STREAMS, pieces=PIECES, limit=LIMITS, cut=st.sampled_from([0, 0, 0, 1, 2, 5, 100]))
@example(specs=LIMIT_PASSED, pieces=[4, 51], limit=100, cut=0)
@example(specs=LONG_PING, pieces=[4, 51], limit=1000, cut=0)
@example(specs=TOO_LONG_BEFORE_A_CLOSE, pieces=[], limit=100, cut=0)
@example(specs=WITHIN_A_MESSAGE, pieces=[], limit=100, cut=0)
@example(specs=PING_ABOVE_THE_LIMIT, pieces=[4, 51], limit=100, cut=0)
def test_the_transport_tells_what_the_library_tells(specs: list[Spec], pieces: list[int], limit: int, cut: int) -> None:
    check_alike(specs, cut, pieces, limit)
