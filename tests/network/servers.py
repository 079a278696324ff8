"""What stands between a bot and Discord, in small: proxies and a captive portal on loopback, as plain Trio code."""

from __future__ import annotations

import base64
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Handler = Callable[[trio.abc.Stream], Awaitable[None]]

LOGIN_PAGE: Final = b"<html><title>Welcome to our hotel</title></html>"


@dataclass
class Proxy:
    """A proxy that runs.

    Attributes:
        names: where the hosts are that it knows, by port on loopback. Others it looks up.
        credentials: what it wants to be told, as ``user:password``; ``None`` lets everybody through.
        port: where it listens.
        asked: each ``host:port`` that it was asked for, in order.
    """

    names: dict[str, int] = field(default_factory=dict)
    credentials: str | None = None
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        self.asked.append(f"{host}:{port}")
        if host in self.names:
            return await trio.open_tcp_stream("127.0.0.1", self.names[host])
        return await trio.open_tcp_stream(host, port)


@asynccontextmanager
async def open_server(handler: Handler, *, ssl_context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Serve on loopback, with TLS if there is a context; yield the port. Peers that hang up are nobody's fault."""

    async def serve(stream: trio.abc.Stream) -> None:
        if ssl_context is not None:
            stream = trio.SSLStream(stream, ssl_context, server_side=True, https_compatible=True)
        try:
            await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def join(here: trio.abc.Stream, there: trio.abc.Stream) -> None:
    """Carry bytes both ways until either side ends."""

    async def carry(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    async with there, trio.open_nursery() as nursery:
        nursery.start_soon(carry, here, there)
        nursery.start_soon(carry, there, here)


async def read_head(stream: trio.abc.Stream) -> tuple[str, dict[str, str]]:
    """Read a request without a body; return its first line and its headers."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            raise trio.BrokenResourceError
        data += more
    first, *lines = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def response(status: int, *headers: str, body: bytes = b"") -> bytes:
    head = [f"HTTP/1.1 {status} As Told", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


# --- HTTP CONNECT ---


@asynccontextmanager
async def open_connect_proxy(
    *,
    names: dict[str, int] | None = None,
    credentials: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    refuse: int | None = None,
) -> AsyncGenerator[Proxy]:
    """Run a proxy that understands CONNECT and nothing else. ``refuse`` is the status for everybody."""
    proxy = Proxy(names or {}, credentials)
    wanted = None if credentials is None else f"Basic {base64.b64encode(credentials.encode()).decode()}"

    async def handle(stream: trio.abc.Stream) -> None:
        first, headers = await read_head(stream)
        method, target, _ = first.split()
        if method != "CONNECT" or refuse is not None:
            await stream.send_all(response(refuse or 405))
            return
        if headers.get("proxy-authorization") != wanted:
            await stream.send_all(response(407, "Proxy-Authenticate: Basic"))
            return
        host, _, port = target.rpartition(":")
        if ":" in host.strip("[]") and host[0] + host[-1] != "[]":
            await stream.send_all(response(400))
            return
        try:
            there = await proxy.connect(host.strip("[]"), int(port))
        except OSError:
            await stream.send_all(response(502))
            return
        await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(stream, there)

    async with open_server(handle, ssl_context=ssl_context) as proxy.port:
        yield proxy


# --- SOCKS5 ---


class _Reader:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self._stream.receive_some(count - len(data))
            if not more:
                raise trio.BrokenResourceError
            data += more
        return data

    async def take_counted(self) -> bytes:
        return await self.take((await self.take(1))[0])


@asynccontextmanager
async def open_socks_proxy(
    *, names: dict[str, int] | None = None, credentials: str | None = None, refuse: int | None = None
) -> AsyncGenerator[Proxy]:
    """Run a SOCKS5 proxy. ``refuse`` is the reply code for everybody. It says everything byte by byte."""
    proxy = Proxy(names or {}, credentials)

    async def say(stream: trio.abc.Stream, data: bytes) -> None:
        for byte in data:
            await stream.send_all(bytes([byte]))

    async def authenticate(stream: trio.abc.Stream, reader: _Reader) -> bool:
        await reader.take(1)
        wanted = 0 if credentials is None else 2
        offered = await reader.take_counted()
        await say(stream, bytes([5, wanted if wanted in offered else 255]))
        if wanted == 0 or wanted not in offered:
            return wanted == 0
        await reader.take(1)
        told = b":".join([await reader.take_counted(), await reader.take_counted()]).decode()
        await say(stream, bytes([1, told != credentials]))
        return told == credentials

    async def handle(stream: trio.abc.Stream) -> None:
        reader = _Reader(stream)
        if not await authenticate(stream, reader):
            return
        kind = (await reader.take(4))[3]
        if kind == 3:
            host = (await reader.take_counted()).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.take(size))
        port = int.from_bytes(await reader.take(2), "big")
        nowhere = bytes([1, 0, 0, 0, 0, 0, 0])
        if refuse is not None:
            await say(stream, bytes([5, refuse, 0]) + nowhere)
            return
        try:
            there = await proxy.connect(host, port)
        except OSError:
            await say(stream, bytes([5, 5, 0]) + nowhere)
            return
        await say(stream, bytes([5, 0, 0]) + nowhere)
        await join(stream, there)

    async with open_server(handle) as proxy.port:
        yield proxy


# --- a captive portal ---


@dataclass
class Portal:
    """A portal that runs, and answers every request with its login page, or with the way to it.

    Attributes:
        port: where it listens.
        heard: the requests, as first line and headers.
    """

    port: int = 0
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@asynccontextmanager
async def open_portal(
    status: int = 200, *headers: str, ssl_context: ssl.SSLContext | None = None
) -> AsyncGenerator[Portal]:
    """Run a captive portal: whoever is asked for, it answers."""
    portal = Portal()

    async def handle(stream: trio.abc.Stream) -> None:
        portal.heard.append(await read_head(stream))
        await stream.send_all(response(status, "Content-Type: text/html", *headers, body=LOGIN_PAGE))

    async with open_server(handle, ssl_context=ssl_context) as portal.port:
        yield portal
