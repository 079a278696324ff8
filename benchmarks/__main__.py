"""Run trioshard, discord.py, hikari and a bare aiohttp loop against one gateway, and compare what they cost."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.arena import open_arena
from benchmarks.contestants import CONTESTANTS
from benchmarks.figures import Results, Run
from benchmarks.machine import calibrate, describe_machine, load
from benchmarks.report import Circumstances, goal_table, whole_report, work_table
from benchmarks.schedule import Schedule
from benchmarks.works import FULL, QUICK, Sizes, Work, make_works

if TYPE_CHECKING:
    from collections.abc import Sequence

_PICTURE: Final = "benchmarks.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = _parser().parse_args(arguments)
    sizes = _sizes(options)
    works = _chosen(make_works(sizes), options.only)
    if not works:
        print(f"nothing of that name; there are {', '.join(work.name for work in make_works(sizes))}", file=sys.stderr)
        return 2
    clients = [name for name in CONTESTANTS if name in (options.clients or CONTESTANTS)]
    missing = {name: CONTESTANTS[name].missing(None) for name in clients}
    left_out = [f"{name} is left out: {sentence}" for name, sentence in missing.items() if sentence]
    clients = [name for name in clients if missing[name] is None]
    left_out += [
        f"{name} is left out of {work.name}: {sentence}"
        for work in works
        for name in clients
        if name in work.clients and (sentence := CONTESTANTS[name].missing(work.compress))
    ]
    for sentence in left_out:
        print(sentence, file=sys.stderr)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    try:
        results, around = _measure(works, clients, sizes, left_out, quick=options.quick)
    except KeyboardInterrupt:
        print("\ninterrupted: all processes have been ended, nothing is written", file=sys.stderr)
        return 130
    except ImportError as exc:
        print(f"{exc.name} is not installed: pip install 'trioshard[bench]'", file=sys.stderr)
        return 2
    _print_tables(results, works, around)
    if options.json is not None:
        options.json.write_text(json.dumps({**asdict(around), "runs": results.as_json()}, indent=1) + "\n")
    if options.output is not None:
        _write(results, works, around, options.output)
    return 1 if results.errors() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 5)")
    parser.add_argument("--only", nargs="+", metavar="WORK", help="such as burst-raw, or idle for all that begin so")
    parser.add_argument(
        "--clients", nargs="+", choices=list(CONTESTANTS), metavar="CLIENT", help=", ".join(CONTESTANTS)
    )
    parser.add_argument("--quick", action="store_true", help="small numbers and two rounds; not to be quoted")
    parser.add_argument("--events", type=int, help="events in a burst")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write benchmarks.md and benchmarks.svg there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures")
    return parser


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL
    if options.rounds is not None:
        sizes = replace(sizes, rounds=max(1, options.rounds))
    if options.events is not None:
        events = max(100, options.events)
        sizes = replace(sizes, events=events, many=events)
    return sizes


def _chosen(works: list[Work], only: list[str] | None) -> list[Work]:
    if only is None:
        return works
    return [work for work in works if any(work.name == name or work.name.startswith(f"{name}-") for name in only)]


def _measure(
    works: list[Work], clients: list[str], sizes: Sizes, left_out: list[str], *, quick: bool
) -> tuple[Results, Circumstances]:
    began = time.monotonic()
    busy = load()
    if busy > 0.5:
        print(f"the machine is not quiet: its load is {busy:.2f}", file=sys.stderr)
    calibrations: list[float] = []
    with open_arena(tls=any(work.tls for work in works)) as arena:
        done = 0

        def show(run: Run) -> None:
            nonlocal done
            done += 1
            _show(run, done, schedule.count())

        schedule = Schedule(arena, works, {name: CONTESTANTS[name] for name in clients}, sizes, show)
        print(
            f"{schedule.count()} runs in {sizes.rounds} rounds, about {schedule.seconds() / 60:.1f} minutes", flush=True
        )
        streams = [work for work in works if work.kind == "stream"]
        recording = (
            arena.record(max(streams, key=lambda work: work.play.warmup + work.play.events)) if streams else None
        )
        for number in range(sizes.rounds):
            calibrations.append(calibrate())
            schedule.play_round(number)
    events = recording["events"] if recording else 0
    around = Circumstances(
        machine=describe_machine(),
        versions={name: number for client in clients for name, number in CONTESTANTS[client].versions().items()},
        calibrations=calibrations,
        load=busy,
        left_out=left_out,
        mean_size=recording["raw_bytes"] / events if recording else 0.0,
        wire_share=recording["wire_bytes"] / recording["raw_bytes"] if recording else 0.0,
        minutes=(time.monotonic() - began) / 60,
        sizes=sizes,
        quick=quick,
    )
    return Results(schedule.runs), around


def _show(run: Run, done: int, total: int) -> None:
    if run.error is not None:
        text = f"FAILED: {run.error}"
    else:
        text = "  ".join(f"{name} {value:.2f}" for name, value in run.figures.items())
    print(f"[{done:3}/{total}] round {run.round + 1}  {run.work:14} {run.client:14} {text}", flush=True)


def _print_tables(results: Results, works: list[Work], around: Circumstances) -> None:
    for work in works:
        print(f"\n{work.title} ({work.name})\n\n{work_table(results, work)}")
    print(f"\nGoals\n\n{goal_table(results)}")
    if around.quick:
        print("\nMade with --quick: not to be quoted.")


def _write(results: Results, works: list[Work], around: Circumstances, folder: Path) -> None:
    from benchmarks.picture import draw

    picture: str | None = None
    try:
        if draw(results, works, folder / _PICTURE):
            picture = _PICTURE
    except ImportError as exc:
        print(f"no picture: {exc.name} is not installed: pip install 'trioshard[bench]'", file=sys.stderr)
    page = folder / "benchmarks.md"
    page.write_text(whole_report(results, works, around, picture))
    print(f"\nwritten: {os.fspath(page)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
