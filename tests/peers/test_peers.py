"""Clients that others wrote connect to the built-in gateway, hear a message, and resume: the judge is fair.

Each runs with a Python of its own that has the library installed, named by an environment variable; without it the
test is skipped. `.ci/peers` makes the environments and sets the variables.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from trioshard.testing import LocalGateway, open_local_gateway

HERE = Path(__file__).parent
PEERS = {
    "discord_py_client.py": "TRIOSHARD_PEER_DISCORD_PY",
    "hikari_client.py": "TRIOSHARD_PEER_HIKARI",
}


@pytest.mark.parametrize(
    ("program", "python"),
    [
        pytest.param(
            program,
            os.environ.get(variable, ""),
            marks=pytest.mark.skipif(
                variable not in os.environ, reason=f"{variable} names no Python with this library"
            ),
            id=program.removesuffix("_client.py"),
        )
        for program, variable in PEERS.items()
    ],
)
async def test_connects_hears_and_resumes(program: str, python: str) -> None:
    with trio.fail_after(60):
        async with open_local_gateway() as gateway, trio.open_nursery() as nursery:
            nursery.start_soon(disturb, gateway)
            command = [python, str(HERE / program), "--url", gateway.url, "--api-url", gateway.api_url]
            run = partial(trio.run_process, command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
            result: subprocess.CompletedProcess[bytes] = await run()
            nursery.cancel_scope.cancel()
    output = (result.stdout or b"").decode()
    assert result.returncode == 0, output
    report = gateway.report
    assert report.identifies == report.readies == 1, output
    assert report.resumes >= 1, output
    assert not report.violations, output
    assert report.resumes_refused == 0, output


async def disturb(gateway: LocalGateway) -> None:
    """Say something, ask to reconnect, and say something again."""
    await gateway.wait_ready()
    # These libraries want a moment for the guilds before they hand out messages.
    await trio.sleep(1)
    gateway.send_message("before the reconnect")
    await trio.sleep(1)
    gateway.connections[0].reconnect()
    await gateway.wait_resumed()
    await trio.sleep(1)
    while True:
        gateway.send_message("after the resume")
        await trio.sleep(1)
