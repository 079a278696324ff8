"""A seed is a history: the same one wherever and whenever it is played."""

from __future__ import annotations

import functools
import re

import pytest

from tests.simulation.processes import run_elsewhere, told_elsewhere
from trioshard._simulation.history import Result, run_seed
from trioshard._simulation.setup import available_transports
from trioshard._simulation.world import MIN_COMMANDS, MIN_RECONNECTS, MIN_SECONDS, TOKEN

SEEDS = range(10)


@functools.cache
def played(seed: int) -> Result:
    """A history is played once for all tests."""
    return run_seed(seed, story=True)


def test_a_seed_gives_the_same_history_whatever_was_played_before() -> None:
    first = run_seed(3, story=True)
    run_seed(8)
    again = run_seed(3, story=True)
    assert again.timeline == first.timeline
    assert again == first


def test_a_seed_gives_the_same_history_in_another_process() -> None:
    code = (
        "from trioshard._simulation.history import run_seed\n"
        "for seed in (1, 4):\n"
        "    result = run_seed(seed, story=True)\n"
        "    print(result.digest, *result.timeline, sep='\\n')"
    )
    here = [line for seed in (1, 4) for line in (played(seed).digest, *played(seed).timeline)]
    assert told_elsewhere(code, hash_seed=4711).splitlines() == "\n".join(here).splitlines()


def test_another_seed_gives_another_history() -> None:
    assert len({played(seed).digest for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_is_long_enough_and_healthy(seed: int) -> None:
    result = played(seed)
    assert result.complaints == []
    assert result.seconds >= MIN_SECONDS
    assert result.reconnects >= MIN_RECONNECTS
    assert result.commands >= MIN_COMMANDS
    assert 0 < result.written <= result.commands
    assert sum(result.opened) > 0
    assert result.events > 0


@pytest.mark.parametrize("transport", available_transports())
def test_a_transport_can_be_forced(transport: str) -> None:
    result = run_seed(0, transport=transport, story=True)
    assert result.traits[0] == transport
    assert result.complaints == []


def test_a_story_is_only_told_when_it_is_wanted() -> None:
    result = run_seed(4)
    assert (result.digest, result.timeline) == ("", [])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_token_stands_in_no_timeline(seed: int) -> None:
    assert played(seed).timeline
    for secret in (TOKEN, TOKEN.partition(".")[2]):
        assert not any(secret in line for line in played(seed).timeline)


@pytest.mark.parametrize("mutant", ["closes_with_1000", "double_check"])
def test_a_broken_shard_tells_its_story_and_tells_it_again(mutant: str) -> None:
    broken = f"import sys; from tests.mutants.variants import {mutant}; {mutant}(); from trioshard.cli import main; "
    done = run_elsewhere(broken + "sys.exit(main(['simulate', '--seeds', '8', '--jobs', '1']))")
    assert done.returncode == 1, done.stderr
    again = re.search(r"^again: trioshard (.+)$", done.stdout, re.MULTILINE)
    assert again is not None
    once_more = run_elsewhere(broken + f"sys.exit(main({again[1].split()!r}))", hash_seed=99)
    assert once_more.returncode == 1, once_more.stderr
    assert once_more.stdout.startswith("seed ")
    assert "\nWRONG: " in once_more.stdout
    assert once_more.stdout in done.stdout
    assert TOKEN not in done.stdout + done.stderr
