"""The mutants are what they claim to be, and the simulation tells them from the shard as it is.

All of them are hunted by `python -m tests.mutants`; here a few are, with few seeds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.variants import MUTANTS
from trioshard._simulation.campaign import Order, run_campaign

ROOT = Path(__file__).parent.parent.parent

NAMED_IN_THE_DESIGN = {
    "double_check",
    "resumed_wakes_nobody",
    "handshake_retried",
    "budget_under_lock",
    "same_socket",
    "cancel_reaches_socket",
    "closes_with_1000",
    "permit_kept",
}
"""The tempting mistakes that the library exists to avoid."""


def test_every_tempting_mistake_is_there():
    assert set(MUTANTS) >= NAMED_IN_THE_DESIGN
    assert len(MUTANTS) >= 12


def test_nothing_is_wrong_with_the_shard_as_it_is():
    assert not run_campaign(Order(count=12)).failures


@pytest.mark.parametrize("name", ["double_check", "no_bar", "resumed_starts_no_sender"])
def test_the_simulation_finds_a_broken_shard(name: str):
    command = [sys.executable, "-m", "tests.mutants", name, "--seeds", "60", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\(`{name}`\) \| \d+ \| I\d|\(`{name}`\) \| \d+ \| not ready", done.stdout)
