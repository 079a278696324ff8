"""What all clients share: the command line, the meter, and the line they print.

Each client hands `Meter.hit` to its library's plainest hook. CPU time is that of the whole process, all threads.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

__all__ = ["INTENTS", "SETTLE", "TOKEN", "Idle", "Meter", "Options", "begin", "make_ssl_context", "parse", "report"]

TOKEN: Final = "MTA5MzA2NTQ3MDY5MDE4OTMxMw.bench.token"
"""No token of anybody. hikari reads the bot's id out of its first part."""

INTENTS: Final = (1 << 0) | (1 << 1) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 15)
"""Guilds, members, voice states, presences, messages, reactions, typing, message content."""

SETTLE: Final = 2.0
"""Seconds between being ready and the first measurement of an idle client."""


class Options(argparse.Namespace):
    """The command line."""

    mode: str
    url: str
    api_url: str
    compress: Literal["zlib-stream", "zstd-stream"] | None
    start: int
    stop: int
    shards: int
    subscribers: int
    ca: str | None
    window: float
    sends: int
    send_rate: float
    guild_id: int
    transport: str


def parse(description: str | None) -> Options:
    """Parse the command line, and collect warnings of the library on stderr."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--mode",
        required=True,
        choices=("raw", "typed", "idle", "send", "hold"),
        help="count every event, count messages, rest, send commands, or only stay connected",
    )
    parser.add_argument("--url", required=True, help="ws://… of the gateway")
    parser.add_argument("--api-url", required=True, help="http://… of its HTTP API, with the version")
    parser.add_argument("--compress", choices=("zlib-stream", "zstd-stream"), help="default: none")
    parser.add_argument("--start", type=int, default=0, help="begin to measure after so many calls of the hook")
    parser.add_argument("--stop", type=int, default=0, help="end after so many calls of the hook")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--subscribers", type=int, default=1, help="only trioshard")
    parser.add_argument("--ca", help="PEM file of the authority to trust")
    parser.add_argument("--window", type=float, default=0.0, help="seconds to watch when idle")
    parser.add_argument("--sends", type=int, default=0, help="how many commands to send")
    parser.add_argument("--send-rate", type=float, default=10.0, help="commands a second")
    parser.add_argument("--guild-id", type=int, default=0, help="the guild that the commands are about")
    parser.add_argument("--transport", default="auto", help="only trioshard")
    options = parser.parse_args(namespace=Options())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(levelname)s: %(message)s")
    logging.getLogger().addHandler(_warnings)
    return options


class _Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


_warnings: Final = _Counting()


def report(**figures: Any) -> None:
    """Print the one line."""
    print(json.dumps({"warnings": _warnings.count, **figures}), flush=True)


def begin() -> None:
    """Forget what the library said while it started."""
    _warnings.count = 0


class Meter:
    """Measures between two calls of a hook; ``done`` is called at the second.

    After the first call there is a pause, which is quiet: CPU time counts from before it, wall time from after it.
    """

    def __init__(self, start: int, stop: int, done: Callable[[], object]) -> None:
        self.seen = 0
        self._next = self._start = start
        self._stop = stop
        self._done = done
        self._cpu = self._wall = 0.0

    def hit(self) -> None:
        """Call this for every event."""
        self.seen += 1
        if self.seen == self._next:
            self._mark()

    def _mark(self) -> None:
        if self.seen == self._stop:
            report(cpu=time.process_time() - self._cpu, wall=time.perf_counter() - self._wall)
            self._done()
        elif self.seen == self._start:
            begin()
            self._next = self._start + 1
            self._cpu = time.process_time()
        else:
            self._next = self._stop
            self._wall = time.perf_counter()


class Idle:
    """Measures a process that has nothing to do. Make it when all is quiet, and `finish` it after the window."""

    def __init__(self) -> None:
        begin()
        self._memory = _memory()
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def finish(self) -> None:
        """Print the line."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        report(cpu=cpu, wall=wall, **self._memory)


def _memory() -> dict[str, int]:
    """Return the bytes that are resident, and those of them that are this process's alone, as Linux counts them."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return {}
    figures = {"rss": int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")}
    rollup = Path("/proc/self/smaps_rollup")
    if rollup.exists():
        lines = (line.split() for line in rollup.read_text().splitlines())
        figures["uss"] = sum(int(line[1]) * 1024 for line in lines if line[0].startswith("Private_"))
    return figures


def make_ssl_context(options: Options) -> SSLContext | None:
    """Return a context that trusts the given authority, and verifies."""
    if options.ca is None:
        return None
    import ssl  # only where it is used: it would count as memory of an idle client

    return ssl.create_default_context(cafile=options.ca)
