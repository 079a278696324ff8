"""The WebSocket behind a handful of methods, and what one is made of.

There are two of them: `_transport_websockets`, on the sans-I/O core of the ``websockets`` package, and
`_transport_trio_websocket`. `_open_transport` chooses one, and opens it. A transport hands over *batches* of
messages, so that a fast one need not wake the reader for each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from urllib.parse import SplitResult

    from trioshard.errors import ConnectionClosed

__all__ = [
    "CLOSE_TIMEOUT",
    "NO_CODE",
    "RECEIVE_BUFFER",
    "Helpers",
    "Line",
    "NoWebSocket",
    "Opening",
    "Refused",
    "Transport",
    "check_status",
]

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a closing handshake may take. The peer may be gone, and we have what we need."""

RECEIVE_BUFFER: Final = 65536
"""Bytes that are read from the stream at a time, at most."""

NO_CODE: Final = frozenset({1005, 1006})
"""What stands for a close frame without a code, and for no close frame."""


class Transport(Protocol):
    """One open WebSocket, as the connection needs it."""

    @property
    def is_resting(self) -> bool:
        """Whether no more messages will come until bytes arrive. When it becomes true, `Opening.resting` is called."""
        ...

    async def receive_batch(self) -> list[bytes | str]:
        """Wait for messages; return every complete one that is there, at least one.

        Raises:
            ConnectionClosed: the peer sent a close frame.
            ConnectionLost: it ended without one.
            GatewayProtocolError: the stream makes no sense, or a message is too long.
        """
        ...

    async def send(self, document: bytes) -> None:
        """Write one text message, whole. When cancelled half-way, nothing more is ever written.

        Raises:
            ConnectionLost: the message did not get through.
        """
        ...

    def close_seen(self) -> ConnectionClosed | None:
        """Return the peer's close frame, if one has been read."""
        ...

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        """Say goodbye with this close code, if the stream still allows it. Takes at most `CLOSE_TIMEOUT`, shielded.

        ``wait``: for the peer's answer. Without it the code may get lost, if the peer was still writing; who wants to
        reconnect saves a round trip. A transport that cannot do otherwise waits all the same.

        Nobody may be receiving any more.
        """
        ...


class Line(trio.abc.Stream):
    """The dialled stream, below TLS.

    When it is ``tolerant``, a write that breaks is noted and not raised. The close frame that says why may lie unread
    in the socket, and TLS reads no further after an error.
    """

    def __init__(self, dialled: trio.abc.Stream) -> None:
        self._dialled = dialled
        self.tolerant = False
        self.write_broken = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._dialled.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if not self.tolerant:
                raise
            self.write_broken = True

    async def wait_send_all_might_not_block(self) -> None:
        await self._dialled.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._dialled.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._dialled.aclose()


class Helpers:
    """Where tasks may run until the connection is over.

    No cancellation from outside reaches them: whoever says goodbye needs them until then.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: set[trio.CancelScope] = set()
        self._ended = False

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run ``function(*args)`` in a task of its own."""
        self._nursery.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            if self._ended:
                scope.cancel()
            try:
                await function(*args)
            finally:
                self._scopes.discard(scope)

    def end(self) -> None:
        """Cancel them all."""
        self._ended = True
        for scope in self._scopes:
            scope.cancel()


@dataclass(frozen=True)
class Opening:
    """What a WebSocket is made of.

    Attributes:
        helpers: where tasks may run until the connection is over.
        line: the dialled stream; it knows whether a write has broken.
        stream: the line itself, or TLS on it.
        url: where the WebSocket is.
        max_message_size: bytes that one message may have.
        heard: to be called whenever bytes arrive.
        resting: to be called when `Transport.is_resting` becomes true, unless a batch is returned right then.
    """

    helpers: Helpers
    line: Line
    stream: trio.abc.Stream
    url: SplitResult
    max_message_size: int
    heard: Callable[[], None]
    resting: Callable[[], None]


class Refused(Exception):
    """The server answered the WebSocket request with a status other than 101."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


def check_status(response: bytes | bytearray) -> None:
    """Look for a refusal at the beginning of a response. Its body may be long, slow, or have no end.

    Raises:
        Refused: the status is there, and is not 101.
    """
    status = _STATUS.match(response)
    if status is not None and status[1] != b"101":
        raise Refused(int(status[1]))


class NoWebSocket(Exception):
    """What the server answered is no WebSocket handshake."""


_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[ \r\n]")
