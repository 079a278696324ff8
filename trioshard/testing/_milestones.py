"""Counted moments, and tasks that wait for the n-th one."""

from __future__ import annotations

from collections import Counter

import trio


class Milestones:
    """Counts what happened, by name, and wakes whoever waits for the n-th time."""

    __slots__ = ("_counts", "_waiting")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._waiting: dict[str, list[tuple[int, trio.Event]]] = {}

    def reach(self, name: str) -> None:
        """Note that `name` has happened once more."""
        self._counts[name] += 1
        waiting = self._waiting.get(name)
        if not waiting:
            return
        count = self._counts[name]
        for number, event in waiting:
            if number <= count:
                event.set()

    def count(self, name: str) -> int:
        """How often `name` has happened so far."""
        return self._counts[name]

    async def wait(self, name: str, number: int = 1) -> None:
        """Return when `name` has happened `number` times, counted from the start; at once if it has."""
        if self._counts[name] >= number:
            await trio.lowlevel.checkpoint()
            return
        entry = (number, trio.Event())
        waiting = self._waiting.setdefault(name, [])
        waiting.append(entry)
        try:
            await entry[1].wait()
        finally:
            waiting.remove(entry)
