"""What a soak has to say at the end, for people and as JSON. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trioshard._demo.ledger import Balance
from trioshard._demo.summary import INTERRUPTED, CommandCounts, ReadyTimes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trioshard._soak.flatness import Trend

__all__ = ["StationBooks", "Summary", "render_summary"]

_MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class StationBooks:
    """One bot's part. Connections, handshakes and what was refused are counted by the gateway, not by the bot.

    Attributes:
        name: what the bot used.
        connections: WebSocket connections.
        resumes: sessions resumed.
        identifies: sessions asked for.
        commands: what became of the commands.
        retried: writes that broke and were repeated.
        arrived_twice: commands that came to the gateway once more.
        arrived_too_late: arrivals of which the books no longer know.
        unbalanced: looks at which the shard's counts of commands did not add up.
        refused: the gateway's violations by kind, without the forgiven ones.
        forgiven: presences that arrived too close to each other because the line had kept the earlier ones.
        crossing: payloads that crossed an Invalid Session or a close of the gateway on the wire.
        dispatches: the books of numbered events.
        ready_ms: how long the bot was away.
        trouble: what the line did, by kind.
        endings: why connections ended, in the words of the shard, as far as it was looked at in time.
        settled_after: seconds from the end of the trouble until the bot had got everything; ``None``: it never did.
        failure: the error that ended the shard, if one did.
    """

    name: str
    connections: int = 0
    resumes: int = 0
    identifies: int = 0
    commands: CommandCounts = field(default_factory=CommandCounts)
    retried: int = 0
    arrived_twice: int = 0
    arrived_too_late: int = 0
    unbalanced: int = 0
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    forgiven: int = 0
    crossing: int = 0
    dispatches: Balance = field(default_factory=Balance)
    ready_ms: ReadyTimes = field(default_factory=ReadyTimes)
    trouble: Mapping[str, int] = field(default_factory=dict[str, int])
    endings: Mapping[str, int] = field(default_factory=dict[str, int])
    settled_after: float | None = None
    failure: str | None = None

    def _counts(self) -> dict[str, int]:
        books, commands = self.dispatches, self.commands
        return {
            "payloads refused by the gateway": sum(self.refused.values()),
            "events lost": books.lost,
            "events repeated": books.repeated,
            "events out of order": books.out_of_order,
            "events in a wrong session": books.unexpected,
            "commands withdrawn, but arrived": commands.withdrawn_but_arrived,
            "commands arrived twice": self.arrived_twice,
            "commands arrived too late to tell": self.arrived_too_late,
            "times the counts of commands did not add up": self.unbalanced,
        }

    @property
    def faults(self) -> int:
        """How often something happened that must not. What is lost is known in the end only."""
        return sum(self._counts().values())

    def complaints(self, *, interrupted: bool) -> Iterator[str]:
        """Say what must not have happened, in words."""
        commands = self.commands
        yield from (f"{count:,} {what} ({self.name})" for what, count in self._counts().items() if count)
        if self.failure is not None:
            yield f"the shard failed: {self.failure} ({self.name})"
        elif self.settled_after is None:
            if not interrupted:
                yield f"the bot had not got everything in time after the trouble ({self.name})"
        elif commands.pending:
            yield f"{commands.pending:,} commands still pending after the trouble ({self.name})"


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was still there after everything had been left, beyond what there was before."""

    tasks: int = 0
    descriptors: int = 0
    unclosed: int = 0
    """Sockets and pipes that nobody closed, and the collector found."""

    def complaints(self) -> Iterator[str]:
        """Say what must not have been left, in words."""
        if self.tasks:
            yield f"{self.tasks:+,} tasks after the end"
        if self.descriptors:
            yield f"{self.descriptors:+,} descriptors after the end"
        if self.unclosed:
            yield f"{self.unclosed:,} sockets were left to the collector"


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole soak.

    Attributes:
        seconds: how long the trouble lasted.
        seed: what it was drawn from.
        stations: the bots' parts.
        trends: what became of memory, tasks and so on, by name; without those whose series are too short.
        leftovers: what was not cleaned up.
        interrupted: whether Ctrl-C ended it.
    """

    seconds: float
    seed: int
    stations: Sequence[StationBooks]
    trends: Mapping[str, Trend] = field(default_factory=dict[str, "Trend"])
    leftovers: Leftovers = field(default_factory=Leftovers)
    interrupted: bool = False

    @property
    def complaints(self) -> list[str]:
        """What must not have happened, in words; empty when all is well."""
        words = [words for books in self.stations for words in books.complaints(interrupted=self.interrupted)]
        for name, trend in self.trends.items():
            if trend.grows:
                words.append(
                    f"{name} grow from {_amount(name, trend.early)} to {_amount(name, trend.late)},"
                    f" {_amount(name, trend.per_thousand)} per 1,000 connections"
                )
        return [*words, *self.leftovers.complaints()]

    @property
    def exit_status(self) -> int:
        """1 when there are complaints, 130 after Ctrl-C, 0 otherwise."""
        if self.complaints:
            return 1
        return INTERRUPTED if self.interrupted else 0

    def to_json(self) -> str:
        """One line of JSON."""
        data: dict[str, Any] = asdict(self)
        return json.dumps(data | {"complaints": self.complaints, "exit_status": self.exit_status})


def render_summary(summary: Summary) -> str:
    """Render a summary for people, in aligned lines."""
    lines = [("time", f"{summary.seconds:.1f} s, seed {summary.seed}")]
    for books in summary.stations:
        lines += [("", ""), *_station_lines(books)]
    lines.append(("", ""))
    for name, trend in summary.trends.items():
        lines.append(
            (
                name,
                f"{_amount(name, trend.early)} early, {_amount(name, trend.late)} late"
                f" ({_amount(name, trend.per_thousand)} per 1,000 connections, noise {_amount(name, trend.noise)})",
            )
        )
    body = "\n".join(f"  {label:<13}{text}".rstrip() for label, text in lines)
    return f"{body}\n\n{_verdict(summary)}"


def _station_lines(books: StationBooks) -> Iterator[tuple[str, str]]:
    commands, events, ready = books.commands, books.dispatches, books.ready_ms
    yield "bot", books.name
    yield "connections", f"{books.connections:,}  ({books.resumes:,} resumes, {books.identifies:,} identifies)"
    yield "trouble", _list(books.trouble)
    yield "endings", _list(books.endings)
    yield "commands", f"{commands.accepted:,} accepted, {commands.arrived:,} arrived, {books.retried:,} writes repeated"
    yield (
        "",
        f"{commands.written:,} written, {commands.withdrawn:,} withdrawn, {commands.superseded:,} superseded,"
        f" {commands.pending:,} pending",
    )
    yield "refused", _list(books.refused) or "0"
    yield "forgiven", f"{books.forgiven:,}  ({books.crossing:,} crossing)"
    yield "events", f"{events.sent:,} sent, {events.received:,} received"
    yield "", f"{events.lost:,} lost, {events.repeated:,} repeated, {events.out_of_order:,} out of order"
    yield "", f"{events.discarded_by_gateway:,} gone with a session that the gateway ended"
    if events.never_known:
        yield "", f"{events.never_known:,} in sessions of which the bot never heard"
    if ready.median is not None and ready.worst is not None:
        yield "back after", f"{ready.median:,.0f} ms (median), {ready.worst:,.0f} ms (worst)"
    if books.settled_after is not None:
        yield "settled after", f" {books.settled_after:.1f} s"


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in Counter(counts).most_common())


def _amount(name: str, value: float) -> str:
    return f"{value / _MEGABYTE:.1f} MiB" if name == "memory" else f"{value:,.0f}"


def _verdict(summary: Summary) -> str:
    if summary.complaints:
        return f"Failed: {'; '.join(summary.complaints)}."
    return "Interrupted; no complaints so far." if summary.interrupted else "No complaints."
