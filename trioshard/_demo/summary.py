"""What a demo has to say at the end, for people and as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from trioshard._demo.ledger import Balance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trioshard import QueueStatistics

__all__ = ["CommandCounts", "ReadyTimes", "Summary", "render_summary"]

INTERRUPTED = 130
"""The exit status that shells expect after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class CommandCounts:
    """What became of the commands.

    Attributes:
        accepted: taken over by the shard.
        written: written to a connection whole, by the shard's account.
        withdrawn: taken back by their senders before a byte of them was written.
        superseded: replaced by a newer presence.
        failed: ended by the end of the shard.
        pending: still waiting at the end.
        arrived: read by the gateway. What was written to a connection that broke before the gateway read it is
            missing here.
        withdrawn_but_arrived: commands that were taken back and came to the gateway nevertheless.
    """

    accepted: int = 0
    written: int = 0
    withdrawn: int = 0
    superseded: int = 0
    failed: int = 0
    pending: int = 0
    arrived: int = 0
    withdrawn_but_arrived: int = 0

    @classmethod
    def of(cls, queue: QueueStatistics, *, arrived: int, withdrawn_but_arrived: int) -> CommandCounts:
        """Join the shard's account with what was seen at the gateway."""
        return cls(
            accepted=queue.accepted,
            written=queue.written,
            withdrawn=queue.withdrawn,
            superseded=queue.superseded,
            failed=queue.failed,
            pending=queue.pending,
            arrived=arrived,
            withdrawn_but_arrived=withdrawn_but_arrived,
        )


@dataclass(frozen=True, slots=True)
class ReadyTimes:
    """From the end of a connection to the next READY or RESUMED, in milliseconds; ``None`` without any."""

    median: float | None = None
    worst: float | None = None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> ReadyTimes:
        """Summarise recovery times."""
        if not seconds:
            return cls()
        return cls(round(median(seconds) * 1000, 1), round(max(seconds) * 1000, 1))


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole demo. Connections, handshakes and what was refused are counted by the gateway, not by the client.

    Attributes:
        seconds: how long the weather lasted.
        seed: what it was drawn from.
        connections: WebSocket connections.
        resumes: sessions resumed.
        identifies: sessions asked for.
        commands: what became of the commands.
        refused: the gateway's violations by kind.
        crossing: payloads that crossed an Invalid Session or a close of the gateway on the wire. No client can
            prevent those, and they are no violations.
        dispatches: the books of numbered events.
        ready_ms: how long the bot was away.
        settled: whether the bot was ready again, and had got everything, when all was calm.
        interrupted: whether Ctrl-C ended it.
        failure: the error that ended the shard, if one did.
    """

    seconds: float
    seed: int
    connections: int = 0
    resumes: int = 0
    identifies: int = 0
    commands: CommandCounts = field(default_factory=CommandCounts)
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    crossing: int = 0
    dispatches: Balance = field(default_factory=Balance)
    ready_ms: ReadyTimes = field(default_factory=ReadyTimes)
    settled: bool = True
    interrupted: bool = False
    failure: str | None = None

    @property
    def complaints(self) -> list[str]:
        """What must not have happened, in words; empty when the promise was kept."""
        books = self.dispatches
        found = {
            "payloads refused by the gateway": sum(self.refused.values()),
            "events lost": books.lost,
            "events repeated": books.repeated,
            "events out of order": books.out_of_order,
            "events in a wrong session": books.unexpected,
            "commands withdrawn, but arrived": self.commands.withdrawn_but_arrived,
        }
        words = [f"{count:,} {what}" for what, count in found.items() if count]
        if self.failure is not None:
            words.append(f"the shard failed: {self.failure}")
        elif not self.settled and not self.interrupted:
            words.append("the bot was not ready in time after the weather had calmed down")
        return words

    @property
    def exit_status(self) -> int:
        """1 when there are complaints, 130 after Ctrl-C, 0 otherwise."""
        if self.complaints:
            return 1
        return INTERRUPTED if self.interrupted else 0

    def to_json(self) -> str:
        """One line of JSON."""
        data: dict[str, Any] = asdict(self)
        data["refused"] = dict(self.refused)
        return json.dumps(data)


def render_summary(summary: Summary) -> str:
    """Render a summary for people, in aligned lines."""
    commands, books, ready = summary.commands, summary.dispatches, summary.ready_ms
    refused = "  ".join(f"{count} {kind}" for kind, count in summary.refused.items())
    lines = [
        ("time", f"{summary.seconds:.1f} s, seed {summary.seed}"),
        (
            "connections",
            f"{summary.connections:,}  ({summary.resumes:,} resumes, {_plural(summary.identifies, 'identify')})",
        ),
        ("commands", f"{commands.accepted:,} accepted"),
        (
            "",
            f"{commands.written:,} written, {commands.withdrawn:,} withdrawn, {commands.superseded:,} superseded, "
            f"{commands.pending:,} pending",
        ),
        ("refused", refused or "0"),
        ("crossing", f"{summary.crossing:,}"),
        ("events", f"{books.sent:,} sent, {books.received:,} received"),
        ("", f"{books.lost:,} lost, {books.repeated:,} repeated, {books.out_of_order:,} out of order"),
    ]
    if books.discarded_by_gateway:
        lines.append(("", f"{books.discarded_by_gateway:,} went with a session that the gateway ended"))
    if books.under_way:
        lines.append(("", f"{books.under_way:,} still under way"))
    if ready.median is not None and ready.worst is not None:
        lines.append(("back after", f"{ready.median:,.0f} ms (median), {ready.worst:,.0f} ms (worst)"))
    body = "\n".join(f"  {label:<12}{text}" for label, text in lines)
    return f"{body}\n\n{_verdict(summary)}"


def _verdict(summary: Summary) -> str:
    if summary.complaints:
        return f"Failed: {'; '.join(summary.complaints)}."
    return "Interrupted; no complaints so far." if summary.interrupted else "No complaints."


def _plural(count: int, verb: str) -> str:
    if count == 1:
        return f"1 {verb}"
    return f"{count:,} {verb.removesuffix('y')}ies"
