"""Python in another process, which hashes strings in another way and remembers nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def run_elsewhere(code: str, *, hash_seed: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own; its output is text."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told_elsewhere(code: str, *, hash_seed: int = 1) -> str:
    """Return what a piece of Python prints in a process of its own."""
    done = run_elsewhere(code, hash_seed=hash_seed)
    assert done.returncode == 0, done.stderr
    return done.stdout
