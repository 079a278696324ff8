"""What the figures were measured on, and how steady it is."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["calibrate", "describe_machine", "load"]

_LOOPS: Final = 2_000_000


def calibrate() -> float:
    """Return the CPU seconds that a fixed loop of pure Python takes: always the same on a machine without noise."""
    began = time.process_time()
    total = 0
    for number in range(_LOOPS):
        total += number & 7
    return time.process_time() - began


def load() -> float:
    """Return how many processes wanted to run in the last minute, on average; 0.0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def describe_machine() -> dict[str, str]:
    """Return what a reader wants to know of the machine."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "System": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, no -O, no uvloop",
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or sys.platform
