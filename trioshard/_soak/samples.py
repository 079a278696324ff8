"""The series that are judged at the end: what the process held, and after how many connections."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from trioshard._soak.flatness import LIMITS, find_trend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trioshard._soak.flatness import Trend

__all__ = ["Samples"]


class Samples:
    """Takes samples, and finds their trends. Kept as plain numbers, so that it adds no objects to what it counts."""

    def __init__(self) -> None:
        self._connections = array("d")
        self._series = {name: array("d") for name in LIMITS}

    def add(self, connections: int, values: Mapping[str, float]) -> None:
        """Add a sample: how many connections there had been, and what was measured."""
        self._connections.append(connections)
        for name, series in self._series.items():
            series.append(values.get(name, math.nan))

    def trends(self) -> dict[str, Trend]:
        """Judge every series that is long enough."""
        found: dict[str, Trend] = {}
        for name, series in self._series.items():
            known = [index for index, value in enumerate(series) if not math.isnan(value)]
            trend = find_trend(
                [self._connections[index] for index in known], [series[index] for index in known], LIMITS[name]
            )
            if trend is not None:
                found[name] = trend
        return found
