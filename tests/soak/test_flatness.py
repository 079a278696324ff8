"""Invented series: which of them are leaks."""

from __future__ import annotations

import math
from random import Random

import pytest

from trioshard._soak.flatness import FEWEST, LIMITS, find_trend
from trioshard._soak.samples import Samples

SAMPLES = 360
NUMBERS = [10.0 * index for index in range(SAMPLES)]
"""Half an hour with a sample each 5 s, and two connections a second."""


def grows(name, value_at, *, numbers=NUMBERS) -> bool:
    """Whether a series is found to grow. `value_at` takes the connections and a source of chance."""
    random = Random(name)
    return find_trend(numbers, [value_at(number, random) for number in numbers], LIMITS[name]).grows


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("objects", lambda number, random: 50_000 + number + random.gauss(0, 150)),
        ("tasks", lambda number, random: 57 + number + random.choice((-8, 0, 0))),
        ("descriptors", lambda number, random: 25 + number // 100 + random.choice((-2, 0, 1))),
        ("memory", lambda number, random: 60 * 2**20 + 8_000 * number + random.gauss(0, 2**18)),
        ("waiting", lambda number, random: number / 10),
        ("outbox", lambda number, random: number),
    ],
)
def test_a_leak_is_found(name, leak):
    assert grows(name, leak)


@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("objects", lambda number, random: 50_000 + random.gauss(0, 1_000)),
        ("objects", lambda number, random: 50_000 + number % 700),
        ("tasks", lambda number, random: random.choice((22, 40, 57, 57))),
        ("descriptors", lambda number, random: 25 + random.choice((-4, 0, 0, 4))),
        ("memory", lambda number, random: 60 * 2**20 + random.gauss(0, 2**21)),
        ("waiting", lambda number, random: random.randint(0, 16)),
        ("outbox", lambda number, random: 0 if random.random() < 0.8 else random.randint(0, 800)),
    ],
)
def test_noise_is_no_leak(name, flat):
    assert not grows(name, flat)


@pytest.mark.parametrize(("name", "height"), [("memory", 30 * 2**20), ("objects", 20_000), ("descriptors", 20)])
def test_a_plateau_after_a_warm_up_is_no_leak(name, height):
    assert not grows(name, lambda number, random: height * (1 - math.exp(-number / 200)) + random.gauss(0, 0.1))


def test_a_step_within_the_allowance_is_no_leak():
    assert not grows("memory", lambda number, random: 60 * 2**20 + (number > 2_000) * 7 * 2**20)


def test_a_few_wild_samples_are_no_leak():
    assert not grows("tasks", lambda number, random: 57 + (random.random() < 0.1) * 500)


def test_a_run_of_a_minute_finds_one_task_a_connection_but_not_one_object():
    numbers = [2.0 * index for index in range(60)]
    assert grows("tasks", lambda number, random: 57 + number + random.choice((-8, 0, 0)), numbers=numbers)
    assert not grows("objects", lambda number, random: 50_000 + number, numbers=numbers)


def test_without_connections_nothing_is_a_leak():
    assert not grows("memory", lambda number, random: random.gauss(0, 1), numbers=[1.0] * 60)


def test_of_a_few_samples_nothing_is_said():
    assert find_trend([1.0] * (FEWEST - 1), [1.0] * (FEWEST - 1), LIMITS["tasks"]) is None


def test_what_is_told_of_a_trend():
    trend = find_trend(NUMBERS, [5.0 + number / 100 for number in NUMBERS], LIMITS["descriptors"])
    assert trend.per_thousand == pytest.approx(10.0)
    assert trend.late - trend.early == pytest.approx(0.5 * NUMBERS[-1] / 100, rel=0.02)
    assert trend.noise == pytest.approx(0.0, abs=1e-6)


def test_samples_may_lack_a_quantity():
    samples = Samples()
    for index in range(60):
        samples.add(index, {"tasks": 57.0 + index} | ({"objects": 5.0} if index % 4 == 0 else {}))
    trends = samples.trends()
    assert set(trends) == {"tasks", "objects"}
    assert trends["tasks"].grows
    assert not trends["objects"].grows


def test_a_handful_of_connections_is_no_trend():
    connections = list(range(4, 28))
    descriptors = [2.0 * number for number in connections]
    few = find_trend(connections, descriptors, LIMITS["descriptors"])
    many = find_trend([10 * number for number in connections], descriptors, LIMITS["descriptors"])
    assert few is not None
    assert many is not None
    assert few.late - few.early == many.late - many.early > LIMITS["descriptors"].allowance
    assert (few.grows, many.grows) == (False, True)
