"""`TLSStream` by itself, against Trio's own TLS on the server's side; and beside Trio's own on the client's."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.peer import MEGABYTE, PATIENCE
from trioshard._tls import TLSStream
from trioshard.testing import MemoryStream, memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

NAME: Final = "gateway.test"
RECORD: Final = 16384
"""Bytes of text in the largest record."""


class World:
    """An authority, a client that trusts it, and servers that it vouches for."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)
        self.leaf = self.authority.issue_cert(NAME)

    def server(self, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (leaf or self.leaf).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def server_on(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.SSLStream[trio.abc.Stream]:
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True)


@asynccontextmanager
async def connected(
    world: World, *, context: ssl.SSLContext | None = None, capacity: int = 65536
) -> AsyncGenerator[tuple[TLSStream, trio.SSLStream[MemoryStream]]]:
    """Both ends, after the handshake. ``capacity`` is how many bytes each direction holds."""
    near, far = memory_stream_pair(capacity)
    client = TLSStream(near, world.client, server_hostname=NAME)
    server = server_on(far, context or world.server())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            # In the background: the tickets that end it may fill the line before anybody reads them.
            nursery.start_soon(server.do_handshake)
            await client.do_handshake()
            await wait_all_tasks_blocked()
            yield client, server
            nursery.cancel_scope.cancel()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int, max_bytes: int | None = None) -> bytes:
    """Receive so many bytes, of which no piece may be longer than was asked for, and none empty."""
    received = b""
    while len(received) < size:
        data = await stream.receive_some(max_bytes)
        assert 0 < len(data) <= (max_bytes or size), f"{len(data)} bytes after {len(received)} of {size}"
        received += data
    return received


async def receive_rest(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive until the end."""
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


# --- the handshake ---


@pytest.mark.parametrize("capacity", [1, 100, 65536])
async def test_both_agree_however_little_the_line_holds(capacity: int, world: World, autojump_clock: MockClock) -> None:
    async with connected(world, capacity=capacity) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"there")
        assert await receive_exactly(server, 5) == b"there"
        nursery.start_soon(server.send_all, b"and back")
        assert await receive_exactly(client, 8) == b"and back"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_may_speak_one_version_only(
    version: ssl.TLSVersion, world: World, autojump_clock: MockClock
) -> None:
    context = world.server()
    context.minimum_version = context.maximum_version = version
    async with connected(world, context=context) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"there" * 10_000)
        assert await receive_exactly(server, 50_000) == b"there" * 10_000
        nursery.start_soon(server.send_all, b"back" * 10_000)
        assert await receive_exactly(client, 40_000) == b"back" * 10_000
        assert server.version() == version.name.replace("_", ".")


def of_another_name(world: World) -> ssl.SSLContext:
    return world.server(world.authority.issue_cert("other.test"))


def of_an_unknown_authority(world: World) -> ssl.SSLContext:
    return world.server(trustme.CA().issue_cert(NAME))


def expired(world: World) -> ssl.SSLContext:
    return world.server(world.authority.issue_cert(NAME, not_after=datetime(2001, 1, 1, tzinfo=UTC)))


def self_signed(world: World) -> ssl.SSLContext:
    own = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with own.cert_pem.tempfile() as certificate, own.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("certificate", [of_another_name, of_an_unknown_authority, expired, self_signed])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_certificate_that_does_not_verify_ends_it_and_the_server_is_told(
    certificate: Callable[[World], ssl.SSLContext],
    version: ssl.TLSVersion,
    world: World,
    autojump_clock: MockClock,
) -> None:
    near, far = memory_stream_pair()
    context = certificate(world)
    context.minimum_version = context.maximum_version = version
    client, server = TLSStream(near, world.client, server_hostname=NAME), server_on(far, context)

    async def serve() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.do_handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert "ALERT" in str(caught.value.__cause__).upper()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert trio.current_time() == 0


async def test_a_server_that_has_gone_need_not_be_told(world: World, autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    client = TLSStream(near, world.client, server_hostname=NAME)
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            flight = await first_flight(far, expired(world))
            await far.send_all(flight)
            await far.aclose()

        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def first_flight(stream: MemoryStream, context: ssl.SSLContext) -> bytes:
    """Read the client's first words, and return what the server says to them."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(await stream.receive_some())
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_leaves_in_the_middle_of_the_handshake_is_not_waited_for(
    share: float, how: str, world: World, autojump_clock: MockClock
) -> None:
    near, far = memory_stream_pair()
    client = TLSStream(near, world.client, server_hostname=NAME)

    async def serve() -> None:
        flight = await first_flight(far, world.server())
        await far.send_all(flight[: int(len(flight) * share)])
        await wait_all_tasks_blocked()
        far.close() if how == "close" else far.reset()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(trio.BrokenResourceError):
                await client.do_handshake()
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02\x28"]
)
async def test_a_peer_that_speaks_something_else_is_no_server(
    answer: bytes, world: World, autojump_clock: MockClock
) -> None:
    near, far = memory_stream_pair()
    client = TLSStream(near, world.client, server_hostname=NAME)
    await far.send_all(answer)
    with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError) as caught:
        await client.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


