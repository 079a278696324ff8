"""How many seeds the simulation takes to find each mutant: `python -m tests.mutants`.

The exit status is 0 only if all of them are found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from tests.mutants import more_variants, variants
from tests.mutants.variants import MUTANTS
from trioshard._simulation.campaign import Order, run_campaign

TEMPTING = tuple(name for name, (_, apply) in MUTANTS.items() if apply.__module__ == variants.__name__)
"""The mistakes that others have made, and those that stand next to them. CI hunts these; the rest takes minutes."""

SEEDS = 2_000
"""So many are played before a mutant counts as a survivor."""


assert more_variants, "importing it enters its mutants in the list"


@dataclass(frozen=True)
class Find:
    """What came of the hunt for one mutant."""

    name: str
    seeds: int
    seconds: float
    complaint: str
    """What the simulation said; empty if it found nothing."""


def apply(name: str) -> None:
    """Break the shard of this process."""
    MUTANTS[name][1]()


def hunt(name: str, seeds: int, first: int = 0) -> Find:
    """Break the shard of this process, and play seeds until one complains."""
    apply(name)
    began = time.monotonic()
    tally = run_campaign(Order(first=first, count=seeds, enough=1))
    complaint = tally.failures[0].complaints[0] if tally.failures else ""
    return Find(name, tally.played, time.monotonic() - began, complaint)


def hunt_all(names: list[str], seeds: int, jobs: int) -> list[Find]:
    """Hunt each in a process of its own; tell of each as it is found."""
    finds = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(hunt, name, seeds) for name in names]):
            finds.append(future.result())
            print(
                f"{len(finds)} of {len(names)}: {finds[-1].name}, {finds[-1].seeds} seeds", file=sys.stderr, flush=True
            )
    return sorted(finds, key=lambda find: names.index(find.name))


def table(finds: list[Find]) -> str:
    """The finds as a table in Markdown."""
    rows = ["| mutant | seeds | found by |", "|---|---|---|"]
    for find in finds:
        verdict = find.complaint if find.complaint else "**SURVIVED**"
        rows.append(f"| {MUTANTS[find.name][0]} (`{find.name}`) | {find.seeds:,} | {verdict} |")
    return "\n".join(rows)


def main() -> int:
    """Hunt them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"at most so many each (default: {SEEDS:,})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--tempting", action="store_true", help=f"only the {len(TEMPTING)} of variants.py")
    arguments = parser.parse_args()
    names = arguments.names or (TEMPTING if arguments.tempting else MUTANTS)
    finds = hunt_all(list(names), arguments.seeds, arguments.jobs)
    print(table(finds))
    survivors = sum(not find.complaint for find in finds)
    print(f"\n{len(finds)} mutants, {survivors} survived")
    return int(survivors > 0)
