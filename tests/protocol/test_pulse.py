"""When to beat, and when a silent peer is given up. Beats are 40 s apart; Hello came at 0, the first beat at 20."""

from __future__ import annotations

import pytest

from trioshard.errors import GatewayProtocolError
from trioshard.protocol.pulse import MAX_INTERVAL, MIN_INTERVAL, Pulse, heartbeat_interval

INTERVAL = 40.0


def fresh() -> Pulse:
    return Pulse(INTERVAL, now=0.0, jitter=0.5)


def beaten() -> Pulse:
    """The scheduled beat went out at 20; the next is due at 60."""
    pulse = fresh()
    pulse.scheduled_beat_sent(20.0)
    return pulse


# The interval


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        (41250, 41.25),
        (45000, 45.0),
        (45000.5, 45.0005),
        (1, MIN_INTERVAL),
        (999, MIN_INTERVAL),
        (3_600_000, MAX_INTERVAL),
    ],
)
def test_intervals(milliseconds, seconds):
    assert heartbeat_interval(milliseconds) == seconds


@pytest.mark.parametrize(
    "milliseconds",
    [0, -1, 3_600_001, 10**400, float("inf"), float("nan"), None, True, "45000", [45000], {}],
    ids=lambda value: repr(value)[:12],
)
def test_impossible_intervals(milliseconds):
    with pytest.raises(GatewayProtocolError, match="heartbeat_interval"):
        heartbeat_interval(milliseconds)


# The timer


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 5.0), (0.5, 25.0), (1.0, 45.0)])
def test_the_first_beat_comes_after_a_share_of_an_interval(jitter, first):
    pulse = Pulse(INTERVAL, now=5.0, jitter=jitter)
    assert pulse.next_beat == first
    assert pulse.beat_due(first)
    assert not pulse.beat_due(first - 0.001)


def test_then_one_every_interval():
    pulse = fresh()
    for moment in (20.0, 60.0, 100.0):
        assert pulse.next_beat == moment
        pulse.scheduled_beat_sent(moment)
        pulse.acked(moment + 0.1)


def test_a_late_beat_is_not_caught_up():
    pulse = fresh()
    pulse.scheduled_beat_sent(35.0)
    assert pulse.next_beat == 75.0
    assert not pulse.beat_due(60.0)


def test_a_beat_may_come_early_when_somebody_is_awake_anyway():
    pulse = beaten()  # at 20, the next is due at 60
    pulse.acked(20.1)
    assert not pulse.may_beat_early(50.0, 10.0)
    assert pulse.may_beat_early(50.1, 10.0)
    assert not pulse.may_beat_early(50.1, 10.1), "more than a quarter of the interval"


def test_the_first_beat_is_never_early():
    assert not fresh().may_beat_early(19.0, 10.0)


def test_no_beat_is_early_while_an_ack_is_missing():
    assert not beaten().may_beat_early(55.0, 10.0)


def test_a_requested_beat_leaves_the_timer_alone():
    pulse = beaten()
    pulse.beat_sent(50.0)
    assert pulse.next_beat == 60.0


@pytest.mark.parametrize(("interval", "next_beat"), [(10.0, 40.0), (300.0, 60.0)])
def test_another_interval_never_delays_the_next_beat(interval, next_beat):
    pulse = beaten()
    pulse.change_interval(interval, now=30.0)
    assert pulse.next_beat == next_beat
    pulse.scheduled_beat_sent(next_beat)
    assert pulse.next_beat == next_beat + interval


# Latency


def test_latency():
    pulse = beaten()
    assert (pulse.latency, pulse.last_ack) == (None, None)
    pulse.acked(20.25)
    assert (pulse.latency, pulse.last_ack) == (0.25, 20.25)


def test_latency_is_measured_from_the_oldest_beat():
    pulse = beaten()
    pulse.beat_sent(21.0)
    pulse.acked(22.0)
    assert pulse.latency == 2.0


def test_an_ack_that_answers_nothing_changes_nothing():
    pulse = fresh()
    pulse.acked(1.0)
    assert (pulse.latency, pulse.last_ack) == (None, None)
    pulse.scheduled_beat_sent(20.0)
    pulse.acked(20.5)
    pulse.acked(30.0)
    assert (pulse.latency, pulse.last_ack) == (0.5, 20.5)


