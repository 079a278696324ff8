"""The report: tables in Markdown, which read well on a terminal, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.contestants import BARE, CONTESTANTS, DISCORD_PY, HIKARI
from benchmarks.figures import spread
from benchmarks.goals import GOALS
from benchmarks.mix import SHARES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Results
    from benchmarks.works import Sizes, Work

__all__ = ["Circumstances", "goal_table", "table", "whole_report", "work_table"]

_MET: Final = {True: "met", False: "**not met**", None: "not measured"}
_RATIOS: Final = (BARE, HIKARI, DISCORD_PY)

_COLUMNS: Final = {
    "stream": (("us", "µs an event", ".1f"), ("busy", "CPU of wall time", ".0%")),
    "idle": (
        ("rss", "RSS, MiB", ".1f"),
        ("uss", "of it private, MiB", ".1f"),
        ("cpu_ms", "CPU for a shard and minute, ms", ".2f"),
    ),
    "send": (("median_us", "median, µs", ".0f"), ("p90_us", "90 of 100 within, µs", ".0f")),
    "recovery": (
        ("median_ms", "median, ms", ".1f"),
        ("worst_ms", "worst, ms", ".0f"),
        ("count", "disconnects a run", ".0f"),
    ),
}
"""For each kind of work its figures, with heading and format. The first is the one that is compared."""


@dataclass(frozen=True)
class Circumstances:
    """Everything about a benchmark but its figures.

    Attributes:
        machine: what it ran on.
        versions: of all libraries.
        calibrations: seconds that the fixed loop took, one a round.
        load: of the machine before the first run.
        left_out: clients that could not run, and why.
        mean_size: bytes of an event before compression.
        wire_share: of them on the wire, with zlib-stream.
        minutes: that everything took.
        sizes: how much was measured.
        quick: whether the figures are not worth quoting.
    """

    machine: dict[str, str]
    versions: dict[str, str]
    calibrations: list[float]
    load: float
    left_out: list[str]
    mean_size: float
    wire_share: float
    minutes: float
    sizes: Sizes
    quick: bool


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, in columns that stand straight."""
    lines = [list(heading), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]

    def line_of(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join(['-' * (widths[0] + 2), *('-' * (width + 1) + ':' for width in widths[1:])])}|"
    return "\n".join([line_of(lines[0]), rule, *map(line_of, lines[1:])])


def goal_table(results: Results) -> str:
    """Return the goals with their figures."""
    rows: list[list[str]] = []
    for goal in GOALS:
        verdict = goal.judge(results)
        rows.append([goal.text, goal.bound, verdict.figure or "–", _MET[verdict.met]])
    return table(["goal", "bound", "figure", ""], rows)


def work_table(results: Results, work: Work) -> str:
    """Return one work: each client's figures, their noise, and ratios to the others."""
    columns = _COLUMNS[work.kind]
    compared = columns[0][0]
    present = [name for name in work.clients if results.value(work.name, name, compared) is not None]
    if not present:
        return "Nothing was measured."
    others = [name for name in _RATIOS if name in present] if len(present) > 1 else []
    heading = ["client", *(text for _, text, _ in columns), "noise", *(f"× {other}" for other in others)]
    rows: list[list[str]] = []
    for name in present:
        cells = [name]
        for figure, _, form in columns:
            value = results.value(work.name, name, figure)
            cells.append("–" if value is None else format(value, form))
        noise = results.spread(work.name, name, compared)
        cells.append("–" if noise is None else f"{noise:.0%}")
        for other in others:
            ratio = results.ratio(work.name, compared, name, other)
            cells.append("–" if ratio is None else f"{ratio:.2f}")
        rows.append(cells)
    notes = "".join(f"\n- {note}" for note in results.notes(work.name))
    return table(heading, rows) + (f"\n{notes}" if notes else "")


