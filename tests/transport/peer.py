"""The server's side of a WebSocket in plain bytes: no library takes part, so none is judged by itself."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from trioshard._open_transport import open_transport
from trioshard._transport import Transport
from trioshard.testing import memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MEGABYTE: Final = 1024 * 1024
PATIENCE: Final = 300.0
"""Virtual seconds that a test may take: one that hangs must fail."""


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, mask: bytes = b"") -> bytes:
    """Encode one frame; a server's has no mask."""
    length, masked = len(payload), 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if length < 126:
        head += bytes([masked | length])
    elif length < 65536:
        head += struct.pack("!BH", masked | 126, length)
    else:
        head += struct.pack("!BQ", masked | 127, length)
    return head + mask + (unmask(payload, mask) if mask else payload)


def text(payload: str) -> bytes:
    return frame(TEXT, payload.encode())


def closing(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


def unmask(payload: bytes, mask: bytes) -> bytes:
    pattern = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(payload), "big")


@dataclass(frozen=True)
class Frame:
    """One frame of the client, unmasked."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big")


def split_frame(data: bytes) -> tuple[Frame | None, bytes]:
    """Take one whole frame off the front of what a client wrote. It must be masked and in one piece."""
    if len(data) < 2:
        return None, data
    assert data[0] & 0xF0 == 0x80, f"fragmented, or a reserved bit: {data[0]:#x}"
    assert data[0] & 0x0F in (TEXT, CLOSE, PING, PONG), f"opcode {data[0] & 0x0F}"
    assert data[1] & 0x80, "a frame without a mask"
    length, start = data[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        length, start = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    end = start + 4 + length
    if len(data) < end:
        return None, data
    mask = data[start : start + 4]
    return Frame(data[0] & 0x0F, unmask(data[start + 4 : end], mask)), data[end:]


class Peer:
    """One connection, seen from the server."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.request = ""
        self.unread = b""

    async def read_request(self) -> None:
        while b"\r\n\r\n" not in self.unread:
            data = await self.stream.receive_some()
            assert data, "the client hung up in the middle of its request"
            self.unread += data
        request, _, self.unread = self.unread.partition(b"\r\n\r\n")
        self.request = request.decode()

    def acceptance(self, *headers: str) -> bytes:
        """The answer that opens the WebSocket."""
        key = re.search(r"(?i)^sec-websocket-key: *(\S+)", self.request, re.MULTILINE)
        assert key is not None
        digest = hashlib.sha1(key[1].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        return response(
            101,
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
            *headers,
        )

    async def accept(self, first: bytes = b"") -> None:
        """Open the WebSocket; ``first`` follows in the same segment."""
        await self.read_request()
        await self.stream.send_all(self.acceptance() + first)

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def send_byte_by_byte(self, data: bytes) -> None:
        for position in range(len(data)):
            await self.stream.send_all(data[position : position + 1])

    async def receive(self) -> Frame:
        """The client's next frame."""
        while True:
            found, self.unread = split_frame(self.unread)
            if found is not None:
                return found
            data = await self.stream.receive_some()
            assert data, f"the client hung up with {self.unread!r}"
            self.unread += data

    async def receive_rest(self) -> list[Frame]:
        """Every frame until the client hangs up; what may be left of a cut one stays in `unread`."""
        frames: list[Frame] = []
        while True:
            found, self.unread = split_frame(self.unread)
            if found is not None:
                frames.append(found)
                continue
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return frames
            if not data:
                return frames
            self.unread += data


def response(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Status", *headers, "", ""]).encode()


@dataclass(frozen=True)
class Tls:
    """The certificates of both sides."""

    client: ssl.SSLContext
    server: ssl.SSLContext


@asynccontextmanager
async def opened(
    transport: str,
    *,
    tls: Tls | None = None,
    first: bytes = b"",
    capacity: int = 65536,
    max_message_size: int = 8 * MEGABYTE,
    heard: Callable[[], None] = lambda: None,
) -> AsyncGenerator[tuple[Transport, Peer]]:
    """Open a transport to a peer that has accepted it.

    ``capacity`` is how many bytes each direction holds before its sender has to wait.
    """
    client, server = memory_stream_pair(capacity)
    peer = Peer(trio.SSLStream(server, tls.server, server_side=True, https_compatible=True) if tls else server)

    async def dial(host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("gateway.test", 443 if tls else 80)
        await trio.lowlevel.checkpoint()
        return client

    async def accept() -> None:
        # A client that is cancelled in the middle leaves a broken stream behind; one that fails says so itself.
        with suppress(trio.BrokenResourceError):
            await peer.accept(first)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        with trio.fail_after(PATIENCE):
            async with open_transport(
                f"{'wss' if tls else 'ws'}://gateway.test/path?v=10",
                dial=dial,
                ssl_context=tls.client if tls else None,
                max_message_size=max_message_size,
                transport=transport,
                heard=heard,
            ) as open_one:
                yield open_one, peer


async def receive(transport: Transport, count: int) -> list[bytes | str]:
    """Receive exactly so many messages."""
    messages: list[bytes | str] = []
    while len(messages) < count:
        batch = await transport.receive_batch()
        assert batch
        messages += batch
    assert len(messages) == count
    return messages


async def ending(transport: Transport) -> tuple[list[bytes | str], Exception]:
    """Receive until it ends: what came, and why it ended."""
    messages: list[bytes | str] = []
    while True:
        try:
            messages += await transport.receive_batch()
        except Exception as exc:
            return messages, exc
