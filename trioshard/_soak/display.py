"""What the soak shows while it runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["View", "render_line", "render_screen"]


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the soak, both bots together.

    Attributes:
        elapsed: seconds since it began.
        seconds: how long the trouble will last.
        seed: what it is drawn from.
        connections: so far, by the gateways' account.
        resumes: so far.
        identifies: so far.
        kills: proxies killed.
        resets: connections reset by the line.
        stalls: times it stood still.
        written: commands written.
        received: numbered events that arrived.
        faults: everything so far that must not happen.
        memory: bytes.
        tasks: Trio tasks living.
    """

    elapsed: float
    seconds: float
    seed: int
    connections: int = 0
    resumes: int = 0
    identifies: int = 0
    kills: int = 0
    resets: int = 0
    stalls: int = 0
    written: int = 0
    received: int = 0
    faults: int = 0
    memory: int = 0
    tasks: int = 0


def render_line(view: View) -> str:
    """Render a moment as one line, for a log or a pipe."""
    return (
        f"{view.elapsed:6.0f} s {view.connections:>6,} connections {view.resumes:>6,} resumes"
        f" {view.identifies:>4,} identifies {view.kills:>4,} kills {view.resets:>6,} resets {view.stalls:>5,} stalls"
        f" {view.written:>8,} written {view.received:>8,} received {view.faults:>3,} faults"
        f" {view.memory / 2**20:6.1f} MiB {view.tasks:>6,} tasks"
    )


def render_screen(view: View) -> list[str]:
    """Render a moment as the lines of a live display, without line ends."""
    rows = [
        ("time", f"{view.elapsed:.0f} of {view.seconds:g} s" if view.elapsed < view.seconds else "settling"),
        ("connections", f"{view.connections:,}  ({view.resumes:,} resumes, {view.identifies:,} identifies)"),
        ("line", f"{view.kills:,} kills  {view.resets:,} resets  {view.stalls:,} stalls"),
        ("commands", f"{view.written:,} written"),
        ("events", f"{view.received:,} received"),
        ("faults", f"{view.faults:,}"),
        ("holds", f"{view.memory / 2**20:.1f} MiB  {view.tasks:,} tasks"),
    ]
    return [f"trioshard soak, seed {view.seed}", *(f"  {label:<12}{text}" for label, text in rows)]
