"""Running single inputs again, with a time limit, and making a failing one smaller."""

from __future__ import annotations

import random
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import FrameType

__all__ = ["TIME_LIMIT", "Hang", "failure", "random_input", "shrink"]

TIME_LIMIT: Final = 10.0
"""Seconds that one input may take. A thousand times what the slowest need."""


class Hang(Exception):
    """An input took longer than the limit."""


def random_input(name: str, number: int) -> bytes:
    """Return the ``number``-th input that is drawn for the target ``name``: always the same."""
    chance = random.Random(f"{name} {number}")
    return chance.randbytes(chance.randrange(1, 200))


def failure(run: Callable[[bytes], None], data: bytes) -> BaseException | None:
    """Run one input; return what it raised, or a `Hang`."""
    try:
        with _time_limit():
            run(data)
    except Exception as exc:
        return exc
    return None


@contextmanager
def _time_limit() -> Generator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise Hang(f"no end after {TIME_LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shrink(run: Callable[[bytes], None], data: bytes, *, seconds: float) -> bytes:
    """Return the smallest input that was found to fail in the same place, after ``seconds`` at most."""
    place = _place(failure(run, data))
    deadline = time.monotonic() + seconds
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(data):
            if time.monotonic() > deadline:
                return data
            if _place(failure(run, candidate)) == place:
                data, smaller = candidate, True
                break
    return data


def _smaller(data: bytes) -> Iterator[bytes]:
    """Without a piece, from large pieces to single bytes; then with single bytes as zero."""
    size = len(data)
    while size:
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]
        size //= 2
    for at, byte in enumerate(data):
        if byte:
            yield data[:at] + b"\x00" + data[at + 1 :]


def _place(error: BaseException | None) -> object:
    if error is None or error.__traceback__ is None:
        return None
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace.tb_frame.f_code, trace.tb_lineno
