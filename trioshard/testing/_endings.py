"""The ways in which a byte stream can end."""

from __future__ import annotations

import enum
import socket
import struct
from typing import Final, Protocol, runtime_checkable

import trio

_DRAIN: Final = 1.0
"""Seconds that a peer has for leaving after the end of our side."""


@runtime_checkable
class Resettable(Protocol):
    """A stream that can break as a TCP connection does, such as a `MemoryStream`."""

    def reset(self) -> None:
        """Lose what is under way, and give both sides an error."""
        ...


class Ending(enum.Enum):
    """How a connection leaves its stream."""

    CLOSE = enum.auto()
    """Closed, after whatever goodbye there was."""
    DROP = enum.auto()
    """The end of the stream, where a goodbye belongs."""
    RESET = enum.auto()
    """Broken, as by a reset of the TCP connection."""


async def end_stream(stream: trio.abc.Stream, ending: Ending) -> None:
    """Leave the stream in this way. It is closed afterwards, cancelled or not."""
    transport = _transport_of(stream)
    try:
        if ending is Ending.DROP:
            await _drop(transport)
        elif ending is Ending.RESET:
            _reset(transport)
    finally:
        # This never waits. Without the shield its checkpoint would let a cancellation take the place of whatever
        # error is on its way through here.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


def _transport_of(stream: trio.abc.Stream) -> trio.abc.Stream:
    """What carries the bytes of a TLS stream; any other stream itself."""
    return getattr(stream, "transport_stream", stream)


async def _drop(transport: trio.abc.Stream) -> None:
    """Send the end, and read on for a moment: a socket that is closed with unread data resets the connection."""
    if not isinstance(transport, trio.abc.HalfCloseableStream):
        return
    with trio.move_on_after(_DRAIN):
        try:
            await transport.send_eof()
            while await transport.receive_some(65_536):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass


def _reset(transport: trio.abc.Stream) -> None:
    if isinstance(transport, Resettable):
        transport.reset()
    elif isinstance(transport, trio.SocketStream):
        # Closing with a linger time of zero sends RST.
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.socket.close()
