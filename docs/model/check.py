#!/usr/bin/env python3
"""Check the models of this directory with spin: `python docs/model/check.py`. Needs spin and a C compiler.

Each check tries every order of steps there is. Some have to hold; the others have one rule taken away and have to
fail, each in the way that is written here. The exit status is 0 only if everything is as expected.

`--stories` prints the counterexamples that the README tells.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

SAFETY = ("-DSAFETY",)
SHORTEST = ("-DSAFETY", "-DBFS")
LIVENESS = ("-DNFAIR=3",)

STUCK = "invalid end state"
CYCLE = "acceptance cycle"
ASSERTION = "assertion violated"

LIMIT = 300
"""Seconds for one search. Each takes a few."""


@dataclass(frozen=True)
class Check:
    """One run of spin."""

    title: str
    switches: str
    fails: str = ""
    """What it must fail with; nothing if it must hold."""
    model: str = "trioshard.pml"
    build: tuple[str, ...] = SAFETY
    run: tuple[str, ...] = ()
    long: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a check."""

    states: int
    error: str
    story: tuple[str, ...]
    seconds: float

    def fits(self, check: Check) -> bool:
        """Return whether it is what the check expects."""
        return check.fails in self.error if check.fails else not self.error


SMALL = "-DFAULTS=1 -DBEATS=1"
WRITTEN = "-DCLAIM_WRITTEN"
BEATS = "-DFAULTS=0 -DLIMITS -DTIME_MAY_STOP -DWATCH_BEATS -DCLAIM_BEAT"
FAIRLY = ("-a", "-f")

NO_BAR = Check(
    "no bar, only the lock: who stands in line writes after op 9",
    f"{SMALL} -DNO_BAR -DONLY_OP_9 -DONLY_CLAIM_1",
    ASSERTION,
    build=SHORTEST,
    run=("-E",),
)
RECONNECT = Check("double check, the same object on a new socket", "", ASSERTION, "double_check.pml", SHORTEST, ("-E",))
SAME_SOCKET = Check(
    "double check, Identify again on the same socket", "-DSAME_SOCKET", ASSERTION, "double_check.pml", SHORTEST, ("-E",)
)
STORIES = (RECONNECT, SAME_SOCKET, NO_BAR)

CHECKS = (
    Check("claims 1 to 7, two faults", "-DFAULTS=2 -DBEATS=1", long=True),
    Check(
        "claim 8: accepted and not cancelled, so written in the end",
        f"{WRITTEN} -DFAULTS=1",
        build=LIVENESS,
        run=FAIRLY,
        long=True,
    ),
    Check("claim 8, with limits to wait for", f"{WRITTEN} -DFAULTS=0 -DLIMITS", build=LIVENESS, run=FAIRLY),
    Check("claims 1 to 7, more heartbeats", "-DFAULTS=1 -DBEATS=2 -DCOMMANDS=1"),
    Check("claims 1 to 7, more room on the wire and in the queue", f"{SMALL} -DWIRE=2 -DCAPACITY=2"),
    Check("claims 1 to 7, the user leaves at any moment", f"{SMALL} -DCOMMANDS=1 -DLEAVES", long=True),
    Check("claim 9: no heartbeat waits for the limits", BEATS, build=LIVENESS, run=FAIRLY),
    Check("no lock", f"{SMALL} -DNO_LOCK", ASSERTION, build=SHORTEST),
    NO_BAR,
    Check("no interrupt: the reader waits behind a stalled write", "-DFAULTS=1 -DBEATS=2 -DNO_INTERRUPT", STUCK),
    Check("no retry of a broken write", f"{SMALL} -DNO_RETRY", STUCK),
    Check("RESUMED does not wake the sender", f"{SMALL} -DRESUMED_DOES_NOT_WAKE", STUCK),
    Check("a caller's cancellation reaches the socket", f"{SMALL} -DCANCEL_REACHES_SOCKET", ASSERTION),
    Check("limits are waited for under the lock", f"{BEATS} -DBUDGET_UNDER_LOCK", CYCLE, build=LIVENESS, run=FAIRLY),
    Check("no phase check, but the sender starts at READY", f"{SMALL} -DNO_PHASE_CHECK"),
    Check(
        "the sender starts at Hello, but there is the phase check",
        "-DFAULTS=1 -DBEATS=1 -DSENDER_STARTS_EARLY",
        run=("-E",),
    ),
    Check(
        "no phase check, and the sender starts at Hello",
        f"{SMALL} -DNO_PHASE_CHECK -DSENDER_STARTS_EARLY",
        ASSERTION,
        build=SHORTEST,
    ),
    Check(
        "the phase follows after the write, and an answer is read before",
        f"{SMALL} -DPHASE_AFTER_WRITE",
        ASSERTION,
        build=SHORTEST,
    ),
    Check("limit 1: a command may cross the server's op 9", f"{SMALL} -DNO_CROSSING", ASSERTION, build=SHORTEST),
    Check("limit 2: a write in flight may end while it is interrupted", f"{SMALL} -DSTRICT", ASSERTION, build=SHORTEST),
    RECONNECT,
    SAME_SOCKET,
    Check(
        "the same designs with second look and write in one step", "-DONE_STEP", model="double_check.pml", run=("-E",)
    ),
    Check("… and on the same socket", "-DONE_STEP -DSAME_SOCKET", model="double_check.pml", run=("-E",)),
)


