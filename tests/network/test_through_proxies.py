"""A shard behind a proxy: everything goes through it, nothing is lost, and what goes wrong is said."""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import trioshard
from tests.network.servers import open_connect_proxy, open_server, open_socks_proxy, read_head
from trioshard import Backoff, Intents
from trioshard._dial import PROXY_TIMEOUT, dialer_for
from trioshard._proxies import Proxy
from trioshard.errors import ConnectFailed, GatewayUnreachable
from trioshard.testing import LocalGateway, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio.testing import MockClock

    from tests.network.conftest import Certificates
    from tests.network.servers import Proxy as Running

NO_WAIT = Backoff(base=0.001, cap=0.001)
EVERY_PROXY = ["http", "http with a password", "https", "socks5", "socks5 with a password"]


@asynccontextmanager
async def open_proxy(
    kind: str, names: dict[str, int], certificates: Certificates
) -> AsyncGenerator[tuple[Running, str]]:
    """Run one of `EVERY_PROXY`; yield it and its URL."""
    scheme = kind.partition(" ")[0]
    credentials = "me:s3cr/t" if "password" in kind else None
    opening = (
        open_socks_proxy(names=names, credentials=credentials)
        if scheme == "socks5"
        else open_connect_proxy(
            names=names,
            credentials=credentials,
            ssl_context=certificates.proxy if scheme == "https" else None,
        )
    )
    async with opening as proxy:
        yield proxy, f"{scheme}://{'me:s3cr%2Ft@' if credentials else ''}127.0.0.1:{proxy.port}"


@asynccontextmanager
async def open_gateway(certificates: Certificates) -> AsyncGenerator[LocalGateway]:
    with trio.fail_after(20):
        async with open_local_gateway(host="localhost", ssl_context=certificates.server) as gateway:
            yield gateway


# --- everything goes through it ---


@pytest.mark.parametrize("kind", EVERY_PROXY)
async def test_question_gateway_and_resumes_go_through_the_proxy(kind: str, certificates: Certificates) -> None:
    async with open_gateway(certificates) as gateway:
        assert gateway.port is not None
        async with (
            open_proxy(kind, {"api.test": gateway.port}, certificates) as (proxy, url),
            trioshard.open_shard(
                "secret",
                intents=Intents.NONE,
                api_url="https://api.test/api/v10",
                ssl_context=certificates.client,
                proxy=url,
                backoff=NO_WAIT,
            ) as shard,
        ):
            await shard.wait_ready()
            gateway.connections[0].reset()
            await gateway.wait_resumed()
            there = f"localhost:{gateway.port}"
            assert proxy.asked == ["api.test:443", there, there]
        assert (gateway.report.connections, gateway.report.identifies) == (2, 1)


