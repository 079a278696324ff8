"""Many seeds: counted the same way by any number of processes, shown, and summed up."""

from __future__ import annotations

import ast
import inspect
import io
from collections import Counter
from types import SimpleNamespace

import pytest

from tests.simulation.processes import run_elsewhere
from trioshard import cli
from trioshard._simulation import report, troubles
from trioshard._simulation import users as users_module
from trioshard._simulation import weather as weather_module
from trioshard._simulation.campaign import Order, Tally, run_campaign
from trioshard._simulation.coverage import EXPECTED, Coverage
from trioshard._simulation.history import Result
from trioshard._simulation.report import Display, exit_status, render
from trioshard._simulation.setup import ENDINGS, LAST_ACTS, available_compressions

TRANSPORTS = ("trio-websocket", "websockets")


def result(seed: int = 0, **changes: object) -> Result:
    """What might come of a seed."""
    facts: dict[str, object] = {
        "complaints": [],
        "seconds": 100.0 + seed,
        "connections": 20,
        "reconnects": 30 - seed,
        "commands": 200 + seed,
        "written": 150,
        "events": 40,
        "opened": (2, 10),
        "met": Counter(),
        "closes": Counter(),
        "traits": ("trio-websocket", "None", "calm"),
    }
    return Result(seed, **{**facts, **changes})  # type: ignore[arg-type]


def tally_of(*results: Result, order: Order | None = None) -> Tally:
    tally = Tally(order or Order(count=10), Coverage(TRANSPORTS))
    for each in results:
        tally.add(each)
    return tally


def everything() -> list[Result]:
    """Histories that have met whatever is to be met."""
    met = Counter((kind, phase) for kind, phases in EXPECTED.items() for phase in phases)
    closes = Counter(troubles.CODES)
    traits = [
        *((transport, "None", "calm") for transport in TRANSPORTS),
        *(("trio-websocket", str(compression), "calm") for compression in available_compressions()),
        *(("trio-websocket", "None", end) for end in ENDINGS),
    ]
    return [result(number, met=met, closes=closes, traits=trait) for number, trait in enumerate(traits)]


def test_one_process_and_two_count_the_same() -> None:
    one, two = (run_campaign(Order(count=16, jobs=jobs)) for jobs in (1, 2))
    for tally in (one, two):
        assert (tally.played, tally.failures) == (16, [])
        assert tally.cpu > 0.0
    for name in ("connections", "commands", "written", "events", "least"):
        assert getattr(one, name) == getattr(two, name)
    assert one.seconds == pytest.approx(two.seconds)
    for name in ("met", "closes", "traits"):
        assert getattr(one.coverage, name) == getattr(two.coverage, name)
    assert {kind for kind, _ in one.coverage.met} <= set(EXPECTED)


def test_a_campaign_ends_when_enough_has_failed() -> None:
    order = Order(count=500, jobs=2, enough=1, prepare="tests.mutants.variants:closes_with_1000")
    seen: list[int] = []
    tally = run_campaign(order, lambda tally: seen.append(tally.played))
    assert tally.failures
    assert tally.played == seen[-1] < 100
    assert tally.failures[0].complaints


def test_a_tally_adds_up() -> None:
    tally = tally_of(result(5), result(7, complaints=["late"]), result(1, complaints=["early"]))
    assert (tally.played, tally.seconds, tally.connections, tally.commands) == (3, 313.0, 60, 613)
    assert (tally.written, tally.events) == (450, 120)
    assert tally.least == (101.0, 23, 201)
    assert [failed.seed for failed in tally.failures] == [1, 7]


def test_nothing_is_missing_once_everything_was_met() -> None:
    assert tally_of(*everything()).coverage.missing() == []


def test_what_was_not_met_is_named() -> None:
    histories = everything()
    for history in histories:
        history.met.pop(("op 7", "ready"), None)
        history.closes.pop(4009, None)
    histories = [history for history in histories if history.traits[0] != "websockets"]
    coverage = tally_of(*histories).coverage
    assert coverage.missing() == ["op 7 while ready", "close code 4009", "transport websockets"]
    (row,) = [line for line in coverage.table() if line.startswith("op 7 ")]
    assert row.split().count("NONE") == 1


def test_the_table_has_a_row_for_each_kind() -> None:
    table = Coverage(TRANSPORTS).table()
    for kind in EXPECTED:
        assert any(line.startswith(kind + " ") for line in table)


