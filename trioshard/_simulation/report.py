"""What people see of a simulation: its progress, the story of a seed, the coverage, and the sum."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

    from trioshard._simulation.campaign import Tally
    from trioshard._simulation.history import Result

__all__ = ["Display", "exit_status", "render", "render_story"]

FRAME: Final = 0.5
LINE_EVERY: Final = 15.0
"""Seconds between two looks at the progress, on a terminal and elsewhere."""

FAILURES_TOLD: Final = 10
"""Failing seeds that are told of, a line each; the first one with its whole story."""


class Display:
    """Shows the progress of a campaign: one line, redrawn on a terminal; now and then a new one elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = time.monotonic()
        self._told: set[int] = set()

    def show(self, tally: Tally) -> None:
        """Show it, if it is time to; and every seed that fails, at once."""
        for failed in tally.failures:
            if failed.seed not in self._told:
                self._told.add(failed.seed)
                self._write(f"seed {failed.seed} failed: {failed.complaints[0]}")
                if self._live:
                    self._stream.write("\n")
        now = time.monotonic()
        if now - self._shown < (FRAME if self._live else LINE_EVERY):
            return
        self._shown = now
        self._write(_progress(tally))

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()


def _progress(tally: Tally) -> str:
    rate = tally.played / tally.elapsed
    left = (tally.order.count - tally.played) / rate if rate else 0.0
    return (
        f"{tally.played:,} of {tally.order.count:,} seeds, {rate:.1f} a second, {left:,.0f} s left"
        f"  {len(tally.failures)} failed, {len(tally.coverage.missing())} pairs not met yet"
    )


def render_story(result: Result) -> list[str]:
    """Render what happened in one seed, line by line, and what was wrong with it."""
    return [
        f"seed {result.seed}: {', '.join(result.traits)}",
        *result.timeline,
        *(f"WRONG: {complaint}" for complaint in result.complaints),
        f"digest {result.digest}",
    ]


def render(tally: Tally) -> list[str]:
    """Render a campaign: the story of the first failing seed, the coverage, and the sum."""
    lines: list[str] = []
    if tally.failures:
        first = tally.failures[0]
        lines += [*render_story(first), ""]
        lines += [f"seed {failed.seed}: {'; '.join(failed.complaints)}" for failed in tally.failures[:FAILURES_TOLD]]
        transport = f" --transport {tally.order.transport}" if tally.order.transport else ""
        lines += ["", f"again: trioshard simulate --from {first.seed} --seeds 1 --story{transport}", ""]
    lines += [*tally.coverage.table(), ""]
    missing = tally.coverage.missing()
    if missing:
        lines += [f"not met: {', '.join(missing)}", ""]
    least = tally.least or (0.0, 0, 0)
    lines += [
        f"{tally.played:,} seeds, {len(tally.failures)} failed",
        f"{tally.seconds / 3600:,.1f} virtual hours, {tally.connections:,} connections, {tally.commands:,} commands"
        f" ({tally.written:,} receipts), {tally.events:,} events",
        f"each seed: at least {least[0]:.0f} virtual seconds, {least[1]} reconnects, {least[2]} commands",
        f"{tally.elapsed:,.0f} s; {tally.pace:.1f} seeds per second of a processor",
    ]
    return lines


def exit_status(tally: Tally, *, all_met: bool) -> int:
    """1 if a seed failed, or with ``all_met`` if something was not met; 0 otherwise."""
    return int(bool(tally.failures) or (all_met and bool(tally.coverage.missing())))
