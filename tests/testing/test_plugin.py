"""The fixture that comes with the package."""

import subprocess
import sys

import pytest

from trioshard.testing import After, Reconnect, Scenario

from .raw_client import connect


async def test_the_fixture(local_gateway, autojump_clock):
    async with connect(local_gateway) as client:
        await client.start()
        local_gateway.send_message("hello")
        await client.expect(0, "MESSAGE_CREATE")
    assert local_gateway.port is None


@pytest.mark.local_gateway(scenario=Scenario([[After("ready"), Reconnect()]]), token="right")
async def test_the_marker(local_gateway, autojump_clock):
    async with connect(local_gateway) as client:
        await client.start(token="right")
        await client.expect(7)


def test_it_does_not_import_pytest_trio():
    program = "import trioshard.testing.pytest_plugin, sys; print('pytest_trio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
