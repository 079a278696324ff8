"""A whole soak, short; and the command line around it."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import warnings
from collections import Counter

import pytest
import trio

from trioshard import cli
from trioshard._demo.weather import Weather
from trioshard._soak import child, soak, station
from trioshard._soak.soak import Options, choose_setups, run_soak
from trioshard._soak.summary import StationBooks
from trioshard._soak.usage import count_descriptors, count_objects, count_tasks, measure_memory
from trioshard.testing import CloseOnIdentify


def test_a_few_seconds_as_json(monkeypatch, capsys):
    monkeypatch.setattr(child, "LIVES_FOR", (1.0, 2.0))
    status = cli.main(["soak", "--minutes", "0.08", "--seed", "2", "--senders", "4", "--json"])
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    data = json.loads(captured.out)
    assert status == data["exit_status"] == 0, data["complaints"]
    assert captured.err.startswith("trioshard soak: 0.08 min, seed 2, 4 senders\n")
    plain, secure = data["stations"]
    assert plain["name"].startswith("TCP, zlib-stream, ")
    assert secure["name"].startswith("TLS, ")
    trouble = Counter(plain["trouble"]) + Counter(secure["trouble"])
    assert trouble["kill"] >= 1
    assert sum(trouble.values()) >= 5
    for books in (plain, secure):
        assert books["connections"] >= 2
        assert books["resumes"] >= 1
        assert books["commands"]["arrived"] >= 5
        assert books["dispatches"]["received"] >= 50
        assert books["settled_after"] < 10.0
    assert set(data["trends"]) >= {"memory", "tasks", "descriptors"}


async def test_ctrl_c_ends_it_early_with_the_books_closed():
    async def interrupt(view):
        while view().connections < 2:
            await trio.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    with trio.fail_after(30):
        summary = await run_soak(Options(seconds=600.0, seed=3, tls=False), interrupt)
    assert summary.complaints == []
    assert summary.exit_status == 130
    assert summary.seconds < 30.0
    assert all(books.settled_after is not None for books in summary.stations)


async def test_a_shard_that_fails_ends_the_run_and_is_told(monkeypatch):
    monkeypatch.setattr(station, "heavy_weather", lambda seed, **_: Weather(lambda number: [CloseOnIdentify(4004)]))
    with trio.fail_after(20):
        summary = await run_soak(Options(seconds=600.0, seed=4, tls=False))
    assert summary.exit_status == 1
    assert any("4004" in words for words in summary.complaints)


async def test_a_second_ctrl_c_does_not_wait(monkeypatch):
    async def wait_for_ever(self, number):
        await trio.sleep_forever()

    async def interrupt(view):
        # Not in a rush: one more while nobody obeys any more would be a plain KeyboardInterrupt.
        while True:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(0.4)

    monkeypatch.setattr(station.Listener, "wait_received", wait_for_ever)
    with trio.fail_after(10):
        summary = await run_soak(Options(seconds=600.0, seed=4, tls=False), interrupt)
    assert summary.exit_status == 130
    assert [books.settled_after for books in summary.stations] == [None, None]


async def test_before_anything_was_opened_the_books_are_empty():
    setup = choose_setups(Options(), None)[0]
    assert station.Station(setup).books == StationBooks(name=setup.name)


def test_without_trustme_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trustme", None)
    assert cli.main(["soak", "--json"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        'trioshard soak: TLS needs trustme: pip install "trioshard[soak]"; or run with --no-tls'
    )


@pytest.mark.parametrize("bad", [["--minutes", "0"], ["--senders", "0"], ["--seed", "x"], ["more"]])
def test_bad_arguments_are_one_line_and_status_2(bad, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["soak", *bad])
    assert capsys.readouterr().err.count("\n") == 1


def test_the_seed_says_which_bot_has_which_transport():
    setups = [choose_setups(Options(seed=seed), None) for seed in (1, 2)]
    assert {setup.transport for setup in setups[0]} == {"trio-websocket", "websockets"}
    assert setups[0][0].transport == setups[1][1].transport != setups[1][0].transport


async def test_it_is_redrawn_on_a_terminal():
    screen = io.StringIO()
    view = soak.View(elapsed=1.0, seconds=60.0, seed=7)
    with trio.move_on_after(0.01):
        await soak.show_screen(screen, lambda: view)
    assert "trioshard soak, seed 7" in screen.getvalue()


async def test_what_the_process_holds():
    before = count_descriptors(), count_tasks(), count_objects()
    held = [[] for _ in range(5_000)]
    reading, writing = os.pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        after = count_descriptors(), count_tasks(), count_objects()
        nursery.cancel_scope.cancel()
    os.close(reading)
    os.close(writing)
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)
    assert abs(after[2] - before[2] - len(held)) < 500
    assert 2**22 < measure_memory() < 2**34


async def test_what_nobody_closed_is_counted():
    with soak._counting_unclosed() as unclosed:
        warnings.warn("unclosed <socket>", ResourceWarning, stacklevel=1)
        warnings.warn("something else", DeprecationWarning, stacklevel=1)
    assert len(unclosed) == 1