def test_the_status_is_1_if_a_seed_failed_or_something_wanted_was_not_met() -> None:
    healthy, whole, failed = tally_of(result()), tally_of(*everything()), tally_of(result(complaints=["x"]))
    assert [exit_status(tally, all_met=False) for tally in (healthy, whole, failed)] == [0, 0, 1]
    assert [exit_status(tally, all_met=True) for tally in (healthy, whole, failed)] == [1, 0, 1]


@pytest.mark.parametrize(("transport", "option"), [(None, ""), ("websockets", " --transport websockets")])
def test_the_sum_says_how_to_play_the_first_failure_again(transport: str | None, option: str) -> None:
    tally = tally_of(
        result(8, complaints=["later"]),
        result(3, complaints=["I1: wrong"], timeline=["it began"], digest="abc"),
        order=Order(count=10, transport=transport),
    )
    lines = render(tally)
    assert lines[:4] == ["seed 3: trio-websocket, None, calm", "it began", "WRONG: I1: wrong", "digest abc"]
    assert f"again: trioshard simulate --from 3 --seeds 1 --story{option}" in lines
    assert "seed 8: later" in lines
    assert "2 seeds, 2 failed" in lines


# --- progress ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "wait"), [(Terminal(), 0.5), (io.StringIO(), 15.0)], ids=["terminal", "file"])
def test_progress_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, wait: float) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(report, "time", SimpleNamespace(monotonic=lambda: clock.now))
    tally = tally_of(result(), result(1))
    tally.elapsed = 4.0
    display = Display(stream)
    clock.now += wait - 0.01
    display.show(tally)
    assert stream.getvalue() == ""
    clock.now += 0.01
    display.show(tally)
    display.show(tally)
    shown = stream.getvalue()
    assert shown.count("2 of 10 seeds, 0.5 a second, 16 s left  0 failed, ") == 1
    display.close()
    if stream.isatty():
        assert shown.startswith("\r\x1b[K")
        assert "\n" not in shown
        assert stream.getvalue() == shown + "\r\x1b[K"
    else:
        assert shown.endswith("\n")
        assert stream.getvalue() == shown


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_a_seed_that_fails_is_told_at_once_and_once(stream: io.StringIO) -> None:
    display = Display(stream)
    tally = tally_of(result(), result(7, complaints=["I1: wrong", "I2: as well"]))
    display.show(tally)
    display.show(tally)
    assert stream.getvalue().count("seed 7 failed: I1: wrong\n") == 1


# --- names ---


def test_the_kinds_that_are_expected_are_those_that_can_be_met() -> None:
    named: set[str] = set()
    for module in (troubles, users_module, weather_module):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call):
                function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if function in ("meet", "_Meet", "_cut"):
                    named |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    drawn = {*troubles.ENDS, *troubles.INTERLUDES, *weather_module.CONNECTS, *LAST_ACTS}
    assert set(EXPECTED) == named | drawn


def test_every_list_of_codes_is_to_be_met() -> None:
    lists = [value for name, value in vars(troubles).items() if name.endswith("_CODES")]
    assert len(lists) >= 4
    assert sorted(troubles.CODES) == sorted({code for codes in lists for code in codes})


# --- the command line ---


def test_simulate_sums_up_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "3", "--from", "2", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trioshard simulate: seeds 2 to 4, 1 jobs\n")
    assert "\n3 seeds, 0 failed\n" in out


def test_simulate_tells_stories(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "2", "--story", "--transport", "trio-websocket"]) == 0
    out = capsys.readouterr().out
    assert [line[:23] for line in out.splitlines() if line.startswith("seed ")] == [
        "seed 0: trio-websocket,",
        "seed 1: trio-websocket,",
    ]
    assert out.count("\ndigest ") == 2


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "0"], ["--seeds", "x"], ["--from", "-1"], ["--jobs", "0"], ["--transport", "smoke"], ["more"]],
    ids=" ".join,
)
def test_bad_arguments_are_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["simulate", *arguments])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_transport_that_is_not_installed_is_status_2_with_a_hint() -> None:
    done = run_elsewhere(
        "import sys; sys.modules['websockets'] = None; from trioshard.cli import main; "
        "sys.exit(main(['simulate', '--seeds', '1', '--transport', 'websockets']))"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'trioshard simulate: that transport needs: pip install "trioshard[speed]"\n'
