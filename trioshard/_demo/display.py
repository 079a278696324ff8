"""What the demo shows while it runs. Rendering is pure; only `Screen` writes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trioshard import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

__all__ = ["HISTORY", "Screen", "View", "render_line", "render_screen"]

HISTORY: Final = 60
"""Moments that the history line shows."""

_ERASE_REST_OF_LINE: Final = "\x1b[K"
_UP_TO_LINE_START: Final = "\x1b[{}F"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_BOLD, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the demo.

    Attributes:
        elapsed: seconds since it began.
        seconds: how long it will last.
        seed: what it is drawn from.
        phase: of the bot's connection.
        connections: so far, by the gateway's account.
        resumes: so far.
        identifies: so far.
        written: commands written.
        withdrawn: commands withdrawn.
        superseded: commands superseded.
        waiting: commands that wait.
        sent: numbered events published.
        received: those that arrived.
        blemishes: those that came twice, or out of order.
        refused: the gateway's violations.
        history: the phase at recent moments, oldest first.
    """

    elapsed: float
    seconds: float
    seed: int
    phase: Phase
    connections: int = 0
    resumes: int = 0
    identifies: int = 0
    written: int = 0
    withdrawn: int = 0
    superseded: int = 0
    waiting: int = 0
    sent: int = 0
    received: int = 0
    blemishes: int = 0
    refused: int = 0
    history: tuple[Phase, ...] = ()

    @property
    def reconnects(self) -> int:
        """Connections but the first."""
        return max(0, self.connections - 1)


def render_line(view: View) -> str:
    """Render a moment as one line, for a log or a pipe."""
    return (
        f"{view.elapsed:6.1f} s  {view.phase.value:<14} {view.reconnects:>5,} reconnects {view.written:>7,} commands"
        f" {view.received:>7,} events {view.refused:>3,} refused"
    )


def render_screen(view: View, *, unicode: bool = True, colour: bool = True) -> list[str]:
    """Render a moment as the lines of a live display, without line ends."""
    rate = view.reconnects / view.elapsed if view.elapsed > 0 else 0.0
    refused = f"{view.refused:,}"
    if colour:
        refused = f"{_RED if view.refused else _GREEN}{refused}{_PLAIN}"
    title = f"trioshard demo, seed {view.seed}"
    rows = [
        ("time", _time(view)),
        ("phase", view.phase.value),
        (
            "reconnects",
            f"{view.reconnects:,}  ({rate:.1f} a second; {view.resumes:,} resumed, {view.identifies:,} identified)",
        ),
        (
            "commands",
            f"{view.written:,} written  {view.withdrawn:,} withdrawn  {view.superseded:,} superseded  "
            f"{view.waiting:,} waiting",
        ),
        ("events", f"{view.sent:,} sent  {view.received:,} received  {view.blemishes:,} twice or out of order"),
        ("refused", refused),
        ("", render_history(view.history, unicode=unicode)),
    ]
    return [f"{_BOLD}{title}{_PLAIN}" if colour else title, *(f"  {label:<12}{text}".rstrip() for label, text in rows)]


def _time(view: View) -> str:
    if view.elapsed < view.seconds:
        return f"{view.elapsed:.1f} of {view.seconds:g} s"
    return f"{view.seconds:g} s are over; waiting for what is still under way"


def render_history(phases: Iterable[Phase], *, unicode: bool = True) -> str:
    """Render one mark for each moment: full when ready, half in a handshake, a dot without connection."""
    full, half, none = "█▄·" if unicode else "#+."
    marks = {Phase.READY: full, Phase.CONNECTING: none, Phase.CLOSING: none, Phase.CLOSED: none}
    return "".join(marks.get(phase, half) for phase in phases)


class Screen:
    """Redraws a few lines in place. Use it as a context manager: it gives the cursor back."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._height = 0
        self.unicode = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"

    def __enter__(self) -> Screen:
        self._stream.write(_HIDE_CURSOR)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.write(_SHOW_CURSOR)
        self._stream.flush()

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what was drawn last."""
        width = shutil.get_terminal_size().columns
        up = _UP_TO_LINE_START.format(self._height) if self._height else ""
        self._stream.write(up + "".join(f"{_clip(line, width)}{_ERASE_REST_OF_LINE}\n" for line in lines))
        self._stream.flush()
        self._height = len(lines)


def _clip(line: str, width: int) -> str:
    # A line that wraps would not be redrawn in place. Lines with colours are short.
    return line if "\x1b" in line else line[: max(width - 1, 0)]
