"""HTTP/1.1 on a Trio stream, just enough of it: whole requests in, whole responses out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import h11
import msgspec
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

if TYPE_CHECKING:
    import trio

BODY_LIMIT: Final = 1024 * 1024
"""Bytes of a request body."""
_READ_SIZE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """One request with its body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    """By lower-case name."""
    raw_headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_upgrade(self) -> bool:
        """Whether the client wants to speak WebSocket from here on."""
        return self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True, slots=True)
class Response:
    """One response."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"

    @classmethod
    def json(cls, data: Any, status: int = 200) -> Response:
        """A response with a JSON body."""
        return cls(status, msgspec.json.encode(data))

    @classmethod
    def text(cls, text: str, status: int) -> Response:
        """A response for human eyes."""
        return cls(status, text.encode(), "text/plain; charset=utf-8")

    @classmethod
    def error(cls, status: int, message: str, code: int = 0) -> Response:
        """An error in Discord's form."""
        return cls.json({"message": message, "code": code}, status)


class HttpPeer:
    """The server's end of one HTTP connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER)
        self._wants_body = True

    @property
    def trailing(self) -> bytes:
        """What came after the request: the first bytes of the protocol that was switched to."""
        return self._h11.trailing_data[0]

    async def next_request(self) -> Request | None:
        """The next whole request; None when there will be none. A faulty one is answered right here."""
        self._wants_body = True
        try:
            if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
                self._h11.start_next_cycle()
            if self._h11.our_state is not h11.IDLE:
                return None
            head = await self._next_event()
            if not isinstance(head, h11.Request):
                return None
            self._wants_body = head.method != b"HEAD"
            body = await self._read_body()
        except h11.RemoteProtocolError as error:
            await self.respond(Response.text(str(error), error.error_status_hint))
            return None
        if body is None:
            await self.respond(Response.error(413, "Request entity too large", 40005))
            return None
        try:
            return _to_request(head, body)
        except ValueError:  # such as the unfinished address in "GET //["
            await self.respond(Response.text("This target is no URL.", 400))
            return None

    async def respond(self, response: Response) -> None:
        """Answer the last request."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Length", str(len(response.body)))]
        if response.body:
            headers.append(("Content-Type", response.content_type))
        if self._h11.their_state is not h11.DONE:
            headers.append(("Connection", "close"))
        parts = [
            self._h11.send(h11.Response(status_code=response.status, headers=headers)),
            self._h11.send(h11.Data(data=response.body)) if response.body and self._wants_body else b"",
            self._h11.send(h11.EndOfMessage()),
        ]
        await self._stream.send_all(b"".join(part for part in parts if part))

    async def accept_websocket(self, request: Request) -> bool:
        """Switch to WebSocket; False when the handshake was faulty and has been refused."""
        handshake = H11Handshake(ConnectionType.SERVER)
        try:
            handshake.initiate_upgrade_connection(request.raw_headers, request.path)
        except (RemoteProtocolError, h11.LocalProtocolError) as error:
            await self.respond(Response.text(str(error), 400))
            return False
        await self._stream.send_all(handshake.send(AcceptConnection()))
        return True

    async def _read_body(self) -> bytes | None:
        """The body up to its end; None when it is too long."""
        body = bytearray()
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > BODY_LIMIT:
                    return None
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                # h11 raises when a body breaks off, so that the loop over a body always ends.
                return event
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._h11.send(go_on) or b"")
            self._h11.receive_data(bytes(await self._stream.receive_some(_READ_SIZE)))


def _to_request(head: h11.Request, body: bytes) -> Request:
    target = urlsplit(head.target.decode("ascii", "replace"))
    query = {name: values[-1] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
    raw_headers = list(head.headers)
    headers = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in raw_headers}
    return Request(head.method.decode("ascii"), target.path, query, headers, raw_headers, body)
