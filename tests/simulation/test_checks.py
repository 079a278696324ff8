"""Each check of the finished books complains about its own kind of fault, and about nothing else."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard import Phase
from trioshard._simulation import world as world_module
from trioshard._simulation.books import HANDSHAKES, HEARTBEAT, IDENTIFY, PRESENCE, Books
from trioshard._simulation.check_timing import most_in_any
from trioshard._simulation.history import run_seed
from trioshard._simulation.invariants import CHECKS
from trioshard._simulation.observers import observed
from trioshard._simulation.scheduler import run_seeded
from trioshard._simulation.world import World
from trioshard.testing import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard._simulation.records import Call, Dialled, Write

    Falsify = Callable[[Books, pytest.MonkeyPatch], None]

SEED = 7
"""It becomes calm, and has a second life."""


@functools.cache
def healthy_world() -> World:
    """A history without a fault, played once for all tests."""
    world = World(SEED)

    def current() -> Dialled:
        assert world.current is not None
        return world.current

    with observed(world.records, current, lambda: world.life):
        run_seeded(Random(f"scheduler {SEED}"), world.play)
    assert world.records.complaints == []
    return world


def complaining(books: Books) -> set[str]:
    """Return the checks that complain, by invariant and name."""
    return {f"{name} {check.__name__}" for name, check in CHECKS for _ in check(books)}


def receipts_of(books: Books) -> list[Call]:
    """Commands that were written, none of them a presence or a limited one."""
    calls = books.records.calls.values()
    return [c for c in calls if c.receipt is not None and c.opcode != PRESENCE and c.guild is None]


def finished(books: Books, *opcodes: int) -> list[Write]:
    return [w for w in books.records.writes if w.finished is not None and (not opcodes or w.opcode in opcodes)]


def violation(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books.report, "violation_list", [Violation(1.0, 0, "too early", "on purpose")])


def wrong_phase(books: Books, patch: pytest.MonkeyPatch) -> None:
    command = next(w for w in finished(books) if w.opcode not in (HEARTBEAT, *HANDSHAKES))
    patch.setattr(command, "phase", Phase.RESUMING)


def after_end(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(finished(books)[0], "after_end", True)


def strange_bytes(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(books.transcripts, 1, replace(books.transcripts[1], strange="a frame without a mask"))


def bytes_after_close(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(books.transcripts, 1, replace(books.transcripts[1], after_close=True))


def forged_epoch(books: Books, patch: pytest.MonkeyPatch) -> None:
    call = receipts_of(books)[0]
    patch.setattr(call, "receipt", replace(call.receipt, epoch=99))


def impossible_receipt(books: Books, patch: pytest.MonkeyPatch) -> None:
    call = receipts_of(books)[0]
    patch.setattr(call, "receipt", replace(call.receipt, waited=-1.0))


def receipt_without_a_frame(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(books.whole, receipts_of(books)[0].tag, [])


def written_twice(books: Books, patch: pytest.MonkeyPatch) -> None:
    tag = receipts_of(books)[0].tag
    patch.setitem(books.whole, tag, books.whole[tag] * 2)


def withdrawn_and_written(books: Books, patch: pytest.MonkeyPatch) -> None:
    call = receipts_of(books)[0]
    patch.setattr(call, "answer", "withdrawn")
    patch.setattr(call, "cancelled", call.answered)


def withdrawn_by_nobody(books: Books, patch: pytest.MonkeyPatch) -> None:
    call = next(c for c in books.records.calls.values() if c.answer == "withdrawn")
    patch.setattr(call, "cancelled", None)


def never_answered(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receipts_of(books)[0], "answer", "pending")


def heard_later(books: Books, patch: pytest.MonkeyPatch) -> None:
    call = next(c for c in receipts_of(books) if c.cancelled is None)
    assert call.answered is not None
    patch.setattr(call, "answered", call.answered + 0.5)


def arrived_otherwise(books: Books, patch: pytest.MonkeyPatch) -> None:
    commands = list(books.report.commands)
    first = next(i for i, c in enumerate(commands) if commands[i + 1].connection_id == c.connection_id)
    commands[first], commands[first + 1] = commands[first + 1], commands[first]
    patch.setattr(books.report, "commands", commands)


def out_of_order(books: Books, patch: pytest.MonkeyPatch) -> None:
    known = {call.tag: call for call in receipts_of(books)}
    written = [
        f.tag for number in sorted(books.transcripts) for f in books.transcripts[number].frames if f.tag in known
    ]
    overtaken = next(pair for pair in pairwise(written) if pair[0] > pair[1])
    for tag in overtaken:
        patch.setattr(known[tag], "caller", "somebody else")


def stale_presence(books: Books, patch: pytest.MonkeyPatch) -> None:
    written = [c for c in books.records.calls.values() if c.opcode == PRESENCE and len(books.whole[c.tag]) == 1]
    early = max(written, key=lambda call: books.whole[call.tag])
    patch.setattr(early, "asked", 0.0)


def cut_by_nobody(books: Books, patch: pytest.MonkeyPatch) -> None:
    write = finished(books)[0]
    patch.setattr(write, "interrupted", write.begun)


def event_lost(books: Books, patch: pytest.MonkeyPatch) -> None:
    # The first life may lack what its RESUMED took; the second has to bring the rest.
    key, heard = max(books.records.heard.items(), key=lambda item: (item[0][0], len(item[1])))
    patch.setitem(books.records.heard, key, heard[:1] + heard[2:])


def event_repeated(books: Books, patch: pytest.MonkeyPatch) -> None:
    key, heard = max(books.records.heard.items(), key=lambda item: len(item[1]))
    patch.setitem(books.records.heard, key, heard + heard[-1:])


def events_swapped(books: Books, patch: pytest.MonkeyPatch) -> None:
    key, heard = max(books.records.heard.items(), key=lambda item: len(item[1]))
    patch.setitem(books.records.heard, key, [*heard[:-2], heard[-1], heard[-2]])


def unknown_session(books: Books, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(books.records.heard, (0, "nobody's"), [(1, "READY")])


def carried_too_far(books: Books, patch: pytest.MonkeyPatch) -> None:
    assert books.world.restarted_at is not None
    session_id, sequence = books.world.restarted_at
    heard = books.records.heard[0, session_id]
    patch.setitem(books.records.heard, (0, session_id), heard[:-1])
    patch.setattr(books.world, "restarted_at", (session_id, max(sequence, heard[-1][0])))
    patch.setitem(books.records.heard, (1, session_id), [])


def too_many_payloads(books: Books, patch: pytest.MonkeyPatch) -> None:
    number, writes = next((n, w) for n, w in books.writes.items() if any(x.opcode > PRESENCE for x in w))
    one = next(w for w in writes if w.finished is not None and w.opcode > PRESENCE and w.opcode not in HANDSHAKES)
    patch.setitem(books.writes, number, [*writes, *[one] * 121])


def too_many_presences(books: Books, patch: pytest.MonkeyPatch) -> None:
    (one, *_) = finished(books, PRESENCE)
    patch.setattr(books.records, "writes", [*books.records.writes, *[replace(one, tag=None)] * 5])


def no_beats(books: Books, patch: pytest.MonkeyPatch) -> None:
    number = max(books.lines, key=lambda n: (books.lines[n].ended or 0.0) - books.lines[n].at)
    patch.setattr(books.lines[number], "interval", 0.001)


def two_handshakes(books: Books, patch: pytest.MonkeyPatch) -> None:
    resume = finished(books, 6)[0]
    patch.setitem(books.writes, resume.line, [*books.writes[resume.line], resume])


def identifies_at_once(books: Books, patch: pytest.MonkeyPatch) -> None:
    identify = finished(books, IDENTIFY)[0]
    patch.setitem(books.writes, 10_000, [identify])


def goodbye_for_good(books: Books, patch: pytest.MonkeyPatch) -> None:
    quiet = next(n for n in books.transcripts if not books.lines[n].troubles.keys() & {"close, suspect"})
    patch.setitem(books.transcripts, quiet, replace(books.transcripts[quiet], close_code=1000))


def slept_on(books: Books, patch: pytest.MonkeyPatch) -> None:
    wait = books.records.waits[0]
    patch.setattr(wait, "begun", -1.0)
    patch.setattr(wait, "ended", None)


def late_recovery(books: Books, patch: pytest.MonkeyPatch) -> None:
    resumed = next(w.line for w in finished(books, 6))
    before = books.records.dialled[books.records.dialled.index(books.lines[resumed]) - 1]
    assert before.ended is not None
    patch.setattr(books.lines[resumed], "at", before.ended + 100.0)


def dead_peer_kept(books: Books, patch: pytest.MonkeyPatch) -> None:
    dialled = books.records.dialled[0]
    patch.setitem(dialled.troubles, "silence", -1_000.0)


def falsify_frame(books: Books, patch: pytest.MonkeyPatch, opcode: int, **changes: int) -> None:
    """Change the last frame of this kind on some line."""
    number = next(n for n, t in books.transcripts.items() if any(f.opcode == opcode for f in t.frames))
    frames = list(books.transcripts[number].frames)
    last = max(index for index, frame in enumerate(frames) if frame.opcode == opcode)
    frames[last] = replace(frames[last], **changes)
    patch.setitem(books.transcripts, number, replace(books.transcripts[number], frames=tuple(frames)))


def wrong_sequence(books: Books, patch: pytest.MonkeyPatch) -> None:
    falsify_frame(books, patch, HEARTBEAT, sequence=999_999)


def wrong_presence(books: Books, patch: pytest.MonkeyPatch) -> None:
    falsify_frame(books, patch, IDENTIFY, presence=5)


def refused_and_back(books: Books, patch: pytest.MonkeyPatch) -> None:
    ended = books.records.dialled[0].ended
    assert ended is not None
    patch.setitem(books.records.dialled[0].troubles, "fatal close", ended)


def resumed_although_over(books: Books, patch: pytest.MonkeyPatch) -> None:
    dialled = books.records.dialled
    resumed = next(i for i, d in enumerate(dialled) if d.opened is not None and d.resumed)
    patch.setattr(dialled[resumed - 1], "verdict", "the session is gone for good")


def wrong_url(books: Books, patch: pytest.MonkeyPatch) -> None:
    line = books.lines[finished(books, 6)[0].line].line
    assert line is not None
    patch.setattr(line.up, "taken", bytearray(b"GET /"))


FALSIFIED: list[tuple[Falsify, set[str]]] = [
    (violation, {"I1 legality"}),
    (wrong_phase, {"I1 legality"}),
    (after_end, {"I1 legality"}),
    (strange_bytes, {"I1 legality"}),
    (bytes_after_close, {"I1 legality"}),
    (forged_epoch, {"I2 receipts"}),
    (impossible_receipt, {"I2 receipts"}),
    (receipt_without_a_frame, {"I2 receipts"}),
    (written_twice, {"I2 receipts"}),
    (withdrawn_and_written, {"I2 receipts"}),
    (withdrawn_by_nobody, {"I2 receipts"}),
    (never_answered, {"I2 receipts"}),
    (heard_later, {"I2 receipts"}),
    (arrived_otherwise, {"I2 arrivals"}),
    (out_of_order, {"I2 order"}),
    (stale_presence, {"I2 presences"}),
    (cut_by_nobody, {"I2 interruptions"}),
    (event_lost, {"I3 events"}),
    (event_repeated, {"I3 events"}),
    (events_swapped, {"I3 events"}),
    (unknown_session, {"I3 events"}),
    (carried_too_far, {"I3 restart"}),
    (too_many_payloads, {"I4 limits"}),
    (too_many_presences, {"I4 limits"}),
    (no_beats, {"I4 heartbeats"}),
    (two_handshakes, {"I5 handshakes"}),
    (identifies_at_once, {"I5 handshakes"}),
    (goodbye_for_good, {"I6 goodbyes"}),
    (slept_on, {"I7 waits"}),
    (late_recovery, {"I7 recoveries"}),
    (dead_peer_kept, {"I7 verdicts"}),
    (wrong_sequence, {"I4 pulses"}),
    (wrong_presence, {"I2 identities"}),
    (refused_and_back, {"I3 refusals"}),
    (resumed_although_over, {"I3 dismissals"}),
    (wrong_url, {"I5 addresses"}),
]


def test_nothing_is_wrong_with_the_healthy_history() -> None:
    assert complaining(Books(healthy_world())) == set()


@pytest.mark.parametrize(
    ("falsify", "found"), FALSIFIED, ids=[falsify.__name__.replace("_", " ") for falsify, _ in FALSIFIED]
)
def test_one_false_fact_is_found_by_its_check_alone(
    monkeypatch: pytest.MonkeyPatch, falsify: Falsify, found: set[str]
) -> None:
    books = Books(healthy_world())
    falsify(books, monkeypatch)
    assert complaining(books) == found


@pytest.mark.parametrize(
    ("limit", "seconds", "end", "words"),
    [
        ("LONGEST_STORM", 61.0, "calm", "the storm came to a standstill"),
        ("CALM", 0.0, "calm", "not ready, or something still pending, 0 s after it became calm"),
        ("LAST_ACT", 0.0, "the block is left", "no connection came as far as its last act"),
        ("LEAVING", -1.0, "the block is left", "leaving took "),
        ("CANCELLED", -1.0, "the block is cancelled", "leaving took "),
    ],
)
def test_a_history_that_takes_too_long_is_found_on_the_spot(
    monkeypatch: pytest.MonkeyPatch, limit: str, seconds: float, end: str, words: str
) -> None:
    seed = next(seed for seed in range(1000) if World(seed).setup.end == end)
    assert run_seed(seed).complaints == []
    monkeypatch.setattr(world_module, limit, seconds)
    assert any(complaint.startswith(words) for complaint in run_seed(seed).complaints)


@given(st.lists(st.integers(0, 60), max_size=30).map(sorted), st.integers(1, 20))
def test_the_fullest_window_is_found(times: list[int], seconds: int) -> None:
    brute = max((sum(start <= time < start + seconds for time in times) for start in times), default=0)
    assert most_in_any(times, seconds) == brute
