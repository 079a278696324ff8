"""What a client wrote is read as two WebSocket libraries wrote it, up to the last byte, and no further."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from trioshard._simulation.users import FIRST_TAG
from trioshard._simulation.wiretap import Frame, Transcript, read_client

if TYPE_CHECKING:
    from collections.abc import Callable

TAG = FIRST_TAG + 41
REQUEST = b"GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\r\n"


class WsprotoClient:
    """A client of wsproto, past its opening handshake; what it wrote."""

    def __init__(self) -> None:
        self._connection = WSConnection(ConnectionType.CLIENT)
        server = WSConnection(ConnectionType.SERVER)
        self.written = self._connection.send(Request(host="gateway", target="/?v=10"))
        self.head = len(self.written)
        server.receive_data(self.written)
        assert list(server.events())
        self._connection.receive_data(server.send(AcceptConnection()))
        assert list(self._connection.events())

    def _send(self, event: TextMessage | BytesMessage | Ping | Pong | CloseConnection) -> None:
        self.written += self._connection.send(event)

    def text(self, document: str) -> None:
        self._send(TextMessage(document))

    def binary(self, data: bytes) -> None:
        self._send(BytesMessage(data))

    def ping(self, data: bytes) -> None:
        self._send(Ping(data))

    def pong(self, data: bytes) -> None:
        self._send(Pong(data))

    def close(self, code: int) -> None:
        self._send(CloseConnection(code, "goodbye"))


class WebsocketsClient:
    """The same with websockets."""

    def __init__(self) -> None:
        protocol = pytest.importorskip("websockets.client")
        parse_uri = pytest.importorskip("websockets.uri").parse_uri
        server = pytest.importorskip("websockets.server").ServerProtocol()
        self._connection = protocol.ClientProtocol(parse_uri("ws://gateway/?v=10"))
        self._connection.send_request(self._connection.connect())
        self.written = b""
        self._flush()
        self.head = len(self.written)
        server.receive_data(self.written)
        (request,) = server.events_received()
        server.send_response(server.accept(request))
        self._connection.receive_data(b"".join(server.data_to_send()))
        assert self._connection.events_received()

    def _flush(self) -> None:
        self.written += b"".join(self._connection.data_to_send())

    def text(self, document: str) -> None:
        self._connection.send_text(document.encode())
        self._flush()

    def binary(self, data: bytes) -> None:
        self._connection.send_binary(data)
        self._flush()

    def ping(self, data: bytes) -> None:
        self._connection.send_ping(data)
        self._flush()

    def pong(self, data: bytes) -> None:
        self._connection.send_pong(data)
        self._flush()

    def close(self, code: int | None) -> None:
        if code is None:
            self._connection.send_close()
        else:
            self._connection.send_close(code, "goodbye")
        self._flush()


Client = WsprotoClient | WebsocketsClient

with_both = pytest.mark.parametrize("make", [WsprotoClient, WebsocketsClient], ids=["wsproto", "websockets"])


def raw_frame(first: int, data: bytes, *, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """Write one short frame of a client by hand."""
    assert len(data) < 126
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([first, 0x80 | len(data)]) + mask + masked


def payload(opcode: int, data: object) -> str:
    return json.dumps({"op": opcode, "d": data})


def converse(client: Client) -> list[tuple[int, Frame]]:
    """Say a bit of everything; the text frames, and where each ends."""
    frames: list[tuple[int, Frame]] = []

    def say(document: str, frame: Frame) -> None:
        client.text(document)
        frames.append((len(client.written), frame))

    say(payload(2, {"token": "x", "properties": {}}), Frame(2))
    client.ping(b"are you there")
    say(payload(1, None), Frame(1))
    client.pong(b"")
    say(payload(1, 42), Frame(1, sequence=42))
    say(payload(6, {"token": "x", "session_id": "s-1", "seq": 3}), Frame(6, session_id="s-1"))
    say(payload(3, {"activities": [{"name": f"{TAG}", "type": 3}], "status": "idle" * 40}), Frame(3, tag=TAG))
    say(payload(4, {"guild_id": "7", "channel_id": str(TAG + 1)}), Frame(4, tag=TAG + 1))
    return frames


# --- what libraries write ---


@with_both
def test_a_conversation_is_read_as_it_was_written(make: Callable[[], Client]) -> None:
    client = make()
    frames = converse(client)
    assert read_client(client.written) == Transcript(tuple(frame for _, frame in frames))
    assert read_client(bytearray(client.written)) == read_client(client.written)
    client.close(4000)
    assert read_client(client.written) == Transcript(tuple(frame for _, frame in frames), close_code=4000)


@with_both
def test_at_every_cut_the_whole_frames_stay_whole(make: Callable[[], Client]) -> None:
    client = make()
    frames = converse(client)
    before_close = len(client.written)
    client.close(1000)
    boundaries = {client.head, *(end for end, _ in frames)}
    for end in range(1, len(client.written)):
        transcript = read_client(client.written[:end])
        whole = tuple(frame for at, frame in frames if at <= end)
        assert tuple(frame for frame in transcript.frames if frame.whole) == whole
        # At most one frame is cut, it is the last, and nothing is known of it.
        assert transcript.frames[len(whole) :] in ((), (Frame(None, whole=False),))
        assert not transcript.strange
        assert not transcript.after_close
        assert transcript.close_code is None
        if end in boundaries:
            assert not transcript.cut
        if end < client.head or end > before_close:
            assert transcript.cut


@with_both
def test_a_text_frame_that_lacks_one_byte_is_cut(make: Callable[[], Client]) -> None:
    client = make()
    client.text(payload(4, {"channel_id": str(TAG)}))
    assert read_client(client.written[:-1]) == Transcript((Frame(None, whole=False),), cut=True)
    assert read_client(client.written) == Transcript((Frame(4, tag=TAG),))


@with_both
@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_frames_of_every_length_are_stepped_over(make: Callable[[], Client], length: int) -> None:
    client = make()
    client.text("x" * length)
    client.text(payload(4, {"channel_id": str(TAG)}))
    assert read_client(client.written) == Transcript((Frame(None), Frame(4, tag=TAG)))


@with_both
@pytest.mark.parametrize("length", [125, 126, 65_535, 65_536])
def test_a_long_payload_is_read(make: Callable[[], Client], length: int) -> None:
    document = payload(31, {"guild_ids": [str(TAG)], "x": ""})
    client = make()
    client.text(document[:-3] + "y" * (length - len(document)) + document[-3:])
    assert read_client(client.written).frames == (Frame(31, tag=TAG),)


@with_both
@pytest.mark.parametrize("code", [1000, 1001, 3000, 4000, 4999])
def test_close_codes_are_read(make: Callable[[], Client], code: int) -> None:
    client = make()
    client.close(code)
    assert read_client(client.written) == Transcript(close_code=code)


def test_a_close_without_a_code_is_1005() -> None:
    client = WebsocketsClient()
    client.close(None)
    assert read_client(client.written) == Transcript(close_code=1005)


@with_both
@pytest.mark.parametrize("more", [b"x", raw_frame(0x81, b"{}"), raw_frame(0x88, b"")], ids=["byte", "text", "close"])
def test_what_follows_a_close_is_noted(make: Callable[[], Client], more: bytes) -> None:
    client = make()
    client.text(payload(1, 5))
    client.close(4000)
    assert read_client(client.written + more) == Transcript((Frame(1, sequence=5),), close_code=4000, after_close=True)


@with_both
def test_a_binary_frame_is_strange(make: Callable[[], Client]) -> None:
    client = make()
    client.text(payload(1, 5))
    client.binary(b"\x00\x01")
    assert read_client(client.written) == Transcript((Frame(1, sequence=5),), strange="a frame of kind 2")


# --- what no library writes ---


@pytest.mark.parametrize(
    ("frame", "strange"),
    [
        (b"\x81\x02{}", "a frame without a mask"),
        (raw_frame(0x01, b"{}"), "a fragment, or a reserved bit"),
        (raw_frame(0xC1, b"{}"), "a fragment, or a reserved bit"),
        (raw_frame(0xA1, b"{}"), "a fragment, or a reserved bit"),
        (raw_frame(0x91, b"{}"), "a fragment, or a reserved bit"),
        (raw_frame(0x80, b"{}"), "a frame of kind 0"),
        (raw_frame(0x83, b"{}"), "a frame of kind 3"),
        (raw_frame(0x8B, b"{}"), "a frame of kind 11"),
    ],
)
def test_what_a_client_must_not_write_is_noted(frame: bytes, strange: str) -> None:
    before = raw_frame(0x81, payload(1, 5).encode())
    assert read_client(REQUEST + before + frame) == Transcript((Frame(1, sequence=5),), strange=strange)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"d": 1}',
        b'{"op": "1"}',
        b'{"op": null}',
        b"\xff\xfe",
        b'{"op": 1, "d": "x"}',
        b'{"op": 1, "d": {}}',
        b'{"op": 6, "d": null}',
        b'{"op": 6, "d": {"session_id": 5}}',
        b'{"op": 6}',
    ],
)
def test_text_that_is_no_payload_has_no_opcode(document: bytes) -> None:
    after = raw_frame(0x81, payload(1, 6).encode())
    assert read_client(REQUEST + raw_frame(0x81, document) + after).frames == (Frame(None), Frame(1, sequence=6))


@pytest.mark.parametrize(
    ("data", "tag"),
    [
        (TAG, TAG),
        (str(TAG), TAG),
        ({"a": [{"b": f"{TAG}"}]}, TAG),
        ({"first": str(FIRST_TAG), "second": str(TAG)}, FIRST_TAG),
        (TAG * 10, None),
        (f"1{TAG}", None),
        (7, None),
        (None, None),
    ],
)
def test_the_number_of_a_command_is_found_wherever_it_stands(data: object, tag: int | None) -> None:
    assert read_client(REQUEST + raw_frame(0x81, payload(4, data).encode())).frames == (Frame(4, tag=tag),)


def test_without_a_whole_request_there_are_no_frames() -> None:
    assert read_client(b"") == Transcript()
    for end in range(1, len(REQUEST)):
        assert read_client(REQUEST[:end]) == Transcript(cut=True)
    assert read_client(REQUEST) == Transcript()


@given(st.binary(max_size=200))
def test_garbage_is_read_without_an_error(data: bytes) -> None:
    transcript = read_client(REQUEST + data)
    assert len(transcript.frames) <= len(data)
    assert not transcript.after_close or transcript.close_code is not None


@given(st.binary(max_size=120), st.binary(min_size=4, max_size=4))
def test_the_mask_is_undone(data: bytes, mask: bytes) -> None:
    document = json.dumps({"op": 1, "d": len(data), "x": data.hex()[:80]}).encode()
    assert read_client(REQUEST + raw_frame(0x81, document, mask=mask)).frames == (Frame(1, sequence=len(data)),)
