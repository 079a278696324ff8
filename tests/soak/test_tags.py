"""The books of tagged commands, with made-up entries."""

from __future__ import annotations

from collections import deque

import pytest

from trioshard._soak import tags
from trioshard._soak.tags import TagBook, Tail

FIRST = 7_700_000_000_000_001


def faults(book: TagBook) -> tuple[int, int, int]:
    return book.withdrawn_but_arrived, book.repeated, book.too_late


def test_each_command_may_arrive_once_or_be_withdrawn():
    book = TagBook()
    for tag in range(FIRST, FIRST + 300_000):
        (book.withdraw if tag % 3 == 0 else book.arrive)(tag)
    assert faults(book) == (0, 0, 0)


@pytest.mark.parametrize("order", ["withdraw arrive", "arrive withdraw"])
def test_what_was_withdrawn_and_arrived_is_found_in_either_order(order):
    book = TagBook()
    for entry in order.split():
        getattr(book, entry)(FIRST)
    assert faults(book) == (1, 0, 0)


def test_what_arrives_twice_is_found_each_time():
    book = TagBook()
    for tag in (FIRST, FIRST + 1, FIRST, FIRST + 2, FIRST):
        book.arrive(tag)
    assert faults(book) == (0, 2, 0)


def test_a_later_tag_may_come_first():
    book = TagBook()
    for tag in (FIRST + 5, FIRST, FIRST + 3, FIRST + 1):
        book.arrive(tag)
    assert faults(book) == (0, 0, 0)
    book.arrive(FIRST)
    assert faults(book) == (0, 1, 0)


def test_what_arrives_after_its_entry_is_gone_is_too_late(monkeypatch):
    monkeypatch.setattr(tags, "MEMORY", 8)
    book = TagBook()
    for tag in range(FIRST, FIRST + 9):
        book.arrive(tag)
    book.arrive(FIRST)
    assert faults(book) == (0, 0, 1)
    book.arrive(FIRST + 1)
    assert faults(book) == (0, 1, 1)


def test_a_leap_leaves_no_old_entries_behind(monkeypatch):
    monkeypatch.setattr(tags, "MEMORY", 8)
    book = TagBook()
    for tag in (*range(FIRST, FIRST + 8), FIRST + 100, *range(FIRST + 93, FIRST + 100)):
        book.arrive(tag)
    assert faults(book) == (0, 0, 0)


def test_a_tail_tells_each_entry_once():
    entries = deque(maxlen=3)
    tail = Tail(entries)
    told = []
    for number in range(10):
        entries.append([number])
        told += tail.news()
    assert told == [[number] for number in range(10)]
    assert not list(tail.news())
    assert tail.looked_away == 0


def test_a_tail_notices_that_it_looked_away_too_long():
    entries = deque(maxlen=3)
    tail = Tail(entries)
    entries.append([0])
    assert list(tail.news()) == [[0]]
    entries.extend([number] for number in range(1, 5))
    assert list(tail.news()) == [[2], [3], [4]]
    assert tail.looked_away == 1
