"""What this process holds at a moment: memory, objects, tasks, open descriptors."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import Final

import trio

__all__ = ["count_descriptors", "count_objects", "count_tasks", "measure_memory"]

_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
_JUDGE: Final = "trioshard.testing"


def measure_memory() -> int:
    """Return the bytes of resident memory; where the system does not tell, the most there ever were.

    What the allocator of the C library holds free is given back first, where it can be told to: after many large and
    small blocks that is more than what is in use, and comes and goes by tens of megabytes.
    """
    if _trim is not None:
        _trim(0)
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # not everywhere

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def count_objects() -> int:
    """Return how many objects the collector knows after a collection.

    Without those of the built-in gateway: it keeps what it may have to replay, and lets it go with the session.
    """
    gc.collect()
    return sum(not (type(thing).__module__ or "").startswith(_JUDGE) for thing in gc.get_objects())


def count_tasks() -> int:
    """Return how many Trio tasks live."""
    return trio.lowlevel.current_statistics().tasks_living


def count_descriptors() -> int:
    """Return how many files, sockets and pipes are open; 0 where the system does not tell."""
    for folder in _DESCRIPTORS:
        if folder.is_dir():
            return len(os.listdir(folder))
    return 0
