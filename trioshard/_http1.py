"""One HTTP/1.1 request on a stream, and its answer: what a proxy is asked, and what the API is asked.

No redirect is followed, nothing is unpacked, no second request is made: what is not there needs no switching off.
What a status means is said here, too, for whoever meets one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

from trioshard._transport import RECEIVE_BUFFER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Exchange", "HungUp", "TooLong", "looks_intercepted", "waiting_helps"]

_NOT_NOW: Final = (408, 425, 429)
_NETWORK_AUTHENTICATION_REQUIRED: Final = 511


class HungUp(Exception):
    """The server ended the connection before its answer was whole."""


class TooLong(Exception):
    """The body of the answer is longer than anybody wants to read."""


class Exchange:
    """One request on a stream. The stream stays the caller's, and so does the time limit.

    All methods raise `h11.RemoteProtocolError` when what comes is not HTTP, and what the stream raises.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._ended = False

    async def ask(self, method: str, target: str, headers: Mapping[str, str]) -> h11.Response:
        """Send a request without a body, and return the head of the answer.

        Raises:
            HungUp: there was none.
        """
        request = h11.Request(method=method, target=target, headers=list(headers.items()))
        data = self._http.send(request)
        self._http.send(h11.EndOfMessage())  # no bytes, without a body
        assert data is not None
        with suppress(trio.BrokenResourceError):  # who refuses may have answered, and hung up, before this
            await self._stream.send_all(data)
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event

    async def read_body(self, limit: int) -> bytes:
        """Return the body of the answer.

        Raises:
            TooLong: it has more than ``limit`` bytes. What follows them was not read.
            HungUp: it was cut.
        """
        body = bytearray()
        while True:
            event = await self._next_event()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise TooLong

    @property
    def rest(self) -> bytes:
        """What came right behind the answer to a CONNECT: the first bytes out of the tunnel."""
        return bytes(self._http.trailing_data[0])

    async def _next_event(self) -> Any:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                if self._ended:
                    raise HungUp from exc
                raise
            if event is not h11.NEED_DATA:
                return event
            data = await self._stream.receive_some(RECEIVE_BUFFER)
            self._ended = not data
            self._http.receive_data(bytes(data))


def looks_intercepted(status: int) -> bool:
    """Return whether this status is unlikely from the one who was asked: a login page, or the way to it."""
    return 200 <= status < 400 or status == _NETWORK_AUTHENTICATION_REQUIRED


def waiting_helps(status: int) -> bool:
    """Return whether a later attempt may be answered otherwise: a server in trouble recovers, a portal goes away."""
    return status >= 500 or status in _NOT_NOW or looks_intercepted(status)
