"""A pytest plugin with one fixture, `local_gateway`: a gateway in memory for a test that runs on Trio.

It comes with the package and needs pytest-trio (or another runner of async fixtures on Trio) only where it is used.
A marker passes options to :func:`~trioshard.testing.open_local_gateway`. ::

    @pytest.mark.local_gateway(scenario=Scenario([[After("ready"), Reconnect()]]))
    async def test_my_bot(local_gateway, autojump_clock):
        ...  # connect the bot to local_gateway.url through local_gateway.dial
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trioshard.testing import LocalGateway


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "local_gateway(**options): open the `local_gateway` of this test with these options"
    )


@pytest.fixture
async def local_gateway(request: pytest.FixtureRequest) -> AsyncGenerator[LocalGateway, None]:
    """A gateway that is reached through its `dial` alone, without any TCP."""
    # Who does not ask for a gateway does not pay for importing one.
    from trioshard.testing import open_local_gateway

    marker = request.node.get_closest_marker("local_gateway")
    options: dict[str, Any] = {"port": None}
    if marker is not None:
        options |= marker.kwargs
    async with open_local_gateway(**options) as gateway:
        yield gateway
