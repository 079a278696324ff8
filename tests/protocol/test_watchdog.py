"""How long each part of a handshake may take."""

from __future__ import annotations

import math

import pytest

from trioshard.protocol.watchdog import HELLO_TIMEOUT, READY_PATIENCE, RESUMED_PATIENCE, SILENCE, Watchdog


def greeted(interval: float = 40.0) -> Watchdog:
    watchdog = Watchdog(0.0)
    watchdog.greeted(interval)
    return watchdog


def shaking_hands(*, resuming: bool, interval: float = 40.0) -> Watchdog:
    watchdog = greeted(interval)
    watchdog.shook_hands(100.0, resuming=resuming)
    return watchdog


def test_hello_has_a_deadline_that_nothing_else_moves():
    watchdog = Watchdog(1000.0)
    watchdog.heard(1010.0, replayed=False)
    assert watchdog.deadline == 1000.0 + HELLO_TIMEOUT


def test_between_hello_and_handshake_there_is_none():
    watchdog = greeted()
    watchdog.heard(50.0, replayed=False)
    assert watchdog.deadline == math.inf


@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize(("interval", "silence"), [(40.0, SILENCE), (100.0, 150.0)])
def test_silence_ends_a_handshake(resuming, interval, silence):
    watchdog = shaking_hands(resuming=resuming, interval=interval)
    assert watchdog.deadline == 100.0 + silence
    watchdog.heard(110.0, replayed=False)
    assert watchdog.deadline == 110.0 + silence


@pytest.mark.parametrize(("resuming", "patience"), [(False, READY_PATIENCE), (True, RESUMED_PATIENCE)])
def test_acks_alone_do_not_buy_time_for_ever(resuming, patience):
    watchdog = shaking_hands(resuming=resuming)
    for now in range(100, 2000, 40):
        if now < watchdog.deadline:
            watchdog.heard(now, replayed=False)
    assert watchdog.deadline == 100.0 + patience


def test_a_replay_may_take_as_long_as_it_makes_progress():
    watchdog = shaking_hands(resuming=True)
    for minute in range(2, 600):
        watchdog.heard(60.0 * minute, replayed=True)
        assert watchdog.deadline == 60.0 * minute + SILENCE


def test_patience_with_acks_counts_from_the_last_replayed_event():
    watchdog = shaking_hands(resuming=True)
    watchdog.heard(200.0, replayed=True)
    for now in range(240, 500, 40):
        watchdog.heard(now, replayed=False)
    assert watchdog.deadline == 200.0 + RESUMED_PATIENCE


def test_a_dispatch_buys_no_time_for_ready():
    watchdog = shaking_hands(resuming=False)
    for now in range(100, 1000, 40):
        watchdog.heard(now, replayed=True)
    assert watchdog.deadline == 100.0 + READY_PATIENCE


def test_a_second_hello_does_not_stop_the_clock():
    watchdog = shaking_hands(resuming=False)
    watchdog.greeted(80.0)
    assert watchdog.deadline == 100.0 + SILENCE
    watchdog.heard(120.0, replayed=False)
    assert watchdog.deadline == 120.0 + 120.0


@pytest.mark.parametrize("resuming", [False, True])
def test_when_the_gate_is_open_nothing_is_overdue(resuming):
    watchdog = shaking_hands(resuming=resuming)
    watchdog.opened()
    watchdog.heard(130.0, replayed=True)
    assert watchdog.deadline == math.inf
