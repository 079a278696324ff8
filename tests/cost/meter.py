"""What is counted instead of timed: calls of functions, and the turns that Trio gives to tasks."""

from __future__ import annotations

import inspect
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

import trioshard

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import CodeType, FrameType, TracebackType

_PACKAGE: Final = Path(trioshard.__file__).parent
_OTHERS: Final = frozenset({"testing", "_demo", "_simulation", "_soak"})
"""What lies in the package, and takes no part in receiving."""


def _code_of(function: Callable[..., object]) -> CodeType:
    code: CodeType = inspect.unwrap(function).__code__  # type: ignore[attr-defined]
    return code


SCOPES: Final = frozenset({_code_of(trio.CancelScope.__enter__)})
LOCKS: Final = frozenset({_code_of(trio.Lock.acquire), _code_of(trio.Lock.acquire_nowait)})
TASKS: Final = frozenset({_code_of(trio.Nursery.start_soon), _code_of(trio.lowlevel.spawn_system_task)})
_LOADS: Final = _code_of(json.loads)


class Meter(trio.abc.Instrument):
    """Counts for a block, in all tasks but the ``servers``.

    ``turns`` are those that Trio gives to tasks. Calls are those of Python functions, and each time that a coroutine
    goes on is one, too. What Trio itself does between two turns is not counted.
    """

    def __init__(self, servers: trio.Nursery | None = None) -> None:
        self.turns = 0
        self.decodes = 0
        """How often JSON was decoded."""
        self._servers = servers
        self._counting = True
        self._calls: Counter[CodeType] = Counter()

    def __enter__(self) -> Meter:
        trio.lowlevel.add_instrument(self)
        self._profiler_before = sys.getprofile()
        sys.setprofile(self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.setprofile(self._profiler_before)
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._counting = self._servers is None or task.parent_nursery is not self._servers
        self.turns += self._counting

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._counting = False

    def _hear(self, frame: FrameType, event: str, called: object) -> None:
        if not self._counting:
            return
        if event == "call":
            self._calls[frame.f_code] += 1
            self.decodes += frame.f_code is _LOADS
        elif event == "c_call":
            self.decodes += called == msgspec.json.decode or isinstance(
                getattr(called, "__self__", None), msgspec.json.Decoder
            )

    def calls_of(self, codes: Collection[CodeType]) -> int:
        """How often these functions were called."""
        return sum(self._calls[code] for code in codes)

    @property
    def calls(self) -> int:
        """How often functions of the product were called."""
        return sum(self._of_the_product().values())

    def dearest(self, events: int) -> str:
        """Which functions of the product were called most, with the number of calls for each event."""
        return ", ".join(
            f"{code.co_qualname} {count / events:.2f}" for code, count in self._of_the_product().most_common(15)
        )

    def _of_the_product(self) -> Counter[CodeType]:
        return Counter({code: count for code, count in self._calls.items() if _is_of_the_product(code)})


def _is_of_the_product(code: CodeType) -> bool:
    path = Path(code.co_filename)
    return path.is_relative_to(_PACKAGE) and path.relative_to(_PACKAGE).parts[0] not in _OTHERS
