"""What the soak says at the end and meanwhile, from invented figures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from trioshard._demo.ledger import Balance
from trioshard._demo.summary import CommandCounts
from trioshard._soak.display import View, render_line, render_screen
from trioshard._soak.flatness import Trend
from trioshard._soak.summary import Leftovers, StationBooks, Summary, render_summary

BOOKS = StationBooks(
    name="TLS, zstd-stream, websockets",
    connections=120,
    resumes=100,
    identifies=3,
    trouble={"half_close": 4, "reset": 40},
    settled_after=0.3,
)
GOOD = Summary(seconds=60.0, seed=1, stations=(BOOKS,), trends={"memory": Trend(2**26, 2**26, 0.0, 1.0, False)})


def test_all_is_well():
    assert GOOD.complaints == []
    assert GOOD.exit_status == 0
    assert render_summary(GOOD).endswith("No complaints.")
    assert "  trouble      40 reset, 4 half close\n" in render_summary(GOOD)
    assert "  memory       64.0 MiB early, 64.0 MiB late" in render_summary(GOOD)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refused": {"not_authenticated": 2}}, "2 payloads refused by the gateway"),
        ({"dispatches": Balance(lost=1)}, "1 events lost"),
        ({"dispatches": Balance(repeated=1)}, "1 events repeated"),
        ({"dispatches": Balance(out_of_order=1)}, "1 events out of order"),
        ({"dispatches": Balance(unexpected=1)}, "1 events in a wrong session"),
        ({"commands": CommandCounts(withdrawn_but_arrived=1)}, "1 commands withdrawn, but arrived"),
        ({"commands": CommandCounts(pending=1)}, "1 commands still pending after the trouble"),
        ({"arrived_twice": 1}, "1 commands arrived twice"),
        ({"arrived_too_late": 1}, "1 commands arrived too late to tell"),
        ({"unbalanced": 1}, "1 times the counts of commands did not add up"),
        ({"settled_after": None}, "the bot had not got everything in time after the trouble"),
        ({"settled_after": None, "failure": "No."}, "the shard failed: No."),
    ],
)
def test_what_must_not_happen_is_named_with_its_bot(change, words):
    summary = replace(GOOD, stations=(BOOKS, replace(BOOKS, **change)))
    assert summary.complaints == [f"{words} (TLS, zstd-stream, websockets)"]
    assert summary.exit_status == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"trends": {"tasks": Trend(57.0, 117.0, 1000.0, 0.0, True)}},
            "tasks grow from 57 to 117, 1,000 per 1,000 connections",
        ),
        ({"leftovers": Leftovers(tasks=2)}, "+2 tasks after the end"),
        ({"leftovers": Leftovers(descriptors=1)}, "+1 descriptors after the end"),
        ({"leftovers": Leftovers(unclosed=3)}, "3 sockets were left to the collector"),
    ],
)
def test_leaks_are_named(change, words):
    summary = replace(GOOD, **change)
    assert summary.complaints == [words]
    assert render_summary(summary).endswith(f"Failed: {words}.")


def test_ctrl_c_excuses_what_had_no_time_and_nothing_else():
    hasty = replace(GOOD, stations=(replace(BOOKS, settled_after=None),), interrupted=True)
    assert hasty.exit_status == 130
    assert render_summary(hasty).endswith("Interrupted; no complaints so far.")
    assert replace(hasty, leftovers=Leftovers(tasks=1)).exit_status == 1


def test_json_is_one_line_with_the_verdict():
    text = GOOD.to_json()
    assert "\n" not in text
    data = json.loads(text)
    assert (data["exit_status"], data["complaints"], data["seed"]) == (0, [], 1)
    assert data["stations"][0]["trouble"]["reset"] == 40
    assert data["trends"]["memory"]["grows"] is False


def test_lines_are_aligned():
    small = View(elapsed=1.0, seconds=60.0, seed=1)
    large = replace(small, elapsed=1000.0, connections=5_000, written=100_000, memory=2**27, tasks=1_200)
    assert len(render_line(small)) == len(render_line(large))


def test_a_screen():
    lines = render_screen(View(elapsed=5.0, seconds=60.0, seed=7, kills=1, memory=2**26, tasks=57))
    assert lines[0] == "trioshard soak, seed 7"
    assert lines[1] == "  time        5 of 60 s"
    assert lines[-1] == "  holds       64.0 MiB  57 tasks"
