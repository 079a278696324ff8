"""From runs to figures: medians over the rounds, ratios within them, and how far the rounds lie apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

__all__ = ["Results", "Run", "quantile", "spread"]


@dataclass
class Run:
    """What came of one client in one round of one work.

    Attributes:
        figures: by name, such as ``us`` for microseconds of CPU time an event. Empty if the run failed.
        error: what went wrong.
        notes: what a reader should know of it.
    """

    work: str
    client: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    notes: list[str] = field(default_factory=list)


def quantile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies; the nearest that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> float:
    """Return how far the values lie apart: the widest distance, relative to the median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


class Results:
    """All runs, and the questions that a report asks of them."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    def by_round(self, work: str, client: str, figure: str) -> dict[int, float]:
        """Return the figure of each round in which there is one."""
        return {
            run.round: run.figures[figure]
            for run in self.runs
            if run.work == work and run.client == client and figure in run.figures
        }

    def value(self, work: str, client: str, figure: str) -> float | None:
        """Return the median over the rounds, or ``None``."""
        values = list(self.by_round(work, client, figure).values())
        return median(values) if values else None

    def spread(self, work: str, client: str, figure: str) -> float | None:
        """Return the noise of a figure over the rounds, or ``None``."""
        values = list(self.by_round(work, client, figure).values())
        return spread(values) if values else None

    def ratio(self, work: str, figure: str, client: str, other: str, *, other_work: str = "") -> float | None:
        """Return how many times ``other``'s figure the client's is: the median of the ratios of each round."""
        mine = self.by_round(work, client, figure)
        theirs = self.by_round(other_work or work, other, figure)
        ratios = [mine[number] / theirs[number] for number in mine if theirs.get(number)]
        return median(ratios) if ratios else None

    def errors(self) -> list[Run]:
        """Return the runs that failed."""
        return [run for run in self.runs if run.error is not None]

    def notes(self, work: str) -> list[str]:
        """Return what is to be known of a work, each thing once."""
        return list(
            dict.fromkeys(f"{run.client}: {note}" for run in self.runs if run.work == work for note in run.notes)
        )

    def as_json(self) -> list[dict[str, Any]]:
        """Return everything for a file."""
        return [asdict(run) for run in self.runs]
