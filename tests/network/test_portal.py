"""Behind a captive portal: it answers in everybody's name, is told nothing, and one day lets through."""

from __future__ import annotations

import ssl
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

import trioshard
from tests.network.servers import open_portal
from trioshard import Backoff, Intents
from trioshard.errors import ConnectFailed, GatewayUnreachable
from trioshard.testing import open_local_gateway

if TYPE_CHECKING:
    from tests.network.conftest import Certificates

NO_WAIT = Backoff(base=0.001, cap=0.001)
TOKEN = "t0ken"


async def fail(**options: Any) -> str:
    """Open a shard that meets a portal all the time; return the last reason. It must not have been a final one."""
    with trio.fail_after(20), pytest.raises(GatewayUnreachable, match="after 8 attempts") as caught:
        async with trioshard.open_shard(TOKEN, intents=Intents.NONE, backoff=NO_WAIT, **options):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, ConnectFailed)
    return str(caught.value.__cause__)


@pytest.mark.parametrize("status", [200, 302, 511])
@pytest.mark.parametrize("transport", ["websockets", "trio-websocket"])
async def test_a_portal_that_answers_for_the_gateway(status: int, transport: str) -> None:
    async with open_portal(status, "Location: http://login.hotel.test/") as portal:
        reason = await fail(url=f"ws://127.0.0.1:{portal.port}", transport=transport)
    assert f"HTTP {status}; perhaps a captive portal or a proxy answered: log in to the network" in reason
    assert len(portal.heard) == 8
    assert TOKEN not in str(portal.heard)


@pytest.mark.parametrize("status", [200, 302, 511])
async def test_a_portal_that_answers_for_the_api(status: int) -> None:
    async with open_portal() as login, open_portal(status, f"Location: http://127.0.0.1:{login.port}/") as portal:
        reason = await fail(api_url=f"http://127.0.0.1:{portal.port}/api/v10")
        assert "Perhaps a captive portal or a proxy answered: log in to the network" in reason
        assert len(portal.heard) == 8
        assert login.heard == [], "no redirect is followed: the token is for the API alone"


@pytest.mark.parametrize("where", ["url", "api_url"])
async def test_a_portal_with_a_certificate_of_its_own_is_told_nothing(where: str, certificates: Certificates) -> None:
    async with open_portal(ssl_context=certificates.server) as portal:
        scheme = "wss" if where == "url" else "https"
        reason = await fail(**{where: f"{scheme}://127.0.0.1:{portal.port}"})
    assert f"the certificate of {scheme}://127.0.0.1:{portal.port} does not verify" in reason
    assert "Perhaps somebody else answered: a captive portal" in reason
    assert "Log in to the network" in reason
    assert portal.heard == []


async def test_a_wrong_certificate_for_a_context_of_ones_own_is_no_portal(certificates: Certificates) -> None:
    """Who brings a context has a server of his own, and brought the wrong one. Waiting does not help."""
    async with open_portal(ssl_context=certificates.server) as portal:
        with trio.fail_after(20), pytest.raises(GatewayUnreachable, match="after 1 attempt") as caught:
            async with trioshard.open_shard(
                TOKEN,
                intents=Intents.NONE,
                api_url=f"https://127.0.0.1:{portal.port}",
                ssl_context=certificates.client,
            ):
                await trio.sleep_forever()
    assert "pass an ssl_context= that trusts it" in str(caught.value)
    assert "portal" not in str(caught.value)


@pytest.mark.parametrize(("begin", "end"), [(1999, 2000), (2998, 2999)], ids=["over", "not yet"])
async def test_a_certificate_of_another_time_is_a_matter_of_clocks(begin: int, end: int) -> None:
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(client)
    leaf = authority.issue_cert("127.0.0.1", not_before=datetime(begin, 1, 1), not_after=datetime(end, 1, 1))
    leaf.configure_cert(server)
    async with open_portal(ssl_context=server) as portal:
        reason = await fail(url=f"wss://127.0.0.1:{portal.port}", ssl_context=client)
    assert "Check this machine's clock" in reason


@pytest.mark.parametrize("status", [200, 302, 511])
async def test_a_shard_gets_through_when_the_portal_lets_it(status: int) -> None:
    """First the portal answers for the API, then for the gateway, then nobody does any more."""
    with trio.fail_after(20):
        async with open_local_gateway(token=TOKEN) as gateway, open_portal(status) as portal:
            assert gateway.port is not None
            ways = [portal.port, portal.port, gateway.port, portal.port]

            async def dial(host: str, port: int) -> trio.abc.Stream:
                return await trio.open_tcp_stream("127.0.0.1", ways.pop(0) if ways else gateway.port)

            async with trioshard.open_shard(
                TOKEN, intents=Intents.NONE, api_url=gateway.api_url, dial=dial, backoff=NO_WAIT
            ) as shard:
                await shard.wait_ready()
            assert [line for line, _ in portal.heard if "gateway/bot" in line] == [portal.heard[0][0]] * 2
            assert len(portal.heard) == 3
        assert gateway.report.identifies == 1