# The verdict


def test_no_answer_and_no_word_for_an_interval_is_the_end():
    assert beaten().is_zombie(60.0)


def test_nobody_is_given_up_before_the_first_beat():
    assert not fresh().is_zombie(20.0)


def test_who_answered_lives():
    pulse = beaten()
    pulse.acked(20.1)
    assert not pulse.is_zombie(60.0)
    assert not pulse.is_zombie(1000.0)


def test_an_answer_may_be_late_as_long_as_it_comes():
    pulse = beaten()
    pulse.read(59.9)
    pulse.acked(59.9)
    assert not pulse.is_zombie(60.0)


def test_anything_that_arrives_is_a_sign_of_life():
    pulse = beaten()
    pulse.read(25.0)
    assert not pulse.is_zombie(60.0)


def test_what_arrived_before_the_beat_is_none():
    pulse = fresh()
    pulse.read(19.9)
    pulse.scheduled_beat_sent(20.0)
    assert pulse.is_zombie(60.0)


@pytest.mark.parametrize(("now", "verdict"), [(60.0, False), (100.0, False), (139.9, False), (140.0, True)])
def test_data_without_an_ack_are_believed_for_three_intervals(now, verdict):
    pulse = beaten()
    for moment in range(20, int(now)):
        if pulse.beat_due(moment):
            pulse.scheduled_beat_sent(moment)
        pulse.read(moment + 0.5)
    assert pulse.is_zombie(now) is verdict


def test_while_the_reader_is_held_back_silence_is_our_own_doing():
    pulse = beaten()
    pulse.reader_blocked(20.0)
    assert not pulse.is_zombie(60.0)
    assert not pulse.is_zombie(10_000.0)


def test_a_reader_that_was_freed_gets_a_whole_interval_to_find_the_ack():
    pulse = beaten()
    pulse.reader_blocked(20.0)
    pulse.scheduled_beat_sent(60.0)
    pulse.reader_free(99.0)
    assert not pulse.is_zombie(100.0)
    pulse.scheduled_beat_sent(100.0)
    assert pulse.is_zombie(140.0)


def test_a_reader_held_back_for_moments_is_free_in_between():
    pulse = beaten()
    for second in range(20, 140):
        pulse.reader_blocked(float(second))
        pulse.reader_free(second + 0.125)
        if second in (60, 100):
            pulse.scheduled_beat_sent(second + 0.25)
        pulse.read(second + 0.5)
    assert not pulse.is_zombie(154.9), "of three intervals since the first beat, 15 seconds were our own doing"
    assert pulse.is_zombie(155.0)


def test_three_intervals_count_from_when_the_reader_was_freed():
    pulse = beaten()
    pulse.reader_blocked(20.0)
    pulse.reader_free(500.0)
    pulse.scheduled_beat_sent(500.0)
    pulse.read(501.0)
    assert not pulse.is_zombie(619.9)
    assert pulse.is_zombie(620.0)


def test_a_young_requested_beat_makes_no_zombie():
    pulse = beaten()
    pulse.acked(20.1)
    pulse.beat_sent(59.9)
    assert not pulse.is_zombie(60.0)


def test_nor_does_one_that_was_requested_before_the_first_scheduled_beat():
    pulse = fresh()
    pulse.read(19.9)
    pulse.beat_sent(19.9)
    assert not pulse.is_zombie(20.0)


def test_a_requested_beat_that_stays_unanswered_is_a_verdict_an_interval_later():
    pulse = fresh()
    pulse.beat_sent(19.9)
    pulse.scheduled_beat_sent(20.0)
    assert pulse.is_zombie(60.0)


def test_a_blocked_reader_before_the_first_beat_is_no_verdict_either():
    pulse = fresh()
    pulse.beat_sent(1.0)
    pulse.reader_blocked(2.0)
    assert not pulse.is_zombie(20.0)


def test_late_beats_are_judged_by_when_they_were_sent():
    pulse = fresh()
    pulse.scheduled_beat_sent(35.0)
    pulse.read(36.0)
    assert not pulse.is_zombie(75.0)
    pulse.scheduled_beat_sent(75.0)
    assert pulse.is_zombie(115.0)
