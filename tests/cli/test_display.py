"""What the demo shows while it runs, as text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from trioshard import Phase
from trioshard._demo.display import Screen, View, render_history, render_line, render_screen

MOMENT = View(
    elapsed=12.5,
    seconds=30.0,
    seed=1,
    phase=Phase.READY,
    connections=51,
    resumes=45,
    identifies=2,
    written=1234,
    withdrawn=56,
    superseded=7,
    waiting=3,
    sent=3456,
    received=3450,
    blemishes=0,
    refused=0,
    history=(Phase.READY, Phase.READY, Phase.CLOSED, Phase.AWAITING_HELLO, Phase.RESUMING, Phase.READY),
)


def test_a_plain_line():
    assert render_line(MOMENT) == (
        "  12.5 s  ready             50 reconnects   1,234 commands   3,450 events   0 refused"
    )


def test_plain_lines_are_aligned():
    assert len({len(render_line(replace(MOMENT, phase=phase, elapsed=100.0, written=9))) for phase in Phase}) == 1


def test_a_screen():
    assert render_screen(MOMENT, colour=False) == [
        "trioshard demo, seed 1",
        "  time        12.5 of 30 s",
        "  phase       ready",
        "  reconnects  50  (4.0 a second; 45 resumed, 2 identified)",
        "  commands    1,234 written  56 withdrawn  7 superseded  3 waiting",
        "  events      3,456 sent  3,450 received  0 twice or out of order",
        "  refused     0",
        "              ██·▄▄█",
    ]


def test_a_screen_before_anything_happened():
    lines = render_screen(View(elapsed=0.0, seconds=20.0, seed=2, phase=Phase.CLOSED), colour=False)
    assert lines[3] == "  reconnects  0  (0.0 a second; 0 resumed, 0 identified)"
    assert lines[-1] == ""


def test_a_screen_after_the_time_is_over():
    assert render_screen(replace(MOMENT, elapsed=31.0), colour=False)[1] == (
        "  time        30 s are over; waiting for what is still under way"
    )


@pytest.mark.parametrize(("refused", "colour"), [(0, "\x1b[32m"), (2, "\x1b[31m")])
def test_refusals_are_green_or_red(refused, colour):
    assert render_screen(replace(MOMENT, refused=refused))[6] == f"  refused     {colour}{refused}\x1b[0m"


def test_history_in_ascii():
    assert render_history(Phase, unicode=False) == ".++++#.."


def test_the_screen_is_redrawn_in_place_and_the_cursor_given_back(monkeypatch):
    monkeypatch.setenv("COLUMNS", "6")
    stream = io.StringIO()
    with Screen(stream) as screen:
        assert not screen.unicode
        screen.draw(["one", "longer than that"])
        screen.draw(["two", "\x1b[1mcoloured\x1b[0m"])
    assert stream.getvalue() == (
        "\x1b[?25lone\x1b[K\nlonge\x1b[K\n\x1b[2Ftwo\x1b[K\n\x1b[1mcoloured\x1b[0m\x1b[K\n\x1b[?25h"
    )


def test_a_screen_that_can_show_blocks():
    assert Screen(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")).unicode
