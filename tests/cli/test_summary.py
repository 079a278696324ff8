"""What the demo says at the end, from made-up figures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from trioshard._demo.ledger import Balance
from trioshard._demo.summary import CommandCounts, ReadyTimes, Summary, render_summary

GOOD = Summary(
    seconds=30.0,
    seed=1,
    connections=1107,
    resumes=989,
    identifies=3,
    commands=CommandCounts(accepted=1571, written=1350, withdrawn=218, superseded=3, arrived=1340),
    crossing=2,
    dispatches=Balance(sent=4448, received=4444, discarded_by_gateway=4, without_session=12),
    ready_ms=ReadyTimes(91.2, 3465.3),
)


@pytest.mark.parametrize(
    "fault",
    [
        {"refused": {"not_authenticated": 1}},
        {"dispatches": Balance(sent=2, received=1, lost=1)},
        {"dispatches": Balance(sent=1, received=1, repeated=1)},
        {"dispatches": Balance(sent=2, received=2, out_of_order=1)},
        {"dispatches": Balance(unexpected=1)},
        {"commands": CommandCounts(withdrawn_but_arrived=1)},
        {"settled": False},
        {"failure": "shard 0 of 1 was refused"},
    ],
)
def test_each_fault_is_told_and_makes_the_exit_status_1(fault):
    summary = replace(GOOD, **fault)
    assert summary.exit_status == 1
    assert len(summary.complaints) == 1
    assert render_summary(summary).endswith(f"Failed: {summary.complaints[0]}.")


def test_a_loss_counts_in_spite_of_an_interrupt():
    assert replace(GOOD, interrupted=True, dispatches=Balance(sent=1, lost=1)).exit_status == 1


def test_exit_status():
    assert GOOD.exit_status == 0
    assert replace(GOOD, interrupted=True).exit_status == 130
    assert replace(GOOD, interrupted=True, settled=False).exit_status == 130


def test_json_has_what_was_promised():
    text = replace(GOOD, refused={"decode_error": 2}).to_json()
    assert "\n" not in text
    data = json.loads(text)
    assert {"seconds", "seed", "connections", "resumes", "identifies", "crossing"} <= data.keys()
    assert (
        data["commands"].items()
        >= {
            "accepted": 1571,
            "written": 1350,
            "withdrawn": 218,
            "superseded": 3,
            "pending": 0,
        }.items()
    )
    assert data["refused"] == {"decode_error": 2}
    assert data["dispatches"].items() >= {"sent": 4448, "received": 4444, "lost": 0, "repeated": 0}.items()
    assert data["ready_ms"] == {"median": 91.2, "worst": 3465.3}


def test_ready_times():
    assert ReadyTimes.of([]) == ReadyTimes(None, None)
    assert ReadyTimes.of([0.05, 4.0, 0.07]) == ReadyTimes(70.0, 4000.0)


def test_a_summary_for_people():
    assert render_summary(GOOD).splitlines() == [
        "  time        30.0 s, seed 1",
        "  connections 1,107  (989 resumes, 3 identifies)",
        "  commands    1,571 accepted",
        "              1,350 written, 218 withdrawn, 3 superseded, 0 pending",
        "  refused     0",
        "  crossing    2",
        "  events      4,448 sent, 4,444 received",
        "              0 lost, 0 repeated, 0 out of order",
        "              4 went with a session that the gateway ended",
        "  back after  91 ms (median), 3,465 ms (worst)",
        "",
        "No complaints.",
    ]


def test_a_summary_of_next_to_nothing():
    summary = Summary(
        0.4, 7, 1, identifies=1, refused={"a": 1, "b": 2}, dispatches=Balance(sent=3, under_way=3), interrupted=True
    )
    assert render_summary(summary).splitlines() == [
        "  time        0.4 s, seed 7",
        "  connections 1  (0 resumes, 1 identify)",
        "  commands    0 accepted",
        "              0 written, 0 withdrawn, 0 superseded, 0 pending",
        "  refused     1 a  2 b",
        "  crossing    0",
        "  events      3 sent, 0 received",
        "              0 lost, 0 repeated, 0 out of order",
        "              3 still under way",
        "",
        "Failed: 3 payloads refused by the gateway.",
    ]
    assert render_summary(replace(summary, refused={})).endswith("\nInterrupted; no complaints so far.")