async def test_a_handshake_can_be_cancelled(world: World, autojump_clock: MockClock) -> None:
    near, _ = memory_stream_pair()
    client = TLSStream(near, world.client, server_hostname=NAME)
    with trio.move_on_after(5) as scope:
        await client.do_handshake()
    assert scope.cancelled_caught


# --- what is received ---


@pytest.mark.parametrize("max_bytes", [1, 2, 17, RECORD - 1, RECORD, RECORD + 1, 100_000, None])
async def test_no_more_is_returned_than_was_asked_for(
    max_bytes: int | None, world: World, autojump_clock: MockClock
) -> None:
    payload = Random(0).randbytes(3 * RECORD + 17)
    async with connected(world) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, payload)
        assert await receive_exactly(client, len(payload), max_bytes) == payload


async def test_what_is_there_comes_at_once_and_together(world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        for number in range(100):
            await server.send_all(b"%02d" % number)
        assert await client.receive_some() == b"".join(b"%02d" % number for number in range(100))


async def test_reading_is_a_checkpoint_although_everything_is_there(world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        await server.send_all(b"x" * 100)
        await client.receive_some(1)
        with trio.testing.assert_checkpoints():
            await client.receive_some(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.receive_some(1)
        assert scope.cancelled_caught
        assert await receive_exactly(client, 98) == b"x" * 98


@pytest.mark.parametrize("capacity", [997, 65536])
async def test_megabytes_pass_in_both_directions_at_once(
    capacity: int, world: World, autojump_clock: MockClock
) -> None:
    there, back = Random(1).randbytes(MEGABYTE), Random(2).randbytes(MEGABYTE)
    received: dict[str, bytes] = {}

    async def listen(name: str, stream: trio.abc.ReceiveStream) -> None:
        received[name] = await receive_exactly(stream, MEGABYTE)

    async with connected(world, capacity=capacity) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, there)
            nursery.start_soon(server.send_all, back)
            nursery.start_soon(listen, "client", client)
            nursery.start_soon(listen, "server", server)
    assert received["server"] == there
    assert received["client"] == back


@pytest.mark.parametrize("tickets", [0, 2, 20])
async def test_session_tickets_are_neither_data_nor_the_end(
    tickets: int, world: World, autojump_clock: MockClock
) -> None:
    context = world.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = tickets
    received: list[bytes] = []

    async def listen() -> None:
        received.append(await client.receive_some())

    async with connected(world, context=context) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        assert not received
        await server.send_all(b"data")
        await wait_all_tasks_blocked()
        assert received == [b"data"]


class Keys:
    """One direction's keys in TLS 1.3, for records that Python's own TLS cannot be made to write.

    Source: RFC 8446, sections 5.2, 5.3 and 7.1 to 7.3.
    """

    def __init__(self, secret: bytes, cipher: str) -> None:
        self._secret, self._cipher = secret, cipher
        self._hash = hashes.SHA384() if cipher.endswith("SHA384") else hashes.SHA256()
        self._aead = AESGCM(self._expand(b"key", 32 if "256_GCM" in cipher else 16))
        self._iv = int.from_bytes(self._expand(b"iv", 12))
        self._records = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        info = size.to_bytes(2) + bytes([6 + len(label)]) + b"tls13 " + label + b"\x00"
        return HKDFExpand(self._hash, size, info).derive(self._secret)

    def _next_nonce(self) -> bytes:
        nonce = self._iv ^ self._records
        self._records += 1
        return nonce.to_bytes(12)

    def seal(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        return header + self._aead.encrypt(self._next_nonce(), inner, header)

    def open(self, stream: bytes) -> tuple[int, bytes, bytes]:
        """Take one record off the front; return its kind, its content, and the rest."""
        end = 5 + int.from_bytes(stream[3:5])
        inner = self._aead.decrypt(self._next_nonce(), stream[5:end], stream[:5])
        return inner[-1], inner[:-1], stream[end:]

    def updated(self) -> Keys:
        return Keys(self._expand(b"traffic upd", self._hash.digest_size), self._cipher)


HANDSHAKE, DATA = 22, 23
UPDATE, UPDATE_AND_ASK = b"\x18\x00\x00\x01\x00", b"\x18\x00\x00\x01\x01"


async def test_new_keys_are_taken_and_answered_with_new_keys(
    world: World, tmp_path: Path, autojump_clock: MockClock
) -> None:
    context = world.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.keylog_filename = str(tmp_path / "keys")
    async with connected(world, context=context) as (client, server):
        secrets = {
            line.split()[0]: bytes.fromhex(line.split()[2])
            for line in (tmp_path / "keys").read_text().splitlines()
            if not line.startswith("#")
        }
        cipher = server.cipher()
        assert cipher is not None
        ours, theirs = (Keys(secrets[f"{side}_TRAFFIC_SECRET_0"], cipher[0]) for side in ("SERVER", "CLIENT"))
        raw = server.transport_stream
        await raw.send_all(ours.seal(DATA, b"old ") + ours.seal(HANDSHAKE, UPDATE_AND_ASK))
        await raw.send_all(ours.updated().seal(DATA, b"new"))
        assert await receive_exactly(client, 7) == b"old new"
        await client.send_all(b"answer")
        kind, content, rest = theirs.open(await raw.receive_some())
        assert (kind, content) == (HANDSHAKE, UPDATE)
        assert theirs.updated().open(rest) == (DATA, b"answer", b"")


# --- the end ---


@pytest.mark.parametrize("how", ["with a notice", "without a notice"])
async def test_an_end_is_an_end_with_and_without_a_notice(how: str, world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        await server.send_all(b"last")
        await (server if how == "with a notice" else server.transport_stream).aclose()
        assert await client.receive_some() == b"last"
        for _ in range(3):
            with trio.testing.assert_checkpoints():
                assert await client.receive_some() == b""


@pytest.mark.parametrize("together", [True, False])
async def test_a_notice_is_the_end_although_the_line_stays_open(
    together: bool, world: World, autojump_clock: MockClock
) -> None:
    """Whether it comes with the last data, or by itself."""
    async with connected(world) as (client, server):
        await server.send_all(b"last")
        if not together:
            assert await client.receive_some() == b"last"
        with trio.move_on_after(1):  # it would wait for the client's notice
            await server.unwrap()
        if together:
            assert await client.receive_some() == b"last"
        for _ in range(3):
            with trio.fail_after(1):
                assert await client.receive_some() == b""


@pytest.mark.parametrize("missing", [1, 10, 400])
async def test_half_a_record_before_the_end_is_not_data(missing: int, world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        line = server.transport_stream
        near, far = memory_stream_pair()
        server.transport_stream = far  # what it says from now on is cut
        await server.send_all(b"whole")
        whole = await near.receive_some()
        await server.send_all(b"y" * 400)
        await line.send_all(whole + (await near.receive_some())[:-missing])
        await line.aclose()
        assert await receive_rest(client) == b"whole"


async def test_a_reset_is_no_end(world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        server.transport_stream.reset()
        with pytest.raises(trio.BrokenResourceError):
            await receive_rest(client)
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"x")


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x17\x03\x03\x00\x20" + b"x" * 32, id="a record that was not encrypted with our key"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP"),
        pytest.param(b"\x17\x03\x03\xff\xff" + b"x" * 70_000, id="a record that is too long"),
        pytest.param(b"\x99\x03\x03\x00\x01x", id="a record of no kind"),
        pytest.param(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00", id="a handshake in plain text"),
    ],
)
async def test_garbage_breaks_it_for_good_after_the_last_data(
    garbage: bytes, world: World, autojump_clock: MockClock
) -> None:
    async with connected(world, capacity=MEGABYTE) as (client, server):
        await server.send_all(b"fine")
        await server.transport_stream.send_all(garbage)
        assert await receive_exactly(client, 4) == b"fine"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await client.receive_some()
            assert isinstance(caught.value.__cause__, ssl.SSLError)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.send_all(b"x")
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        await client.aclose()


async def test_closing_closes_the_line(world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        await client.aclose()
        assert await receive_rest(server) == b""
        for action in (client.receive_some, lambda: client.send_all(b"x")):
            with pytest.raises(trio.ClosedResourceError):
                await action()


# --- cancellation ---


class Interrupting(trio.abc.Stream):
    """A line on which the reader is cancelled at its n-th read, just before it or just after."""

    def __init__(self, line: MemoryStream) -> None:
        self._line = line
        self.scope = trio.CancelScope()
        self.reads = 0
        self.at: tuple[int, str] | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.reads += 1
        if self.at == (self.reads, "before"):
            self.scope.cancel()
        data = await self._line.receive_some(max_bytes)
        if self.at == (self.reads, "after"):
            self.scope.cancel()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._line.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._line.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._line.aclose()


async def read_with_one_interruption(world: World, payload: bytes, at: tuple[int, str] | None) -> tuple[bytes, int]:
    """Return what a reader receives that is cancelled once, and goes on; and how often the line was read."""
    near, far = memory_stream_pair()
    line = Interrupting(near)
    client, server = TLSStream(line, world.client, server_hostname=NAME), server_on(far, world.server())
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
        line.reads, line.at = 0, at

        async def talk() -> None:
            for start in range(0, len(payload), 150):
                await server.send_all(payload[start : start + 150])
                await trio.sleep(1)

        nursery.start_soon(talk)
        while len(received) < len(payload):
            with line.scope:
                while len(received) < len(payload):
                    received += await client.receive_some(100)
            line.scope = trio.CancelScope()
    return received, line.reads


async def test_a_reader_that_is_cancelled_anywhere_loses_nothing(world: World, autojump_clock: MockClock) -> None:
    payload = Random(3).randbytes(600)
    with trio.fail_after(PATIENCE):
        received, reads = await read_with_one_interruption(world, payload, None)
        assert received == payload
        assert reads > 10
    for number in range(1, reads + 1):
        for when in ("before", "after"):
            with trio.fail_after(PATIENCE):
                received, _ = await read_with_one_interruption(world, payload, (number, when))
            assert received == payload, (number, when)


async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing(world: World, autojump_clock: MockClock) -> None:
    async with connected(world) as (client, server):
        for number in range(50):
            with trio.move_on_after(0.5) as scope:
                await client.receive_some()
            assert scope.cancelled_caught
            await server.send_all(b"%02d" % number)
            assert await receive_exactly(client, 2, 1) == b"%02d" % number


# --- what is sent ---


async def test_what_two_tasks_write_arrives_whole_and_in_the_order_of_the_calls(
    world: World, autojump_clock: MockClock
) -> None:
    calls: list[bytes] = []

    async def write(name: int, random: Random) -> None:
        for _ in range(30):
            message = bytes([name]) * random.choice([1, 50, 3000, 40_000])
            calls.append(message)
            await client.send_all(message)
            await trio.sleep(random.random())

    async with connected(world, capacity=100) as (client, server), trio.open_nursery() as nursery:
        for name in (1, 2):
            nursery.start_soon(write, name, Random(name))
        received = b""
        while len(calls) < 60 or len(received) < sum(map(len, calls)):
            received += await server.receive_some(1000)
        assert received == b"".join(calls)


async def test_a_reader_does_not_wait_for_a_writer_that_is_stuck(world: World, autojump_clock: MockClock) -> None:
    async with connected(world, capacity=500) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x" * 10_000)
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            nursery.start_soon(server.send_all, b"hear me")
            assert await receive_exactly(client, 7) == b"hear me"
        nursery.cancel_scope.cancel()


async def test_after_a_write_that_was_cancelled_reading_goes_on(world: World, autojump_clock: MockClock) -> None:
    async with connected(world, capacity=500) as (client, server):
        with trio.move_on_after(1) as scope:
            await client.send_all(b"x" * 100_000)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"y" * 100_000)
            assert await receive_exactly(client, 100_000) == b"y" * 100_000
        # What did leave is the beginning of what was to be written.
        await client.aclose()
        received = await receive_rest(server)
        assert received == b"x" * len(received)
        assert len(received) < 100_000


async def test_a_write_is_a_checkpoint_and_raises_when_the_peer_has_gone(
    world: World, autojump_clock: MockClock
) -> None:
    async with connected(world) as (client, server):
        with trio.testing.assert_checkpoints():
            await client.send_all(b"x")
        await server.transport_stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"x")


async def test_waiting_for_room_waits_for_room_on_the_line(world: World, autojump_clock: MockClock) -> None:
    async with connected(world, capacity=500) as (client, server):
        await client.wait_send_all_might_not_block()
        with trio.move_on_after(1):
            await client.send_all(b"x" * 10_000)
        with trio.move_on_after(1) as scope:
            await client.wait_send_all_might_not_block()
        assert scope.cancelled_caught
        await server.transport_stream.receive_some()
        await client.wait_send_all_might_not_block()


# --- beside Trio's own ---


@dataclass(frozen=True)
class Script:
    """What is said, and how. Drawn before anybody speaks, so that both clients get the same."""

    capacity: int
    version: ssl.TLSVersion
    turns: tuple[tuple[bytes, bytes], ...]
    """What the client and the server say at the same time."""
    max_bytes: tuple[int | None, ...]
    ending: str


def draw_script(seed: int) -> Script:
    random = Random(seed)
    sizes = [0, 1, 5, 500, RECORD, RECORD + 1, 40_000]
    return Script(
        random.choice([100, 5000, 65536]),
        random.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
        tuple(
            (random.randbytes(random.choice(sizes)), random.randbytes(random.choice(sizes)))
            for _ in range(random.randrange(12))
        ),
        tuple(random.choice([10, 1000, RECORD, 50_000, None]) for _ in range(5)),
        random.choice(["notice", "close", "reset", "garbage"]),
    )


async def converse(world: World, script: Script, *, own: bool) -> tuple[bytes, bytes, str]:
    """Play it with our TLS or Trio's; return what the client heard, what the server heard, and how it ended."""
    near, far = memory_stream_pair(script.capacity)
    client: TLSStream | trio.SSLStream[MemoryStream] = (
        TLSStream(near, world.client, server_hostname=NAME)
        if own
        else trio.SSLStream(near, world.client, server_hostname=NAME, https_compatible=True)
    )
    context = world.server()
    context.minimum_version = context.maximum_version = script.version
    server = server_on(far, context)
    heard = {"client": b"", "server": b""}
    max_bytes = cycle(script.max_bytes)

    async def listen(name: str, stream: trio.abc.ReceiveStream, size: int) -> None:
        end = len(heard[name]) + size
        while len(heard[name]) < end:
            heard[name] += await stream.receive_some(next(max_bytes))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
        for ours, theirs in script.turns:
            async with trio.open_nursery() as turn:
                turn.start_soon(client.send_all, ours)
                turn.start_soon(server.send_all, theirs)
                turn.start_soon(listen, "client", client, len(theirs))
                turn.start_soon(listen, "server", server, len(ours))
        nursery.start_soon(end_conversation, server, script.ending)
        try:
            while data := await client.receive_some(next(max_bytes)):
                heard["client"] += data
        except trio.BrokenResourceError:
            return heard["client"], heard["server"], "broken"
    return heard["client"], heard["server"], "the end"


async def end_conversation(server: trio.SSLStream[MemoryStream], how: str) -> None:
    await server.send_all(b"goodbye")
    await wait_all_tasks_blocked()
    match how:
        case "notice":
            await server.aclose()
        case "close":
            await server.transport_stream.aclose()
        case "reset":
            server.transport_stream.reset()
        case "garbage":
            await server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)


@pytest.mark.parametrize("seed", range(40))
async def test_the_same_conversation_brings_the_same_as_over_trios_own_tls(
    seed: int, world: World, autojump_clock: MockClock
) -> None:
    script = draw_script(seed)
    with trio.fail_after(PATIENCE):
        told = await converse(world, script, own=True)
        assert told == await converse(world, script, own=False)
    assert told[0] == b"".join(theirs for _, theirs in script.turns) + b"goodbye"
    assert told[1] == b"".join(ours for ours, _ in script.turns)
    assert told[2] == ("broken" if script.ending in ("reset", "garbage") else "the end")
