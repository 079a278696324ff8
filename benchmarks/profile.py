"""Show where the CPU time of a trioshard client goes: in total without a profiler, and by layer with one."""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import pstats
import sys
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import trio

from benchmarks.arena import Arena, ClientFailed, open_arena
from benchmarks.contestants import CONTESTANTS, TRIOSHARD, TRIOSHARD_TW
from benchmarks.works import FULL, Work, make_works

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["layer_of", "main", "time_by_layer"]

Function = tuple[str, int, str]
"""File, line and name, as the profiler knows it. Functions written in C have the file "~"."""

_LAYERS: Final = (
    ("benchmarks/", "the hook"),
    ("trioshard/_transport", "WebSocket"),
    ("trioshard/_frames", "WebSocket"),
    ("/websockets/", "WebSocket"),
    ("/wsproto/", "WebSocket"),
    ("/trio_websocket/", "WebSocket"),
    ("trioshard/protocol/compression", "inflate"),
    ("trioshard/protocol/codec", "scan"),
    ("trioshard/protocol/events", "dispatch and decode"),
    ("trioshard/protocol/", "machine"),
    ("trioshard/_subscription", "hub and subscriber"),
    ("trioshard/_reader", "reader"),
    ("trioshard/", "the rest of trioshard"),
    ("/trio/", "Trio and sockets"),
    ("/outcome/", "Trio and sockets"),
)
"""The first part of a path that fits decides."""

_OTHER: Final = "other"
_WAITING: Final = ("poll", "select", "kqueue", "control")
"""C functions in which nothing is done."""

_SHOWN: Final = 25
_RUNS: Final = 3


def layer_of(file: str) -> str:
    """Return the layer that a source file belongs to."""
    path = file.replace("\\", "/")
    return next((layer for part, layer in _LAYERS if part in path), _OTHER)


def time_by_layer(stats: Mapping[Function, tuple[int, int, float, float, Mapping[Function, Any]]]) -> dict[str, float]:
    """Return the seconds spent in each layer. What is written in C, or made at run time, counts for its caller."""
    layers: dict[str, float] = {}
    for (file, _, name), (_, _, own, _, callers) in stats.items():
        if file not in ("~", "<string>"):
            layers[layer_of(file)] = layers.get(layer_of(file), 0.0) + own
        elif not any(f"'{waiting}'" in name for waiting in _WAITING):
            for (caller, _, _), figures in callers.items():
                layers[layer_of(caller)] = layers.get(layer_of(caller), 0.0) + figures[2]
    return layers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print; return the exit status."""
    options = _parser().parse_args(arguments)
    contestant = CONTESTANTS[TRIOSHARD if options.transport == "websockets" else TRIOSHARD_TW]
    compress = None if options.compress == "none" else options.compress
    missing = contestant.missing(compress)
    if missing is not None:
        print(missing, file=sys.stderr)
        return 2
    work = next(each for each in make_works(FULL) if each.name == options.work)
    work = replace(work, compress=compress)
    try:
        with open_arena(tls=work.tls) as arena:
            arena.record(work)
            events = arena.marks(work, work.mode)["events"]
            measured = [_measure(arena, contestant.name, work) / events * 1e6 for _ in range(_RUNS)]
            stats = _profile(arena, contestant.name, work)
    except ImportError as exc:
        print(f"{exc.name} is not installed: pip install 'trioshard[bench]'", file=sys.stderr)
        return 2
    except ClientFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    profiled = (work.play.warmup + work.play.events) * work.play.connections
    print(f"{work.title}; transport {options.transport}, compression {options.compress}")
    print(f"\n{median(measured):.2f} µs an event without the profiler (median of {_RUNS} runs of {events:,} events)")
    print(f"\nWith the profiler, which makes small functions look larger than they are ({profiled:,} events):\n")
    layers = time_by_layer(stats.stats)  # type: ignore[attr-defined]
    total = sum(layers.values())
    for layer, seconds in sorted(layers.items(), key=lambda pair: -pair[1]):
        print(f"  {layer:24} {seconds / profiled * 1e6:7.2f} µs  {seconds / total:5.1%}")
    stats.stream = sys.stdout  # type: ignore[attr-defined]
    stats.sort_stats("tottime").print_stats(_SHOWN)
    return 0


def _parser() -> argparse.ArgumentParser:
    streams = [work.name for work in make_works(FULL) if work.kind == "stream"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--transport", choices=("websockets", "trio-websocket"), default="websockets")
    parser.add_argument("--work", choices=streams, default="burst-raw", metavar="WORK", help=", ".join(streams))
    parser.add_argument("--compress", choices=("zlib-stream", "zstd-stream", "none"), default="zlib-stream")
    return parser


def _measure(arena: Arena, name: str, work: Work) -> float:
    """Return the seconds of CPU that the events take."""
    client = arena.start(CONTESTANTS[name], work, work.play)
    try:
        cpu: float = client.wait(work.seconds + 60)["cpu"]
    finally:
        client.stop()
    return cpu


def _profile(arena: Arena, name: str, work: Work) -> pstats.Stats:
    """Run the client in this process, under the profiler."""
    _, arguments = arena.command(CONTESTANTS[name], work, work.play)
    before, sys.argv = sys.argv, ["client", *arguments]
    profile = cProfile.Profile()
    try:
        # Imported only now: it reads its command line.
        from benchmarks.clients import trioshard_client

        with contextlib.redirect_stdout(io.StringIO()):
            profile.runcall(trio.run, trioshard_client.main)
    finally:
        sys.argv = before
    return pstats.Stats(profile)


if __name__ == "__main__":
    sys.exit(main())