@pytest.mark.parametrize("kind", EVERY_PROXY)
async def test_the_proxy_of_the_environment_is_used(
    kind: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gateway(certificates) as gateway:
        assert gateway.port is not None
        async with open_proxy(kind, {"gateway.test": gateway.port}, certificates) as (proxy, url):
            monkeypatch.setenv("HTTPS_PROXY", url)
            async with trioshard.open_shard(
                "secret", intents=Intents.NONE, url="wss://gateway.test", ssl_context=certificates.client
            ) as shard:
                await shard.wait_ready()
            assert proxy.asked == ["gateway.test:443"]


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_without_tls_it_goes_through_a_tunnel_as_well(kind: str, certificates: Certificates) -> None:
    with trio.fail_after(20):
        async with open_local_gateway() as gateway, open_proxy(kind, {}, certificates) as (proxy, url):
            async with trioshard.open_shard(
                "secret", intents=Intents.NONE, api_url=gateway.api_url, proxy=url
            ) as shard:
                await shard.wait_ready()
            assert proxy.asked == [f"127.0.0.1:{gateway.port}"] * 2


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_an_ipv6_address_reaches_the_proxy_as_one(kind: str, certificates: Certificates) -> None:
    async with open_proxy(kind, {"::1": await _port_of_nobody()}, certificates) as (proxy, url):
        with pytest.raises(ConnectFailed, match=r"did not connect to \[::1\]:443"):
            await dialer(url)("::1", 443)
        assert proxy.asked == ["::1:443"]


def dialer(url: str, *, ssl_context: ssl.SSLContext | None = None) -> Any:
    return dialer_for("wss://gateway.test", proxy=Proxy.parse(url), trust_env=False, ssl_context=ssl_context)


async def _port_of_nobody() -> int:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


# --- no byte is lost ---


@pytest.mark.parametrize("sizes", [[None], [3, 100], [1, 1, 1, 1, 1]])
@pytest.mark.parametrize(
    "headers", [b"", b"Content-Length: 0\r\n", b"Via: 1.1 corporate\r\nX-Filler: " + b"x" * 5000 + b"\r\n"]
)
async def test_what_comes_right_behind_the_proxys_answer_is_the_begin_of_the_stream(
    headers: bytes, sizes: list[int | None]
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\nhello")
        assert await stream.receive_some() == b"go on"
        await stream.send_all(b", world")

    with trio.fail_after(20):
        async with open_server(serve) as port:
            stream = await dialer(f"http://127.0.0.1:{port}")("gateway.test", 443)
            async with stream:
                received = b"".join([bytes(await stream.receive_some(size)) for size in sizes])
                assert received == b"hello"
                await stream.send_all(b"go on")
                assert await stream.receive_some() == b", world"


async def test_an_answer_that_comes_byte_by_byte_behind_another_is_understood() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        for byte in b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n":
            await stream.send_all(bytes([byte]))
        await stream.send_all(b"hello")

    with trio.fail_after(20):
        async with open_server(serve) as port:
            async with await dialer(f"http://127.0.0.1:{port}")("gateway.test", 443) as stream:
                assert await stream.receive_some() == b"hello"


# --- TLS ---


async def fail(proxy: str, *, ssl_context: ssl.SSLContext | None = None) -> ConnectFailed:
    """Open a shard behind a proxy, and return why it could not connect."""
    with trio.fail_after(20), pytest.raises(GatewayUnreachable) as caught:
        async with trioshard.open_shard(
            "t0ken",
            intents=Intents.NONE,
            url="wss://gateway.test",
            proxy=proxy,
            ssl_context=ssl_context,
            backoff=NO_WAIT,
        ):
            await trio.sleep_forever()
    error = caught.value.__cause__
    assert isinstance(error, ConnectFailed)
    assert ("after 1 attempt:" in str(caught.value)) is error.permanent
    return error


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_the_certificate_has_to_be_the_gateways_and_not_the_proxys(kind: str, certificates: Certificates) -> None:
    """Somebody behind the proxy shows the proxy's own certificate, which is good, but for another name."""
    heard: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        if data := await stream.receive_some():
            heard.append(bytes(data))

    async with (
        open_server(serve, ssl_context=certificates.proxy) as port,
        open_proxy(kind, {"gateway.test": port}, certificates) as (_, url),
    ):
        error = await fail(url, ssl_context=certificates.client)
    assert "certificate of wss://gateway.test does not verify: Hostname mismatch" in str(error)
    assert heard == []


async def test_an_https_proxy_with_another_certificate_is_told_nothing(certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        if data := await stream.receive_some():
            heard.append(bytes(data))

    async with open_server(serve, ssl_context=certificates.server) as port:
        error = await fail(f"https://me:s3cret@127.0.0.1:{port}", ssl_context=certificates.client)
    assert f"the certificate of the proxy https://127.0.0.1:{port} does not verify" in str(error)
    assert heard == []


# --- what goes wrong is said ---


@pytest.mark.parametrize(
    ("status", "says", "permanent"),
    [
        (407, "It does not accept the user name and the password", True),
        (403, "It does not allow connections there", True),
        (405, "It may be no proxy, or does not allow CONNECT", True),
        (502, "It cannot reach the host at the moment", False),
        (503, "It cannot reach the host at the moment", False),
        (302, "log in to the network first", False),
        (511, "log in to the network first", False),
    ],
)
async def test_a_refusal_of_an_http_proxy(
    status: int, says: str, permanent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_connect_proxy(refuse=status) as proxy:
        error = await fail(f"http://me:s3cret@127.0.0.1:{proxy.port}")
    assert str(error).startswith(
        f"the proxy http://127.0.0.1:{proxy.port} did not connect to gateway.test:443: HTTP {status}. "
    )
    assert says in str(error)
    assert error.permanent is permanent
    assert "s3cret" not in f"{error} {error!r} {caplog.text}"


async def test_a_proxy_that_wants_a_password_says_how_to_give_it() -> None:
    async with open_connect_proxy(credentials="me:s3cret") as proxy:
        error = await fail(f"http://127.0.0.1:{proxy.port}")
        assert "HTTP 407. It wants a user name and a password: http://user:password@host:port" in str(error)
        assert error.permanent
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("code", "says", "permanent"),
    [
        (1, "General SOCKS server failure", False),
        (2, "not allowed", True),
        (3, "Network unreachable", False),
        (4, "Host unreachable", False),
        (5, "refused", False),
        (6, "TTL expired", False),
        (8, "not supported", True),
    ],
)
async def test_a_refusal_of_a_socks_proxy(code: int, says: str, permanent: bool) -> None:
    async with open_socks_proxy(refuse=code) as proxy:
        error = await fail(f"socks5://127.0.0.1:{proxy.port}")
    assert f"the proxy socks5://127.0.0.1:{proxy.port} did not connect to gateway.test:443: " in str(error)
    assert says in str(error)
    assert error.permanent is permanent


@pytest.mark.parametrize("told", ["", "me:wr0ng@"])
async def test_a_socks_proxy_that_does_not_let_one_in(told: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_socks_proxy(credentials="me:s3cret") as proxy:
        error = await fail(f"socks5://{told}127.0.0.1:{proxy.port}")
        assert "authentication" in str(error)
        assert error.permanent
        assert "wr0ng" not in f"{error} {error!r} {caplog.text}"
        assert proxy.asked == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_nobody_answers_for(scheme: str) -> None:
    port = await _port_of_nobody()
    error = await fail(f"{scheme}://me:s3cret@127.0.0.1:{port}")
    assert f"the proxy {scheme}://127.0.0.1:{port} cannot be reached" in str(error)
    assert not error.permanent


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_whose_name_does_not_resolve(scheme: str) -> None:
    error = await fail(f"{scheme}://proxy.invalid:1")
    assert f"the proxy {scheme}://proxy.invalid:1 cannot be reached: its name does not resolve" in str(error)
    assert not error.permanent


@pytest.mark.parametrize(
    ("scheme", "answer", "says", "permanent"),
    [
        ("http", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP. Check its port", True),
        ("http", b"\x05\xff", "does not speak HTTP", True),
        ("http", b"", "hung up", False),
        ("http", b"HTTP/1.1 200 Conn", "hung up", False),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "SOCKS version", False),
        ("socks5", b"", "closed", False),
        ("socks5", b"\x05", "closed", False),
    ],
)
async def test_a_proxy_that_is_something_else(scheme: str, answer: bytes, says: str, permanent: bool) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async with open_server(serve) as port:
        error = await fail(f"{scheme}://127.0.0.1:{port}")
    assert f"the proxy {scheme}://127.0.0.1:{port}" in str(error)
    assert says in str(error)
    assert error.permanent is permanent


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_says_nothing_is_not_waited_for_for_ever(scheme: str, autojump_clock: MockClock) -> None:
    async with open_server(lambda stream: trio.sleep_forever()) as port:
        with pytest.raises(ConnectFailed, match=f"opened no connection within {PROXY_TIMEOUT:g} s") as caught:
            await dialer(f"{scheme}://127.0.0.1:{port}")("gateway.test", 443)
    assert not caught.value.permanent
    assert trio.current_time() == pytest.approx(PROXY_TIMEOUT)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_who_is_cancelled_while_the_proxy_is_asked_hangs_up(scheme: str) -> None:
    asked, hung_up = trio.Event(), trio.Event()

    async def listen(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        asked.set()
        while await stream.receive_some():
            pass
        hung_up.set()

    with trio.fail_after(20):
        async with open_server(listen) as port, trio.open_nursery() as nursery:
            nursery.start_soon(dialer(f"{scheme}://127.0.0.1:{port}"), "gateway.test", 443)
            await asked.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await hung_up.wait()
