"""A short, fixed run of every target, without the guidance of coverage; the long one is ``python -m tests.fuzz``."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.fuzz.replay import failure, random_input, shrink
from tests.fuzz.source import Source
from tests.fuzz.targets import TARGETS

INPUTS_PER_SHARE = 150

REGRESSIONS = [
    pytest.param(
        "payload",
        b"\x00,\x00\x00\x00\x00\x00\x00\x00\x00\xaft\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1f",
        id="a bomb is inflated before its size is looked at",
    ),
    pytest.param(
        "zlib-stream",
        b"\x00\x1f\xbf\x9c\x00\x00\x00\xef",
        id="a bomb in a stream is inflated before its size is looked at",
    ),
    pytest.param("zlib-stream", b"\x00\x00\xffC\x00", id="a document above the cap comes out"),
    pytest.param("zstd-stream", b"\x00\x9b\x00\x00", id="a window of any size is allocated"),
    pytest.param(
        "zstd-stream",
        b"\x00\x00\x00\x00\x00\x00\xf9\xf9\xf9\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        id="a frame that ended is read on",
    ),
    pytest.param("zlib-stream", b"\x00\x00\x00\x00c", id="a stream goes on after an error"),
    pytest.param(
        "zlib-stream",
        b"\x00\x00\x00\x8f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x005d\x00",
        id="a document is inflated twice",
    ),
    pytest.param(
        "zlib-stream",
        b"\x00\xa6\x00%\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfb\x00\x00J\x00\x00\x19\x00\x00\x9c\x00\x00\xfa\x00\x00\x0c\x00\xc3\x00\x00\xdd\x00\x00!\x00\xf2)*\xad",
        id="a suffix that is split is not seen",
    ),
    pytest.param("machine", b"\x00\x00\x00\xa68\x00\x00CCC\xec`\x00\x00", id="a heartbeat interval of years"),
    pytest.param(
        "transport-websockets",
        b'\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"\xa9\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe3\x00\xd4\xd6\xda',
        id="a message above the limit comes through websockets",
    ),
    pytest.param(
        "transport-trio-websocket",
        b"\x00\x00\x00\x00\xec\xbd\xaa\xcf6\x0c\xd1\xea\x144C\x1cvY",
        id="a message above the limit comes through trio-websocket",
    ),
    pytest.param("envelope", b"\xcf/\x00\x00\x12", id="RecursionError from the data"),
    pytest.param("envelope", b"\x00\xaf\x00\x00/\x00\x00b", id="RecursionError from the envelope"),
    pytest.param("envelope", b"\x00\xaf\x00\xd0*\x00/\xbav\xe6", id="UnicodeError from the data"),
    pytest.param(
        "events",
        b"\xc2\x00\x00\x00\xd9\x00\x00\x00\x00\x00\x00_\x00\x00O\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf5\xcf",
        id="UnicodeError from an event",
    ),
    pytest.param("events", b"\xfe", id="a repr shows a token"),
    pytest.param("events", b"f\x00\x00\x00\x00\x00\x00\x00\x7f", id="TypeError from a guild id"),
    pytest.param("events", b"\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0c", id="a time that is no number"),
    pytest.param(
        "commands",
        b"\xda\xcf\x00o\x00\x00\x18\x00\x00\x00\x00\x00\x00\x00\x18\x00\x00\x00\x00\x00\x00\x00\x18\x00\x00\x00\x00\x00\x18",
        id="a command above 4096 bytes",
    ),
    pytest.param(
        "transport-websockets", b"\x00{\xdb\x00\x00\x00\x00\x00\x00\x00\x00,o\xac\xe5", id="a handshake without an end"
    ),
    pytest.param(
        "transport-websockets",
        b"kL\xcb\xf2\x17X\xf0C\xfdB)\x92\xc3h\xa95\x88\x8fG~\x12\xa8 \xb0",
        id="a goodbye without an end",
    ),
    pytest.param(
        "transport-websockets",
        b"\x00\x00\xe9T\x95\xfey\xc6\xd9W\xb0$\x9c\x91)\x9a",
        id="UnicodeError from a text message",
    ),
    pytest.param("transport-websockets", b"", id="a stream is left open"),
    pytest.param("transport-trio-websocket", b"\x00\x87", id="an error of h11 comes through"),
]
"""The smallest inputs, as the runner prints them, that showed a fault of the product or of a copy that was broken on
purpose. Named by the fault."""


@pytest.fixture(autouse=True)
def _no_tracing_elsewhere():
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_random_inputs_break_no_promise(name):
    target = TARGETS[name]
    for number in range(INPUTS_PER_SHARE * target.share):
        data = random_input(name, number)
        try:
            target.run(data)
        except Exception as exc:
            exc.add_note(f"input: ({name!r}, {data!r}),")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_no_decision_is_needed_from_an_empty_input(name):
    TARGETS[name].run(b"")


@pytest.mark.parametrize(("name", "data"), REGRESSIONS)
def test_what_failed_once(name, data):
    TARGETS[name].run(data)


# The tools


def test_the_same_bytes_make_the_same_decisions():
    data = random_input("envelope", 7)
    assert Source(data).json() == Source(data).json()
    assert Source(b"").json() == b"null"


def test_a_failing_input_is_made_smaller():
    def run(data: bytes) -> None:
        assert b"\x07" not in data or len(data) < 3

    small = shrink(run, b"abc\x07defgh" * 5, seconds=10)
    assert len(small) == 3
    assert small.count(b"\x07") == 1
    assert small.count(b"\x00") == 2


def test_shrinking_keeps_to_the_same_failure():
    def run(data: bytes) -> None:
        if len(data) > 5:
            raise LookupError
        if data:
            raise ValueError

    assert len(shrink(run, b"x" * 20, seconds=10)) == 6


def test_a_hang_is_a_failure(monkeypatch):
    def run(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.replay.TIME_LIMIT", 0.01)
    assert "no end" in str(failure(run, b""))
