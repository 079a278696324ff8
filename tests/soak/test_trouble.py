"""What the line is drawn to do, and that it stays fair."""

from __future__ import annotations

import math
from random import Random

import pytest

from trioshard._soak.trouble import (
    LATEST,
    SPARED,
    Cut,
    Drip,
    End,
    HalfClose,
    Stall,
    Way,
    draw_first_wait,
    draw_next_wait,
    draw_trouble,
)

DRAWN = [draw_trouble(random) for random in [Random(1)] for _ in range(2_000)]


def test_everything_is_drawn_in_both_directions():
    assert {(type(trouble), trouble.way) for trouble in DRAWN} == {
        (kind, way) for kind in (Cut, HalfClose, Stall, Drip) for way in Way
    }
    assert {trouble.end for trouble in DRAWN if isinstance(trouble, Cut)} == set(End)
    assert {trouble.kind for trouble in DRAWN} == {"cut", "reset", "half_close", "stall", "drip"}


def test_the_same_seed_draws_the_same_trouble():
    first, second, other = ([draw_trouble(random) for random in [Random(seed)] for _ in range(9)] for seed in (3, 3, 4))
    assert first == second != other


def test_what_the_client_wrote_comes_soon_or_never():
    for trouble in DRAWN:
        if isinstance(trouble, Drip):
            assert trouble.nbytes * trouble.pause <= LATEST / 2
        if isinstance(trouble, Stall) and trouble.way is Way.UP and trouble.end is None:
            assert trouble.seconds <= LATEST


def test_what_the_gateway_wrote_may_come_late():
    assert any(
        isinstance(trouble, Stall) and trouble.way is Way.DOWN and trouble.end is None and trouble.seconds > LATEST
        for trouble in DRAWN
    )


@pytest.mark.parametrize("spared", [False, True])
def test_some_connections_have_no_trouble_at_all_and_the_others_soon(spared):
    random = Random(1)
    waits = [draw_first_wait(random, spared=spared) for _ in range(500)]
    assert 5 < waits.count(math.inf) < 100
    assert all(wait == math.inf or wait < 1.0 for wait in waits)
    assert (min(waits) >= SPARED) is spared


def test_two_troubles_of_one_connection_do_not_touch():
    random = Random(1)
    assert min(draw_next_wait(random) for _ in range(200)) >= 0.2
