"""Time that jumps: a wall clock that is set, a machine that sleeps, a process that is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from trioshard._config import ShardConfig, Token
from trioshard._heartbeater import CLOCK_CHECK
from trioshard._open_shard import run_shard
from trioshard._shard import Shard
from trioshard.testing import LocalGateway, open_local_gateway

if TYPE_CHECKING:
    from trio.testing import MockClock

HOUR = 3600.0


class Clocks:
    """A wall clock that goes with Trio's, until it is set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return 1_000_000.0 + trio.current_time() + self.ahead


def shard_of(gateway: LocalGateway, clocks: Clocks) -> Shard:
    return Shard(
        ShardConfig(
            token=Token("secret"), intents=0, url=gateway.url, dial=gateway.dial, wall_clock=clocks, events=False
        )
    )


@pytest.mark.parametrize("quiet", [5.0, 100.0])
async def test_a_clock_that_is_set_forwards_by_an_hour_costs_one_resume(
    quiet: float, autojump_clock: MockClock
) -> None:
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway, run_shard(shard_of(gateway, clocks)) as shard:
        await shard.wait_ready()
        await trio.sleep(quiet)
        clocks.ahead += HOUR
        set_at = trio.current_time()
        with trio.fail_after(HOUR):
            await gateway.wait_resumed()
        assert trio.current_time() - set_at <= CLOCK_CHECK + 1.0
        await trio.sleep(2 * HOUR)
        assert (gateway.report.connections, gateway.report.identifies) == (2, 1)


async def test_a_clock_that_is_set_backwards_costs_nothing(autojump_clock: MockClock) -> None:
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway, run_shard(shard_of(gateway, clocks)) as shard:
        await shard.wait_ready()
        for _ in range(5):
            clocks.ahead -= HOUR
            await trio.sleep(100)
        assert gateway.report.connections == 1


async def test_a_clock_that_drifts_costs_nothing(autojump_clock: MockClock) -> None:
    """NTP slews a clock by half a millisecond a second at most; a bad crystal is no worse."""
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway, run_shard(shard_of(gateway, clocks)) as shard:
        await shard.wait_ready()
        for _ in range(1000):
            clocks.ahead += 0.01
            await trio.sleep(10)
        assert gateway.report.connections == 1


async def test_each_sleep_of_the_machine_costs_one_resume(autojump_clock: MockClock) -> None:
    clocks = Clocks()
    async with open_local_gateway(port=None) as gateway, run_shard(shard_of(gateway, clocks)) as shard:
        await shard.wait_ready()
        for number in range(1, 4):
            clocks.ahead += 8 * HOUR
            with trio.fail_after(HOUR):
                await gateway.wait_resumed(number)
            await trio.sleep(HOUR)
        assert (gateway.report.connections, gateway.report.identifies) == (4, 1)


BOT = """
import logging, sys, trio, trioshard
logging.basicConfig(level=logging.INFO, format="%(message)s")
async def main():
    async with trioshard.open_shard("secret", intents=0, url=sys.argv[1], events=False):
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
async def test_a_process_that_is_stopped_for_longer_than_two_beats_resumes_when_it_goes_on() -> None:
    """In real time: nothing else stops a process. Its heartbeat interval is a second, the shortest there is."""
    command = [sys.executable, "-c", BOT]
    with trio.fail_after(30):
        async with open_local_gateway(heartbeat_interval=1.0, heartbeat_grace=HOUR) as gateway:
            bot = await trio.lowlevel.open_process(
                [*command, gateway.url], stdin=subprocess.PIPE, stderr=subprocess.PIPE
            )
            assert bot.stdin is not None
            assert bot.stderr is not None
            try:
                said = b""
                while b"started session" not in said:
                    said += await bot.stderr.receive_some()
                bot.send_signal(signal.SIGSTOP)
                await trio.sleep(3)
                bot.send_signal(signal.SIGCONT)
                await gateway.wait_resumed()
                await bot.stdin.aclose()
                async for more in bot.stderr:
                    said += more
                assert await bot.wait() == 0
            finally:
                bot.kill()
                await bot.stderr.aclose()
    assert b"time jumped" in said
    assert (gateway.report.connections, gateway.report.identifies) == (2, 1)
