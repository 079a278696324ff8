"""Flat, or growing: how a leak is told from noise. Pure.

A quantity is looked at over the number of connections, which is what leaks go by, and by three measures:

1. The first quarter of the samples is warm-up, and left out: caches fill, buffers find their size.
2. **growth**: the median of the last quarter less the median of the second.
3. **per_thousand**: the slope, as the median of the slopes between samples that lie half of the rest apart
   (Theil and Sen's idea, with pairs of one distance), times 1,000 connections.

It **grows** when the growth is more than an allowance and three times the noise together, *and* the slope is more than
a limit. The noise is the median distance of samples from the slope through them, so a wild series needs a larger
growth. Medians do not mind a few wild samples; the allowance lets pass what is settled once; the slope lets pass a step
early in the run. ::

    quantity      allowance   limit per 1,000 connections
    memory        8 MiB       2 MiB
    objects       600         400       one object a connection is 1,000
    tasks         8           50        one task a connection is 1,000
    descriptors   4           4         one descriptor in a hundred connections is 10
    waiting       16          50        commands in the queue
    outbox        300         300       events in the outboxes

So a leak is found when half of the run's connections leak more than the allowance and the noise: one task a connection
shows after some 50 connections, one descriptor in a hundred after some 1,000, one object a connection after some 2,000.
With fewer than `FEWEST` samples nothing is said, and over fewer than `FEWEST_CONNECTIONS` nothing grows: what a handful
of connections hold at one moment or another is no trend.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FEWEST", "LIMITS", "Limit", "Trend", "find_trend"]

FEWEST: Final = 12
"""Samples, at least."""

FEWEST_CONNECTIONS: Final = 30
"""Connections after the warm-up, at least."""

_NOISES: Final = 3.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a quantity may grow by: in all, and by slope per 1,000 connections."""

    allowance: float
    per_thousand: float


LIMITS: Final[Mapping[str, Limit]] = {
    "memory": Limit(8 * 2**20, 2 * 2**20),
    "objects": Limit(600, 400),
    "tasks": Limit(8, 50),
    "descriptors": Limit(4, 4),
    "waiting": Limit(16, 50),
    "outbox": Limit(300, 300),
}
"""By the name of the quantity."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What became of one quantity. The words are explained in the module's docstring.

    Attributes:
        early: median of the second quarter.
        late: median of the last quarter.
        per_thousand: slope per 1,000 connections.
        noise: median distance from that slope.
        grows: the verdict.
    """

    early: float
    late: float
    per_thousand: float
    noise: float
    grows: bool


def find_trend(connections: Sequence[float], values: Sequence[float], limit: Limit) -> Trend | None:
    """Judge a series; ``None`` when it is too short.

    Args:
        connections: how many there had been at each sample; never fewer than before.
        values: the quantity at each sample.
        limit: what it may grow by.
    """
    count = len(values)
    if count < FEWEST:
        return None
    early, late = median(values[count // 4 : count // 2]), median(values[-(count // 4) :])
    numbers, settled = connections[count // 4 :], values[count // 4 :]
    slope = _slope(numbers, settled)
    middle = median(value - slope * number for number, value in zip(numbers, settled, strict=True))
    noise = median(abs(value - slope * number - middle) for number, value in zip(numbers, settled, strict=True))
    enough = numbers[-1] - numbers[0] >= FEWEST_CONNECTIONS
    grows = enough and late - early > limit.allowance + _NOISES * noise and slope * 1000 > limit.per_thousand
    return Trend(early, late, slope * 1000, noise, grows)


def _slope(numbers: Sequence[float], values: Sequence[float]) -> float:
    half = len(values) // 2
    slopes = [
        (values[index + half] - values[index]) / (numbers[index + half] - numbers[index])
        for index in range(len(values) - half)
        if numbers[index + half] > numbers[index]
    ]
    return median(slopes) if slopes else 0.0
