"""How a lock is taken on the way of a command to the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Holding"]


class Holding:
    """Holds a lock for a block, as ``async with lock`` does, but does not make way for others when the lock is free.

    A command passes two or three locks that hardly ever are taken, and the task would wait for its next turn at each.
    In the order of those who wait nothing changes, and a task that has been cancelled is told so.
    """

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
