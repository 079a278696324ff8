"""Targets for what reads from a stream: the transport below a shard, and the built-in gateway.

The peer is bytes, cut anywhere, over memory streams and under a clock that jumps: a hang ends at a virtual deadline.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

from tests.fuzz.source import Source
from trioshard._open_transport import CONNECT_TIMEOUT, open_transport
from trioshard._transport import CLOSE_TIMEOUT, Transport
from trioshard.errors import ConnectFailed, ConnectionClosed, ConnectionLost, GatewayProtocolError
from trioshard.testing import MemoryStream, memory_stream_pair, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["TRANSPORTS", "gateway_target", "transport_target"]

TRANSPORTS: Final = ("trio-websocket", "websockets") if find_spec("websockets") else ("trio-websocket",)

PATIENCE: Final = 60.0
"""Virtual seconds that the body of a transport goes on for."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADS: Final = (
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 200 OK", b"HTTP/1.1 429 Too Many Requests", b"HTTP/1.1 302 Found",
    b"HTTP/1.0 101 x", b"HTTP/9.9 101 x", b"HTTP/1.1 101", b"HTTP/1.1 100 Continue", b"HTTP/1.1 999 x", b"SSH-2.0-x",
)  # fmt: skip
_HEADERS: Final = (
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: x", b"Sec-WebSocket-Accept: \xff",
    b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: x", b"Content-Length: 5",
    b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b": x", b" x",
    b"A: " + b"x" * 20_000, b"Retry-After: 1", b"Location: wss://elsewhere/",
)  # fmt: skip
_REQUESTS: Final = (
    b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET /?v=10&encoding=json HTTP/1.1",
    b"GET /?v=10&compress=zlib-stream HTTP/1.1", b"GET /?compress=x&v=7&encoding=etf HTTP/1.1",
    b"POST /api/v10/channels/1/messages HTTP/1.1", b"GET /%ff%00 HTTP/1.1", b"GET /api/v10/gateway/bot HTTP/1.1",
    b"PATCH http://[::1/ HTTP/1.1", b"GET //[ HTTP/1.1", b"\x16\x03\x01\x02",
)  # fmt: skip
_CLIENT_HEADERS: Final = (
    *_HEADERS, b"Host: x", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13", b"Authorization: Bot t",
    b"Content-Type: application/json", b"Connection: close", b"Expect: 100-continue",
)  # fmt: skip


@contextmanager
def _deterministic() -> Generator[None]:
    # Trio shuffles the tasks that are ready; a failing input has to fail again. pytest-trio sets the same switch.
    module: Any = trio_run
    before = module._ALLOW_DETERMINISTIC_SCHEDULING, module._r.getstate()
    module._ALLOW_DETERMINISTIC_SCHEDULING = True
    module._r.seed(0)
    try:
        yield
    finally:
        module._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        module._r.setstate(before[1])


def _run(play: Callable[[Source], Awaitable[None]], data: bytes) -> None:
    with _deterministic():
        trio.run(play, Source(data), clock=MockClock(autojump_threshold=0))


# --- bytes that a peer may send ---


def _frame(source: Source, *, masked: bool) -> bytes:
    """A WebSocket frame, with a head that may not be true."""
    opcode = source.choice((1, 1, 1, 2, 2, 0, 8, 9, 10, 3, 15))
    first = (0 if source.byte() % 4 == 3 else 0x80) | opcode | (source.byte() & 0x70 if source.rarely() else 0)
    payload = _payload(source, opcode)
    if source.rarely():
        masked = not masked
    mark = 0x80 if masked else 0
    match source.below(16):
        case 15:
            head = bytes([first, mark | 127]) + source.choice((1 << 63, 1 << 31, (1 << 62) + 1, 5000)).to_bytes(8)
        case 14 if len(payload) < 65536:
            head = bytes([first, mark | 126]) + len(payload).to_bytes(2)
        case _ if len(payload) < 126:
            head = bytes([first, mark | len(payload)])
        case _ if len(payload) < 65536:
            head = bytes([first, mark | 126]) + len(payload).to_bytes(2)
        case _:
            head = bytes([first, mark | 127]) + len(payload).to_bytes(8)
    # A mask of zeros leaves the payload as it is.
    return head + (bytes(4) if masked else b"") + payload


