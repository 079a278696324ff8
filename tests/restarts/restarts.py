"""Stops a bot process again and again under a stream of numbered messages, and counts what is missing in the end."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import trio

from trioshard.testing import LocalGateway, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ROOT = Path(__file__).parent.parent.parent
RATE = 100.0
"""Messages a second."""
LIFE = (0.2, 1.2)
"""Seconds from the moment when a bot is ready until it is stopped."""
PATIENCE = 30.0


@dataclass(frozen=True)
class Books:
    """What came of it."""

    stops: int
    sent: int
    lost: int
    repeated: int
    disordered: int
    identifies: int
    resumes: int
    violations: int

    def __str__(self) -> str:
        return (
            f"{self.stops} stops, {self.sent} messages sent: {self.lost} lost, {self.repeated} repeated,"
            f" {self.disordered} out of order; {self.identifies} identifies, {self.resumes} resumes,"
            f" {self.violations} violations"
        )


async def play(stops: int, seed: int, *, planned: bool) -> Books:
    """Run the story, and return the books."""
    random, sent = Random(seed), 0
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "numbers"
        async with open_local_gateway(token="secret") as gateway, trio.open_nursery() as nursery:

            async def publish() -> None:
                nonlocal sent
                while True:
                    gateway.send_message(str(sent))
                    sent += 1
                    await trio.sleep(1 / RATE)

            for life in range(stops + 1):
                async with bot(gateway, Path(directory) / "store.db", log) as process:
                    await _wait_ready(gateway, life + 1)
                    if life == 0:
                        nursery.start_soon(publish)
                    if life < stops:
                        await trio.sleep(random.uniform(*LIFE))
                        process.send_signal(signal.SIGTERM if planned else signal.SIGKILL)
                        with trio.fail_after(PATIENCE):
                            await process.wait()
                        await trio.sleep(random.uniform(0.0, 0.5))
                    else:
                        nursery.cancel_scope.cancel()  # no more messages
                        with trio.CancelScope(shield=True), trio.fail_after(PATIENCE):
                            while str(sent - 1) not in log.read_text().split():
                                await trio.sleep(0.05)
                            process.terminate()
                            await process.wait()
            report = gateway.report
        numbers = [int(line) for line in log.read_text().split()]
    times = Counter(numbers)
    first_seen = list(dict.fromkeys(numbers))
    return Books(
        stops=stops,
        sent=sent,
        lost=sum(number not in times for number in range(sent)),
        repeated=sum(count - 1 for count in times.values()),
        disordered=sum(later < earlier for earlier, later in pairwise(first_seen)),
        identifies=report.identifies,
        resumes=report.resumes,
        violations=len(report.violation_list),
    )


@asynccontextmanager
async def bot(gateway: LocalGateway, store: Path, log: Path) -> AsyncGenerator[trio.Process]:
    """Run one life of the bot; it is gone when the block ends."""
    command = [sys.executable, "-m", "tests.restarts.bot", "--url", gateway.url]
    command += ["--store", str(store), "--log", str(log)]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _wait_ready(gateway: LocalGateway, times: int) -> None:
    with trio.fail_after(PATIENCE):
        while gateway.report.identifies + gateway.report.resumes < times:
            await trio.sleep(0.02)


def main() -> int:
    """Play both stories; return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.restarts", description=__doc__)
    parser.add_argument("--stops", type=int, default=50, help="of each kind (default: 50)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    for planned in (False, True):
        books = trio.run(partial(play, options.stops, options.seed, planned=planned))
        print(f"{'planned' if planned else 'killed'}: {books}", flush=True)
        failed = failed or bool(books.lost or books.disordered or books.violations or books.identifies > 1)
        failed = failed or (planned and books.repeated > 0)
    return int(failed)
