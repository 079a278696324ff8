"""Coverage-guided fuzzing of everything that reads what a peer sends: ``python -m tests.fuzz --help``.

Each target runs in a process of its own, under atheris (libFuzzer for Python). It fails by an error that is not
documented, by a broken promise, by taking too long for one input, and by growing too much.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fuzz.replay import TIME_LIMIT, failure, random_input, shrink
from tests.fuzz.targets import TARGETS

SEEDS: Final = 50
"""Random inputs that each target starts from."""
SHRINKING: Final = 60.0
"""Seconds that may be spent to make a failing input smaller."""

_PROGRESS: Final = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+).*?(?:rss: (\d+)Mb)?$", re.MULTILINE)


@dataclass(slots=True)
class Outcome:
    """What one target came to: ``seconds`` of CPU time, ``growth`` in MiB, and an input that failed, if any did."""

    name: str
    inputs: int
    seconds: float
    edges: int
    new: int
    growth: int
    problem: str = ""
    failing: bytes | None = None


def main() -> int:
    arguments = _arguments()
    if find_spec("atheris") is None:
        print("atheris is not installed: pip install -e '.[fuzz]', which finds it for Linux on x86-64 only")
        return 2
    names = arguments.target or list(TARGETS)
    whole = sum(TARGETS[name].share for name in names)
    started = time.monotonic()
    print(f"{'target':26} {'inputs':>9} {'CPU s':>8} {'inputs/s':>8} {'edges':>6} {'new':>6} {'growth':>8}  failures")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [
            pool.submit(_fuzz, name, math.ceil(arguments.inputs * TARGETS[name].share / whole), arguments.seed)
            for name in names
        ]
        outcomes = []
        for run in runs:
            outcomes.append(run.result())
            _show(outcomes[-1])
    failed = [outcome for outcome in outcomes if outcome.problem]
    total = sum(outcome.inputs for outcome in outcomes)
    print(f"{total:,} inputs in {time.monotonic() - started:.0f} s, seed {arguments.seed}, {len(failed)} failures")
    for outcome in failed:
        _explain(outcome)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all (default: one million)")
    parser.add_argument("--target", nargs="+", choices=TARGETS, metavar="T", help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=1, help="where chance begins (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default: 1)")
    return parser.parse_args()


def _fuzz(name: str, inputs: int, seed: int) -> Outcome:
    """Run one target in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number in range(SEEDS):
            Path(corpus, str(number)).write_bytes(random_input(f"{name} {seed}", number))
        options = [
            f"-runs={inputs}",
            f"-seed={seed}",
            f"-timeout={6 * TIME_LIMIT:g}",  # its clock runs on while others have the processor
            f"-artifact_prefix={folder}/",
            "-max_len=1024",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        with tempfile.TemporaryFile() as log:
            worker = [sys.executable, "-m", "tests.fuzz.worker", name, *options, str(corpus)]
            process = subprocess.Popen(worker, stdout=log, stderr=log, env=os.environ | {"PYTHONHASHSEED": "0"})
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            log.seek(0)
            said = log.read().decode(errors="replace")
        artifacts = [path for path in Path(folder).iterdir() if path.is_file()]
        outcome = _judge(name, process.returncode, said, usage.ru_utime + usage.ru_stime, artifacts)
        if not outcome.problem and outcome.inputs < inputs:
            outcome.problem = f"ended after {outcome.inputs} of {inputs} inputs"
        return outcome


def _judge(name: str, status: int, log: str, seconds: float, artifacts: list[Path]) -> Outcome:
    """Read libFuzzer's log."""
    progress = _PROGRESS.findall(log)
    peak = _statistic("peak_rss_mb", log)
    outcome = Outcome(
        name,
        inputs=max((int(number) for number, *_ in progress), default=0),
        seconds=seconds,
        edges=max((int(edges) for _, _, edges, _ in progress), default=0),
        new=_statistic("new_units_added", log),
        growth=peak - next((int(rss) for _, kind, _, rss in progress if kind == "INITED"), peak),
    )
    if status:
        outcome.inputs = _statistic("number_of_executed_units", log) or outcome.inputs
        outcome.problem = f"ended with {status}\n{textwrap.indent(log[-2000:], '    ')}"
        outcome.failing = artifacts[0].read_bytes() if artifacts else None
    elif outcome.growth > TARGETS[name].growth:
        outcome.problem = f"grew by {outcome.growth} MiB, and may grow by {TARGETS[name].growth}"
    return outcome


def _statistic(name: str, log: str) -> int:
    found = re.search(rf"stat::{name}:\s+(\d+)", log)
    return int(found[1]) if found else 0


def _show(outcome: Outcome) -> None:
    print(
        f"{outcome.name:26} {outcome.inputs:9,} {outcome.seconds:8.1f} {outcome.inputs / outcome.seconds:8,.0f}"
        f" {outcome.edges:6} {outcome.new:6} {outcome.growth:4} MiB  {1 if outcome.problem else 0}",
        flush=True,
    )


def _explain(outcome: Outcome) -> None:
    print(f"\n{outcome.name}:")
    if outcome.failing is None:
        print(outcome.problem)
        return
    run = TARGETS[outcome.name].run
    error = failure(run, outcome.failing)
    if error is None:
        print(f"{outcome.problem}\nIt does not fail when it runs alone:\n{outcome.failing!r}")
        return
    smallest = shrink(run, outcome.failing, seconds=SHRINKING)
    traceback.print_exception(failure(run, smallest), file=sys.stdout)
    print(f"the smallest input that fails so:\n    ({outcome.name!r}, {smallest!r}),", flush=True)


if __name__ == "__main__":
    sys.exit(main())