def _payload(source: Source, opcode: int) -> bytes:
    if opcode == 8:
        return source.choice((1000, 4004, 4009, 1001, 1002, 1005, 1006, 1015, 0, 65535, 3000)).to_bytes(
            2
        ) + source.chunk(130)
    match source.below(8):
        case 0:
            return source.json()
        case 1:
            return source.chunk() * source.choice((1, 100, 1500))
        case 2:
            return json.dumps({"op": source.choice(_OPCODES), "d": source.value()}).encode()
        case 3 | 4:
            op = source.choice(tuple(_GOOD))
            return json.dumps({"op": op, "d": _GOOD[op] | {source.choice(_NAMES): source.value()}}).encode()
        case 5 | 6:
            op = source.choice(tuple(_GOOD))
            return json.dumps({"op": op, "d": _GOOD[op]}).encode()
        case _:
            return source.chunk()


_GOOD: Final[dict[int, dict[str, object]]] = {
    2: {"token": "t", "properties": {"os": "x", "browser": "x", "device": "x"}, "intents": 513},
    1: {},
    3: {"since": None, "activities": [], "status": "online", "afk": False},
    4: {"guild_id": "1", "channel_id": "2", "self_mute": True, "self_deaf": True},
    6: {"token": "t", "session_id": "x", "seq": 1},
    8: {"guild_id": "1", "query": "", "limit": 0},
    31: {"guild_ids": ["1"]},
    43: {"guild_id": "1", "fields": ["status"]},
}
_OPCODES: Final = (0, 1, 1, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 31, 43, 99)
_NAMES: Final = (
    "token", "properties", "intents", "shard", "presence", "compress", "large_threshold", "session_id", "seq",
    "guild_id", "guild_ids", "user_ids", "query", "limit", "nonce", "channel_id", "self_mute", "fields", "since",
    "activities",
    "status", "afk",
)  # fmt: skip


def _cutter(source: Source) -> Callable[[bytes], list[bytes]]:
    """Decide how to cut bytes up that are not known yet: into three pieces, into single bytes, or not at all."""
    way, *places = source.below(4), source.below(65536), source.below(65536)

    def cut(wire: bytes) -> list[bytes]:
        match way:
            case 0:
                return [wire]
            case 1:
                return [wire[at : at + 1] for at in range(min(len(wire), 200))] + [wire[200:]]
            case _:
                first, second = sorted(place % (len(wire) + 1) for place in places)
                return [wire[:first], wire[first:second], wire[second:]]

    return cut


_End = Literal["close", "reset", "eof", "stay"]


async def _say(stream: MemoryStream, pieces: list[bytes], end: _End) -> None:
    """Send the pieces one by one, and end as told. Whoever listens may leave before."""
    try:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.sleep(0.01)
        match end:
            case "close":
                stream.close()
            case "reset":
                stream.reset()
            case "eof":
                await stream.send_eof()
            case "stay":
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _drain(stream: MemoryStream) -> None:
    try:
        while await stream.receive_some():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


# --- the transport ---


def transport_target(transport: str) -> Callable[[bytes], None]:
    """`open_transport` against a server that says anything, before the handshake and after it."""
    return lambda data: _run(lambda source: _play_server(transport, source), data)


