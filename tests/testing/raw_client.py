"""A client without opinions: it says whatever a test wants said, and shows whatever comes back."""

import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

TOKEN = "a.good.token"
PROPERTIES = {"os": "linux", "browser": "raw", "device": "raw"}


class Rejected(Exception):
    """The gateway answered the upgrade with plain HTTP."""

    def __init__(self, status, body):
        super().__init__(status, body)
        self.status = status
        self.body = body


class Gone(Exception):
    """The gateway closed (with a code) or just went away (None)."""

    def __init__(self, code, reason=None):
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class RawClient:
    def __init__(self, stream, compress=None):
        self.stream = stream
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.compress = compress
        self.inflate = zlib.decompressobj()
        self.buffer = b""
        self.parts = []
        self.inbox = []
        self.messages = []  # (type, length) of each WebSocket message, fragments put together
        self.frames = 0
        self.pongs = 0
        self.sequence = None
        self.session_id = None
        self.resume_url = None

    async def handshake(self, target="/?v=10&encoding=json"):
        if self.compress:
            target += f"&compress={self.compress}"
        await self.stream.send_all(self.ws.send(Request(host="gateway.test", target=target)))
        rejection, body = None, b""
        while True:
            data = await self.stream.receive_some()
            if not data:
                raise Gone(None)
            self.ws.receive_data(data)
            for event in self.ws.events():
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    rejection = event
                elif isinstance(event, RejectData):
                    body += event.data
                    if event.body_finished:
                        raise Rejected(rejection.status_code, body)

    async def send_raw(self, text):
        await self.stream.send_all(self.ws.send(TextMessage(text)))

    async def send_bytes(self, data):
        await self.stream.send_all(self.ws.send(BytesMessage(data)))

    async def send(self, op, d=None):
        await self.send_raw(json.dumps({"op": op, "d": d}))

    async def close(self, code=4900):
        await self.stream.send_all(self.ws.send(CloseConnection(code)))

    async def ping(self):
        await self.stream.send_all(self.ws.send(Ping(b"x")))

    async def _fill(self):
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            raise Gone("reset") from None
        if not data:
            raise Gone(None)
        self.ws.receive_data(data)
        for event in self.ws.events():
            if isinstance(event, TextMessage | BytesMessage):
                self.frames += event.frame_finished
                self.parts.append(event.data)
                if event.message_finished:
                    whole = ("" if isinstance(event, TextMessage) else b"").join(self.parts)
                    self.parts = []
                    self.messages.append((type(whole), len(whole)))
                    self.inbox += self._decode(whole)
            elif isinstance(event, CloseConnection):
                with suppress(trio.BrokenResourceError, trio.BusyResourceError, LocalProtocolError):
                    await self.stream.send_all(self.ws.send(event.response()))
                self.inbox.append(Gone(event.code, event.reason))
            elif isinstance(event, Pong):
                self.pongs += 1

    def _decode(self, message):
        if self.compress == "zlib-stream":
            self.buffer += message
            if not self.buffer.endswith(b"\x00\x00\xff\xff"):
                return []
            message, self.buffer = self.inflate.decompress(self.buffer), b""
        elif self.compress == "zstd-stream":
            message = self.zstd.decompress(message)
        elif isinstance(message, bytes):
            message = zlib.decompress(message)
        return [json.loads(message)]

    @property
    def zstd(self):
        if not hasattr(self, "_zstd"):
            from backports.zstd import ZstdDecompressor

            self._zstd = ZstdDecompressor()
        return self._zstd

    async def receive(self):
        """The next payload. Raises Gone when there will be none."""
        while not self.inbox:
            await self._fill()
        payload = self.inbox.pop(0)
        if isinstance(payload, Gone):
            raise payload
        if payload.get("s") is not None:
            self.sequence = payload["s"]
        if payload.get("t") == "READY":
            self.session_id = payload["d"]["session_id"]
            self.resume_url = payload["d"]["resume_gateway_url"]
        return payload

    async def expect(self, op, name=None):
        """Skip until a payload with this op (and event name)."""
        while True:
            payload = await self.receive()
            if payload["op"] == op and (name is None or payload["t"] == name):
                return payload

    async def nothing_comes(self, seconds):
        """Whether nothing comes for so long."""
        with trio.move_on_after(seconds) as scope:
            await self.receive()
        return scope.cancelled_caught

    async def gone(self):
        """How the connection ends; skips what comes before."""
        while True:
            try:
                await self.receive()
            except Gone as gone:
                return gone.code

    async def hello(self):
        return await self.expect(10)

    async def identify(self, *, token=TOKEN, intents=33283, **more):
        await self.send(2, {"token": token, "properties": PROPERTIES, "intents": intents, **more})

    async def resume(self, session_id, sequence, *, token=TOKEN):
        await self.send(6, {"token": token, "session_id": session_id, "seq": sequence})

    async def start(self, **identify):
        """From Hello to READY."""
        await self.hello()
        await self.identify(**identify)
        return await self.expect(0, "READY")

    async def settle(self, guilds=1):
        """Take the GUILD_CREATEs after READY."""
        for _ in range(guilds):
            await self.expect(0, "GUILD_CREATE")

    async def sync(self):
        """Return when the gateway has handled everything sent so far. Dispatches may still be on their way."""
        await self.send(1, self.sequence)
        seen = []
        while True:
            payload = await self.receive()
            if payload["op"] == 11:
                return seen
            seen.append(payload)


@asynccontextmanager
async def connect(gateway, *, target="/?v=10&encoding=json", compress=None, stream=None) -> AsyncIterator[RawClient]:
    if stream is None:
        stream = await gateway.dial("gateway.memory", 80)
    async with stream:
        client = RawClient(stream, compress)
        await client.handshake(target)
        yield client
