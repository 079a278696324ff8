"""A few restarts of a real process, in short; `python -m tests.restarts` does fifty of each kind."""

from __future__ import annotations

import sys

import pytest

from tests.restarts.restarts import play

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes with signals that Windows lacks")


async def test_a_killed_bot_goes_on_where_it_was_and_loses_nothing() -> None:
    books = await play(3, seed=7, planned=False)
    assert (books.lost, books.disordered, books.violations) == (0, 0, 0), books
    assert (books.identifies, books.resumes) == (1, 3), books


async def test_a_bot_that_is_stopped_in_good_order_loses_nothing_and_repeats_nothing() -> None:
    books = await play(3, seed=8, planned=True)
    assert (books.lost, books.repeated, books.disordered, books.violations) == (0, 0, 0, 0), books
    assert (books.identifies, books.resumes) == (1, 3), books
