"""Which way to a host: plain TCP, or through a proxy; and how a proxy is asked.

The gateway's WebSocket and the question over HTTP are dialled alike. TLS, where there is any, goes through the tunnel
and is spoken with the host: a proxy sees a name, a port, and ciphertext.
"""

from __future__ import annotations

import base64
import functools
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import h11
import trio

from trioshard._http1 import Exchange, HungUp, looks_intercepted, waiting_helps
from trioshard._proxies import find_proxy, host_and_port
from trioshard._streams import connect_failed, dial_tcp, drop, start_tls
from trioshard.errors import ConnectFailed, MissingDependency

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Generator

    from python_socks.async_.trio.v2 import Proxy as SocksProxy

    from trioshard._proxies import Proxy

    Dialer = Callable[[str, int], Awaitable[trio.abc.Stream]]

__all__ = ["Dialer", "dialer_for", "require_socks"]

PROXY_TIMEOUT: Final = 20.0
"""Seconds that a proxy may take until the tunnel is open."""

_FORBIDDEN, _NEEDS_CREDENTIALS = 403, 407

_SOCKS_SAYS_NEVER: Final = (2, 7, 8)
"""Reply codes of SOCKS5 that stay as they are: not allowed; command or kind of address not supported. RFC 1928."""


def dialer_for(url: str, *, proxy: Proxy | None, trust_env: bool, ssl_context: ssl.SSLContext | None) -> Dialer:
    """Return what opens the stream to the host of ``url``.

    ``ssl_context`` is for TLS to an ``https://`` proxy. A dialer raises `ConnectFailed` when a proxy is at fault, and
    `OSError` for plain TCP.

    Raises:
        ValueError: the environment names something that is no proxy.
        MissingDependency: it is a SOCKS proxy, and the package for these is not installed.
    """
    found = find_proxy(url, given=proxy, trust_env=trust_env)
    if found is None:
        return dial_tcp
    if found.scheme == "socks5":
        return functools.partial(_dial_through_socks, require_socks(), found)
    return functools.partial(_dial_through_connect, found, ssl_context)


@contextmanager
def _asking(proxy: Proxy) -> Generator[None]:
    """Limit the time, and turn what goes wrong on the way to a proxy into sentences."""
    try:
        with trio.fail_after(PROXY_TIMEOUT):
            yield
    except trio.TooSlowError:
        raise ConnectFailed(f"the proxy {proxy.origin} opened no connection within {PROXY_TIMEOUT:g} s") from None
    except HungUp as exc:
        raise ConnectFailed(f"the proxy {proxy.origin} hung up without an answer") from exc
    except h11.RemoteProtocolError as exc:
        raise ConnectFailed(
            f"the proxy {proxy.origin} does not speak HTTP. Check its port; a SOCKS proxy is written socks5://",
            permanent=True,
        ) from exc


# --- HTTP CONNECT ---


async def _dial_through_connect(
    proxy: Proxy, ssl_context: ssl.SSLContext | None, host: str, port: int
) -> trio.abc.Stream:
    stream: trio.abc.Stream | None = None
    try:
        with _asking(proxy):
            stream = await dial_tcp(proxy.host, proxy.port)
            if proxy.scheme == "https":
                stream = await start_tls(stream, proxy.host, ssl_context)
            exchange = Exchange(stream)
            answer = await exchange.ask("CONNECT", host_and_port(host, port), _connect_headers(proxy, host, port))
            if not 200 <= answer.status_code < 300:
                raise _refused(proxy, answer.status_code, host_and_port(host, port))
            return _Tunnel(stream, exchange.rest) if exchange.rest else stream
    except BaseException as exc:
        if stream is not None:
            await drop(stream)
        if isinstance(exc, (OSError, trio.BrokenResourceError)):
            raise connect_failed(f"the proxy {proxy.origin}", exc, own_context=ssl_context is not None) from exc
        raise


def _connect_headers(proxy: Proxy, host: str, port: int) -> dict[str, str]:
    headers = {"Host": host_and_port(host, port)}
    if proxy.username is not None:
        credentials = base64.b64encode(f"{proxy.username}:{proxy.password}".encode())
        headers["Proxy-Authorization"] = f"Basic {credentials.decode()}"
    return headers


def _refused(proxy: Proxy, status: int, target: str) -> ConnectFailed:
    said = f"the proxy {proxy.origin} did not connect to {target}: HTTP {status}"
    permanent = not waiting_helps(status)
    if status == _NEEDS_CREDENTIALS and proxy.username is None:
        advice = "It wants a user name and a password: http://user:password@host:port"
    elif status == _NEEDS_CREDENTIALS:
        advice = "It does not accept the user name and the password"
    elif status == _FORBIDDEN:
        advice = "It does not allow connections there"
    elif looks_intercepted(status):
        advice = "Perhaps it wants you to log in to the network first"
    elif permanent:
        advice = "It may be no proxy, or does not allow CONNECT"
    else:
        advice = "It cannot reach the host at the moment, or is in trouble itself"
    return ConnectFailed(f"{said}. {advice}", permanent=permanent)


class _Tunnel(trio.abc.Stream):
    """A stream of which something was read already."""

    def __init__(self, stream: trio.abc.Stream, begin: bytes) -> None:
        self._stream = stream
        self._begin = begin

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._begin:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._begin) if max_bytes is None else max_bytes
        data, self._begin = self._begin[:size], self._begin[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


# --- SOCKS5 ---


def require_socks() -> type[SocksProxy]:
    """Import the client of ``python-socks`` for Trio.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        from python_socks.async_.trio.v2 import Proxy as SocksProxy
    except ImportError as exc:
        raise MissingDependency(
            "a SOCKS proxy, given or in the environment, needs the python-socks package:"
            " pip install 'trioshard[socks]'. To do without the proxy, pass trust_env=False"
        ) from exc
    return SocksProxy


async def _dial_through_socks(client: type[SocksProxy], proxy: Proxy, host: str, port: int) -> trio.abc.Stream:
    from python_socks import ProxyConnectionError, ProxyError, ProxyType

    socks = client(ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password)
    try:
        with _asking(proxy):
            tunnel = await socks.connect(host, port, timeout=math.inf)
            return cast("trio.abc.Stream", tunnel.trio_stream)  # pyright: ignore[reportUnknownMemberType]
    except ProxyConnectionError as exc:
        raise connect_failed(f"the proxy {proxy.origin}", exc.__cause__ or exc, own_context=False) from exc
    except ProxyError as exc:
        # Without a code it is about the proxy itself. Credentials do not become right by waiting.
        permanent = "authentication" in str(exc) if exc.error_code is None else exc.error_code in _SOCKS_SAYS_NEVER
        raise ConnectFailed(
            f"the proxy {proxy.origin} did not connect to {host_and_port(host, port)}: {exc}", permanent=permanent
        ) from exc
    except trio.BrokenResourceError as exc:
        raise connect_failed(f"the proxy {proxy.origin}", exc, own_context=False) from exc