async def _play_server(transport: str, source: Source) -> None:
    client, server = memory_stream_pair()
    max_message_size = source.choice((125, 4096, 100_000))
    good = source.byte() % 4 != 3
    end: _End = source.choice(("close", "reset", "eof", "stay", "stay"))
    acts = [source.below(8) for _ in range(source.below(4))]
    cut = _cutter(source)
    answer = b"" if good else _answer(source)
    wire = b""
    while source.more and len(wire) < 300_000:
        wire += source.chunk() if source.rarely() else _frame(source, masked=False)

    async def serve() -> None:
        head = _accept(await _head(server)) if good else answer
        await _say(server, cut(head + wire), end)
        if end != "reset":
            await _drain(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        before = trio.lowlevel.current_statistics().tasks_living
        started = trio.current_time()
        with trio.fail_after(10 * (CONNECT_TIMEOUT + PATIENCE)):
            await _use_transport(transport, client, max_message_size, acts)
        took = trio.current_time() - started
        assert took <= CONNECT_TIMEOUT + PATIENCE + 2 * CLOSE_TIMEOUT + 1, f"it took {took} s"
        assert trio.lowlevel.current_statistics().tasks_living <= before, "a task was left behind"
        await _expect_closed(client)
        nursery.cancel_scope.cancel()


async def _use_transport(name: str, client: MemoryStream, max_message_size: int, acts: list[int]) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        return client

    opened = False
    try:
        async with open_transport(
            "ws://x/?v=10", dial=dial, max_message_size=max_message_size, transport=name
        ) as transport:
            opened = True
            with trio.move_on_after(PATIENCE):
                for act in acts:
                    await _act(transport, act)
                while True:
                    _check_batch(await transport.receive_batch(), max_message_size)
    except ConnectFailed:
        assert not opened, "ConnectFailed came after the connection was open"
    except (ConnectionLost, ConnectionClosed, GatewayProtocolError):
        assert opened, "an open connection ended that never was open"


async def _act(transport: Transport, act: int) -> None:
    match act:
        case 0:
            await transport.aclose(4900)
        case 1:
            transport.close_seen()
        case 2:
            with trio.move_on_after(0.005):
                await transport.send(b'{"op":1,"d":null}' * 8000)
        case 3:
            with trio.move_on_after(0.02):
                await transport.receive_batch()
        case _:
            with trio.move_on_after(1):
                await transport.send(b'{"op":1,"d":null}')


def _check_batch(batch: list[bytes | str], max_message_size: int) -> None:
    assert batch
    for message in batch:
        size = len(message.encode()) if isinstance(message, str) else len(message)
        assert size <= max_message_size, f"a message of {size} bytes came through, and {max_message_size} is the limit"


async def _expect_closed(stream: MemoryStream) -> None:
    try:
        await stream.send_all(b"")
    except trio.ClosedResourceError:
        return
    except trio.BrokenResourceError:  # the peer has closed it, and we have not
        pass
    raise AssertionError("the stream was left open")


def _answer(source: Source) -> bytes:
    if source.rarely():
        return source.chunk(200)
    lines = [source.choice(_HEADS), *(source.choice(_HEADERS) for _ in range(source.below(6)))]
    return b"\r\n".join(lines) + source.choice((b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"", b"\r\n"))


async def _head(stream: MemoryStream) -> bytes:
    """Read a request, up to its blank line, or the end."""
    head = b""
    try:
        while b"\r\n\r\n" not in head and (data := await stream.receive_some()):
            head += data
    except trio.BrokenResourceError:
        pass
    return head


def _accept(request: bytes) -> bytes:
    """Return the answer that opens the WebSocket."""
    found = re.search(rb"(?i)sec-websocket-key: *([^\r]*)", request)
    accept = base64.b64encode(hashlib.sha1((found[1] if found else b"") + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


# --- the built-in gateway ---

_UPGRADE: Final = (
    b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TARGETS: Final = (
    b"/?v=10&encoding=json",
    b"/?v=10&compress=zlib-stream",
    b"/?v=10&compress=zstd-stream",
    b"/resume",
    b"/?v=9",
)


def gateway_target(data: bytes) -> None:
    """The built-in gateway against a client that says anything. It lets go of it, and serves the next one."""
    _run(_play_client, data)


async def _play_client(source: Source) -> None:
    upgraded = source.byte() % 8 != 7
    end: _End = source.choice(("close", "reset", "eof", "stay"))
    cut = _cutter(source)
    wire = b"GET " + source.choice(_TARGETS) + _UPGRADE if upgraded else b""
    while source.more and len(wire) < 100_000:
        if source.rarely():
            wire += source.chunk()
        else:
            wire += _frame(source, masked=True) if upgraded else _request(source)
    with trio.fail_after(3600):
        async with open_local_gateway(port=None, identify_window=0) as gateway:
            client: Any = await gateway.dial()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drain, client)
                await _say(client, cut(wire), end)
                await trio.sleep(1 if end == "stay" else 0)
                client.close()
            await trio.testing.wait_all_tasks_blocked()
            assert not gateway.connections, "a connection outlives its client"
            async with await gateway.dial() as honest:
                await honest.send_all(b"GET /api/v10/gateway HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await honest.receive_some()).startswith(b"HTTP/1.1 200")


def _request(source: Source) -> bytes:
    lines = [source.choice(_REQUESTS), *(source.choice(_CLIENT_HEADERS) for _ in range(source.below(6)))]
    return b"\r\n".join(lines) + source.choice((b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n")) + source.json()
