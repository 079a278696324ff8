"""The same over real sockets, with and without TLS."""

import ssl

import pytest
import trio
import trustme

from trioshard.testing import After, Drop, Reset, Scenario, open_local_gateway

from .raw_client import Rejected, connect


@pytest.fixture(scope="module")
def tls():
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def dial(gateway, client_context):
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    if client_context is None:
        return stream
    return trio.SSLStream(stream, client_context, server_hostname="127.0.0.1", https_compatible=True)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("compress", [None, "zlib-stream"])
async def test_a_session_over_tcp(tls, secure, compress):
    server_context, client_context = tls if secure else (None, None)
    async with open_local_gateway(ssl_context=server_context) as gateway:
        scheme = "wss" if secure else "ws"
        assert gateway.url == f"{scheme}://127.0.0.1:{gateway.port}"
        assert gateway.resume_url == f"{scheme}://127.0.0.1:{gateway.port}/resume"
        assert gateway.api_url == f"http{'s' if secure else ''}://127.0.0.1:{gateway.port}/api/v10"
        stream = await dial(gateway, client_context)
        async with connect(gateway, stream=stream, compress=compress) as client:
            await client.start()
            await client.settle()
            for number in range(200):
                gateway.send_message(f"{number}")
            for number in range(200):
                assert (await client.receive())["d"]["content"] == f"{number}"
            await client.close(4900)
            assert await client.gone() == 4900
        async with connect(gateway, stream=await dial(gateway, client_context), target="/resume?v=10") as back:
            await back.hello()
            await back.resume(client.session_id, client.sequence)
            await back.expect(0, "RESUMED")
        assert not gateway.report.violations


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(("step", "how"), [(Drop(), None), (Reset(), "reset")])
async def test_sudden_ends(tls, secure, step, how):
    server_context, client_context = tls if secure else (None, None)
    scenario = Scenario([[After("dispatch"), step]])
    async with (
        open_local_gateway(ssl_context=server_context, scenario=scenario) as gateway,
        connect(gateway, stream=await dial(gateway, client_context)) as client,
    ):
        await client.hello()
        await client.identify()
        # Without close_notify, the end of a TLS stream may also look broken.
        assert await client.gone() in ({how, "reset"} if secure else {how})


async def test_both_ways_into_one_gateway():
    async with open_local_gateway() as gateway, connect(gateway) as memory:
        await memory.start()
        assert gateway.port is not None


async def test_no_tcp_without_a_port():
    async with open_local_gateway(port=None) as gateway:
        assert gateway.port is None
        assert gateway.url == "ws://gateway.memory"


async def test_strangers_at_the_tls_port(tls):
    async with open_local_gateway(ssl_context=tls[0]) as gateway:
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.aclose()
        async with connect(gateway, stream=await dial(gateway, tls[1])) as client:
            await client.start()


async def test_rejections_over_tcp():
    async with open_local_gateway() as gateway:
        with pytest.raises(Rejected):
            async with connect(gateway, stream=await dial(gateway, None), target="/?v=10&encoding=etf"):
                pass