def whole_report(results: Results, works: Sequence[Work], around: Circumstances, picture: str | None) -> str:
    """Return the page. ``picture`` is the name of the file to show."""
    parts = ["# Benchmarks", _introduction(around)]
    if picture is not None:
        parts.append(f"![CPU time for an event, by client]({picture})")
    parts += ["## Goals", goal_table(results)]
    for work in works:
        parts += [f"## {work.title}", f"`{work.name}`", work_table(results, work)]
    parts += ["## How it was measured", _method(around), "## Clients", _clients(results), _noise(around)]
    failures = results.errors()
    if failures or around.left_out:
        lines = [f"- {sentence}" for sentence in around.left_out]
        lines += [f"- {run.work}, {run.client}, round {run.round + 1}: {run.error}" for run in failures]
        parts += ["## What did not run", "\n".join(lines)]
    parts += ["## What it does not show", _LIMITS, "## Again", _AGAIN]
    return "\n\n".join(parts) + "\n"


def _introduction(around: Circumstances) -> str:
    warning = (
        "**Made with `--quick`: far too little was measured to be quoted.**\n\n"
        if around.quick
        else "Made by `nox -s bench`; every number on this page comes from one run.\n\n"
    )
    facts = {**around.machine, "Versions": ", ".join(f"{name} {number}" for name, number in around.versions.items())}
    return warning + "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _method(around: Circumstances) -> str:
    sizes = around.sizes
    shares = ", ".join(f"{share} % {name}" for name, share in SHARES.items())
    return f"""\
All clients talk to the same gateway, a process of its own that shares no code with any of them. The session that it
plays is encoded beforehand, as one compressed stream in which every event is flushed, as Discord does; it only has to
be written to the socket, from another core, and the socket is always full. So what limits a burst is the client: the
share of CPU time in the wall time shows it, and below 90 % a line says so.

Each client is a process of its own. It measures its own CPU time (`time.process_time()`, all threads, user and
system) between two calls of its hook: after {sizes.warmup:,} events to get warm and a pause in which it comes to
rest, until the last of {sizes.events:,} more has arrived. So nothing that was read ahead is left out, or counted for
others. Where the hook is called for messages only, CPU time is still divided by all events of the mix. There are
{sizes.rounds} rounds. In each, every client does every work once, in an order that rotates. A figure is the median
over the rounds; a ratio is taken within each round, then the median. Noise is the widest distance between two rounds,
relative to the median; it and the ratios are those of a table's first figure.

The mix is seeded and the same for all: {shares}; {around.mean_size:,.0f} bytes an event on average, and
{around.wire_share:.0%} of that on the wire with zlib-stream. Before it come READY and one guild with its channels and
roles, so that every library knows what the events are about. All clients ask for the same intents.

Paced events are written one by one, evenly spaced. Certificates are verified by all clients. Idle shards have a
heartbeat interval of {sizes.interval:g} s and are watched for {sizes.window:g} s, by TCP without TLS and without
guilds. Their heartbeats are acknowledged after 20 ms, as if there were a network in between. Memory is what Linux
counts when they have been ready for two seconds. Idle shards and disconnects are measured for all clients at the same
time, as they hardly do anything, in up to {sizes.together_rounds} of the rounds. A command carries the time of its
call, and the gateway subtracts it from its own clock, which is the same one. Disconnects take turns between a close
frame (4000), op 7 and a TCP reset; the time runs from there until the Resume of the next
connection has arrived."""


def _clients(results: Results) -> str:
    used = {run.client for run in results.runs}
    return "\n".join(f"- **{name}**: {each.settings}" for name, each in CONTESTANTS.items() if name in used)


def _noise(around: Circumstances) -> str:
    text = f"## Noise\n\nBefore the first run the load of the machine was {around.load:.2f}."
    if len(around.calibrations) > 1:
        text += (
            f" A fixed loop of pure Python, timed in CPU time before each round, varied by"
            f" {spread(around.calibrations):.1%}: differences of that size mean nothing."
        )
    return f"{text} Everything took {around.minutes:.0f} minutes."


_LIMITS: Final = """\
- Loopback has no loss, no delay, and sends in larger pieces than the Internet does.
- Only the client's CPU time is counted. What a bot does with an event comes on top, and is usually more.
- Caches are off where a library has a switch for them. With caches discord.py and hikari do more for a bot, and take
  more.
- One Python, one machine: the ratios travel better than the microseconds."""

_AGAIN: Final = """\
```sh
nox -s bench                      # writes this page; about a quarter of an hour
nox -s bench -- --quick           # three minutes, and not to be quoted
nox -s bench -- --only burst-raw --clients trioshard hikari
nox -s profile                    # where trioshard's time goes
```"""
