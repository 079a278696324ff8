"""The books of tagged commands: what was taken back never arrives, and nothing arrives twice. Pure.

They stay of one size, however long the run: one byte a command, for the newest `MEMORY` of them. A command that
arrives when its entry is gone is a complaint of its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MEMORY", "TagBook", "Tail"]

MEMORY: Final = 1 << 16

_WITHDRAWN: Final = 1
_ARRIVED: Final = 2

T = TypeVar("T")


class TagBook:
    """Takes both sides' entries, in any order. Tags are numbers that count up."""

    def __init__(self) -> None:
        self._fates = bytearray(MEMORY)
        self._newest = -1
        self.arrived = 0
        """Commands with a tag that arrived, repetitions counted."""
        self.withdrawn_but_arrived = 0
        self.repeated = 0
        """Arrivals of what had arrived before."""
        self.too_late = 0
        """Arrivals so late that nobody knows any more."""

    @property
    def faults(self) -> int:
        """What must not have happened."""
        return self.withdrawn_but_arrived + self.repeated + self.too_late

    def withdraw(self, tag: int) -> None:
        """Enter that a command was taken back by its sender."""
        if self._find(tag):
            self._enter(tag, _WITHDRAWN)

    def arrive(self, tag: int) -> None:
        """Enter that a command came to the gateway."""
        self.arrived += 1
        if self._find(tag):
            self._enter(tag, _ARRIVED)
        else:
            self.too_late += 1

    def _enter(self, tag: int, fate: int) -> None:
        before = self._fates[tag % MEMORY]
        after = before | fate
        self._fates[tag % MEMORY] = after
        if fate == _ARRIVED and before & _ARRIVED:
            self.repeated += 1
        elif after == _WITHDRAWN | _ARRIVED:
            self.withdrawn_but_arrived += 1

    def _find(self, tag: int) -> bool:
        """Make room for a tag that is new; return whether it has an entry."""
        if self._newest < 0:
            self._newest = tag
        for new in range(max(self._newest + 1, tag - MEMORY + 1), tag + 1):
            self._fates[new % MEMORY] = 0
        self._newest = max(self._newest, tag)
        return tag > self._newest - MEMORY


class Tail(Generic[T]):
    """Tells what was appended to a bounded list since the last look. What was dropped between two looks is counted."""

    def __init__(self, entries: Sequence[T]) -> None:
        self._entries = entries
        self._last: T | None = None
        self.looked_away = 0
        """How often more came between two looks than the list keeps."""

    def news(self) -> Iterator[T]:
        """Yield what is new, oldest first."""
        fresh: deque[T] = deque()
        for entry in reversed(self._entries):
            if entry is self._last:
                break
            fresh.appendleft(entry)
        else:
            self.looked_away += self._last is not None
        if fresh:
            self._last = fresh[-1]
        yield from fresh
