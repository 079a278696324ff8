"""One target under libFuzzer, in a process of its own: ``python -m tests.fuzz.worker TARGET [libFuzzer's options]``.

libFuzzer never returns: it ends the process when all inputs are run, or at the first that fails.
"""

from __future__ import annotations

import sys

import atheris

INSTRUMENTED = ["trioshard", "tests.fuzz", "wsproto", "websockets"]
"""Packages whose branches guide the search. The targets are among them: what they build is half of the way."""


def main() -> None:
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