def compiler() -> str | None:
    """Return the C compiler to use, or ``None``. spin itself calls gcc to read a model."""
    return shutil.which("gcc")


def call(directory: Path, *command: str) -> str:
    """Run a command in ``directory`` and return what it prints."""
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False
    )
    return done.stdout


def perform(check: Check, parent: Path) -> Result:
    """Build and run one check in a directory of its own."""
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(dir=parent))
    shutil.copy(HERE / check.model, directory)
    switches = check.switches.split()
    said = call(directory, "spin", *switches, "-a", check.model)
    if not (directory / "pan.c").exists():
        raise RuntimeError(f"{check.title}: spin does not understand the model:\n{said}")
    cc = compiler()
    assert cc is not None
    # Only a long search is worth a long compilation.
    said = call(directory, cc, "-O2" if check.long else "-O0", "-w", *check.build, "-o", "pan", "pan.c")
    if not (directory / "pan").exists():
        raise RuntimeError(f"{check.title}: the verifier does not compile:\n{said}")
    said = call(directory, "./pan", "-m100000", *check.run)
    states = re.search(r"(\d[\d.e+]*) states, stored", said)
    errors = re.search(r"errors: (\d+)", said)
    if states is None or errors is None or "max search depth too small" in said or "out of memory" in said:
        raise RuntimeError(f"{check.title}: the search did not end:\n{said}")
    error = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", said, re.MULTILINE)
    if (error is not None) != (errors[1] != "0"):
        raise RuntimeError(f"{check.title}: the verifier contradicts itself:\n{said}")
    story: tuple[str, ...] = ()
    if error is not None and check.build is not LIVENESS:
        replay = call(directory, "spin", *switches, "-t", "-T", check.model)
        story = tuple(line.strip()[1:] for line in replay.splitlines() if line.strip().startswith("|"))
    shutil.rmtree(directory)
    return Result(int(float(states[1])), "" if error is None else error[1], story, time.monotonic() - begun)


def main() -> int:
    """Run every check, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description="Check the models with spin.")
    parser.add_argument("--stories", action="store_true", help="print the counterexamples that the README tells")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="how many at once")
    options = parser.parse_args()
    if shutil.which("spin") is None or compiler() is None:
        print("needs spin and gcc (Debian: apt-get install spin gcc)", file=sys.stderr)
        return 2
    begun = time.monotonic()
    wrong = 0
    with tempfile.TemporaryDirectory() as parent, ThreadPoolExecutor(options.jobs) as pool:
        checks = STORIES if options.stories else CHECKS
        for check, result in zip(checks, pool.map(lambda each: perform(each, Path(parent)), checks), strict=True):
            if not result.fits(check):
                verdict = f"WRONG: {result.error or 'it holds, and should not'}"
                wrong += 1
            else:
                verdict = "FAILS AS IT MUST" if check.fails else "PASS"
            print(f"{check.title:<70} {result.states:>9,} states {result.seconds:>5.1f} s  {verdict}", flush=True)
            if options.stories:
                print("", *(f"    {line}" for line in result.story), "", sep="\n")
    print(f"{len(checks)} checks, {wrong} wrong, {time.monotonic() - begun:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
