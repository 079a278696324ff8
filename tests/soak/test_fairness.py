"""Which presences are forgiven."""

from __future__ import annotations

from trioshard._soak.fairness import HEARTBEAT_GRACE, IDENTIFY_WINDOW, LIFETIME, TOLERANCE, PresenceRule
from trioshard._soak.station import HEARTBEATS, WRITE_TIMEOUT
from trioshard._soak.trouble import LATEST, LONG_STALL


def broken(*times: float) -> int:
    rule = PresenceRule()
    for time in times:
        rule.arrive(time)
    return rule.broken


def test_five_in_twenty_seconds():
    assert broken(0, 1, 2, 3, 4, 20, 21, 22, 23, 24) == 0


def test_five_that_the_line_had_kept_for_a_moment():
    late = TOLERANCE - 0.1
    assert broken(late, late, late, late, late, 20, 20, 20, 20, 20) == 0


def test_a_sixth_is_one_too_many():
    assert broken(0, 1, 2, 3, 4, 5) == 1


def test_more_than_the_line_can_explain():
    assert broken(0, 0, 0, 0, 0, 20 - TOLERANCE - 0.2) == 1


def test_the_gateways_tolerance_covers_the_line_and_no_more_than_it_must():
    assert LATEST < TOLERANCE < 3.0
    assert IDENTIFY_WINDOW + TOLERANCE == 5.0
    assert LONG_STALL[1] < HEARTBEAT_GRACE
    assert LIFETIME[1] < 60.0, "a second window of 120 payloads would have to be judged with tolerance"
    assert LIFETIME[1] > HEARTBEATS + HEARTBEAT_GRACE, "nobody would notice that no heartbeat comes"


def test_the_long_stalls_outlast_a_write_and_the_patience_for_an_ack():
    assert LONG_STALL[0] > WRITE_TIMEOUT
    assert LONG_STALL[1] > 2 * HEARTBEATS
