"""The benchmark runs from end to end, in small; what is played is what was meant; and the arithmetic is right."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.arena import ClientFailed, open_arena
from benchmarks.clients.common import Meter
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.figures import Results, Run, quantile, spread
from benchmarks.goals import GOALS
from benchmarks.mix import SHARES, Mix, encode_payload
from benchmarks.play import Play
from benchmarks.profile import layer_of, time_by_layer
from benchmarks.recording import GREETINGS, make_recording
from benchmarks.report import goal_table, table, work_table
from benchmarks.schedule import Schedule
from benchmarks.streams import accept_key, frame, zstd_module
from benchmarks.works import FULL, QUICK, make_works

ROOT = Path(__file__).parent.parent.parent
EVENTS = 400


def test_it_measures_both_transports_and_says_so(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--events", str(EVENTS)]
    command += ["--clients", "trioshard", "trioshard-tw", "--only", "burst-raw", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(file.read_text())
    assert [(run["client"], run["error"]) for run in written["runs"]] == [("trioshard", None), ("trioshard-tw", None)]
    for run in written["runs"]:
        assert 0 < run["figures"]["us"] < 10_000
        assert not [note for note in run["notes"] if "logged" in note or "negotiated" in note]
    assert written["quick"]
    for part in ("| trioshard-tw |", "µs an event", "Goals", "not to be quoted"):
        assert part in done.stdout


def test_a_client_that_fails_is_reported_and_the_others_run():
    absent = Contestant(name="absent", module="no_such_client", needs={}, shown=(), zstd_needs={}, settings="")
    sizes = replace(QUICK, rounds=1, warmup=10, events=EVENTS)
    work = next(each for each in make_works(sizes) if each.name == "burst-raw")
    work = replace(work, clients=("absent", "trioshard"))
    shown = []
    with open_arena(tls=False) as arena:
        contestants = {"absent": absent, "trioshard": CONTESTANTS["trioshard"]}
        schedule = Schedule(arena, [work], contestants, sizes, shown.append)
        schedule.play_round(0)
    failed, sound = shown
    assert "no_such_client" in failed.error
    assert not failed.figures
    assert sound.error is None
    assert sound.figures["us"] > 0


def test_a_client_that_hangs_is_ended():
    work = next(each for each in make_works(QUICK) if each.name == "churn")
    with open_arena(tls=False) as arena:
        client = arena.start(CONTESTANTS["trioshard"], work, Play(live=True))
        with pytest.raises(ClientFailed, match="did not end"):
            client.wait(0.2)
        client.stop()
        assert client.has_ended


def test_a_disconnect_is_timed_until_the_resume():
    work = next(each for each in make_works(QUICK) if each.name == "churn")
    play = Play(live=True, disconnects=("op 7",), pause=0.1)
    with open_arena(tls=False) as arena:
        client = arena.start(CONTESTANTS["trioshard"], work, play)
        deadline = time.monotonic() + 30
        while client.look()["left"] and time.monotonic() < deadline:
            time.sleep(0.05)  # two processes of their own: there is no clock to jump
        seen = client.stop()
    assert (seen["identifies"], seen["resumes"]) == (1, 1)
    [(how, seconds)] = seen["recoveries"]
    assert how == "op 7"
    assert 0 < seconds < 20


# --- what is played ---


def frames_of(wire: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(wire):
        opcode, size = wire[at] & 0x0F, wire[at + 1]
        assert wire[at] & 0x80, "no fragments"
        assert not size & 0x80, "a server does not mask"
        at += 2
        if size == 126:
            (size,) = struct.unpack_from(">H", wire, at)
            at += 2
        elif size == 127:
            (size,) = struct.unpack_from(">Q", wire, at)
            at += 8
        yield opcode, wire[at : at + size]
        at += size


def inflater(compression):
    if compression == "zlib-stream":
        return zlib.decompressobj().decompress
    if compression == "zstd-stream":
        return zstd_module().ZstdDecompressor().decompress
    return lambda data: data


@pytest.mark.parametrize("compression", [None, "zlib-stream", "zstd-stream"])
def test_a_recording_is_the_mix_in_one_stream(compression):
    recording = make_recording(compression, EVENTS)
    inflate = inflater(compression)
    wire = recording.hello + recording.greeting + b"".join(recording.frames[:EVENTS])
    payloads = []
    for opcode, data in frames_of(wire):
        assert opcode == (1 if compression is None else 2)
        payloads.append(json.loads(inflate(data)))
    assert payloads[0]["op"] == 10
    names = [payload["t"] for payload in payloads[1 : 1 + GREETINGS]]
    assert names == ["READY", "GUILD_CREATE"]
    assert [payload["s"] for payload in payloads[1:]] == list(range(1, EVENTS + GREETINGS + 1))
    mix = Mix()
    for payload in payloads[1 + GREETINGS :]:
        assert (payload["t"], payload["d"]) == mix.next_event()


def test_a_longer_recording_begins_like_a_shorter_one():
    short = make_recording("zlib-stream", 50)
    begin = list(short.frames[:50])
    longer = make_recording("zlib-stream", len(short.frames) + 10)
    assert list(longer.frames[:50]) == begin


def test_the_mix_has_its_shares_and_about_the_size_of_real_events():
    mix = Mix()
    names, sizes = [], []
    for number in range(4_000):
        name, data = mix.next_event()
        names.append(name)
        sizes.append(len(encode_payload(name, number, data)))
    assert {name: round(100 * names.count(name) / len(names)) for name in SHARES} == pytest.approx(SHARES, abs=3)
    assert 1_200 < sum(sizes) / len(sizes) < 1_800


def test_marks_of_messages_are_the_last_before_and_the_last_after_the_pause():
    recording = make_recording(None, EVENTS)
    for events in range(200, 220):  # whatever the kind of the last event
        marks = recording.message_marks(100, events)
        first, last = recording.messages[marks.start - 1], recording.messages[marks.stop - 1]
        assert first < 100 <= recording.messages[marks.start]
        assert last < 100 + events <= recording.messages[marks.stop]
        assert last - first == marks.events


def test_a_meter_counts_cpu_from_the_first_mark_and_wall_time_after_the_pause(capsys):
    ended = []
    meter = Meter(2, 5, lambda: ended.append(meter.seen))
    for _ in range(2):
        meter.hit()
    pause = time.perf_counter()
    while time.perf_counter() < pause + 0.02:
        pass
    for _ in range(3):
        meter.hit()
    assert ended == [5]
    told = json.loads(capsys.readouterr().out)
    assert told["wall"] < 0.01 < told["cpu"]
    assert told["cpu"] < time.process_time() - 0.01  # it is not the whole life of the process


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_of_any_size_are_framed_right(size):
    assert list(frames_of(frame(2, b"x" * size))) == [(2, b"x" * size)]


def test_the_accept_key_is_that_of_the_rfc():
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3


# --- arithmetic ---


def results(figures):
    """``{(work, client): [figure of each round]}``."""
    return Results(
        [
            Run(work, client, number, {"us": value})
            for (work, client), values in figures.items()
            for number, value in enumerate(values)
            if value is not None
        ]
    )


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    found = results({("w", "a"): [1.0, 4.0, 9.0], ("w", "b"): [2.0, 4.0, 3.0]})
    assert found.value("w", "a", "us") == 4.0
    assert found.ratio("w", "us", "a", "b") == 1.0  # of 0.5, 1 and 3; the ratio of the medians would be 1.33


def test_rounds_that_one_of_two_lacks_are_left_out_of_a_ratio():
    found = results({("w", "a"): [1.0, 4.0, None], ("w", "b"): [2.0, None, 3.0]})
    assert found.ratio("w", "us", "a", "b") == 0.5
    assert found.ratio("w", "us", "a", "c") is None


def test_noise_is_the_widest_distance_relative_to_the_median():
    assert spread([10.0, 9.0, 12.0]) == pytest.approx(0.3)
    assert spread([0.0, 0.0]) == 0.0


def test_quantiles_are_values_that_were_measured():
    values = [float(number) for number in range(10, 0, -1)]
    assert quantile(values, 0.5) == 6.0
    assert quantile(values, 0.9) == quantile(values, 1.0) == 10.0


def test_a_table_stands_straight():
    lines = table(["client", "µs"], [["a", "1.0"], ["longer name", "10.0"]]).splitlines()
    assert lines == [
        "| client      |   µs |",
        "|-------------|-----:|",
        "| a           |  1.0 |",
        "| longer name | 10.0 |",
    ]


def test_a_goal_is_met_at_its_bound_and_not_above():
    for mine, verdict in ((8.5, "met"), (8.6, "**not met**")):
        found = results({("burst-raw", "trioshard"): [mine], ("burst-raw", "bare"): [10.0]})
        line = next(line for line in goal_table(found).splitlines() if "trioshard to bare" in line)
        assert [cell.strip() for cell in line.split("|")][3:5] == [f"{mine / 10:.2f} ×", verdict]  # noqa: RUF001


def test_without_figures_no_goal_is_met_or_missed():
    assert {goal.judge(Results([])).met for goal in GOALS} == {None}


def test_the_work_table_shows_ratios_and_notes():
    work = next(each for each in make_works(QUICK) if each.name == "burst-raw")
    found = results({("burst-raw", "trioshard"): [5.0], ("burst-raw", "bare"): [10.0]})
    found.runs[0].notes.append("something odd")
    text = work_table(found, work)
    row = next(line for line in text.splitlines() if line.startswith("| trioshard "))
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["trioshard", "5.0", "–", "0%", "0.50"]  # noqa: RUF001
    assert text.endswith("- trioshard: something odd")


def test_every_goal_is_about_something_that_is_measured():
    names = {work.name for work in make_works(FULL)}
    units = {"stream": "us", "idle": "rss", "send": "median_us", "recovery": "median_ms"}
    everything = Results(
        [
            Run(work.name, client, 0, {units[work.kind]: 1.0, "cpu_ms": 1.0})
            for work in make_works(FULL)
            for client in work.clients
        ]
    )
    assert all(goal.judge(everything).met is not None for goal in GOALS)
    assert len(names) == len(make_works(FULL))


def test_a_missing_library_is_a_sentence():
    absent = Contestant(
        name="absent",
        module="",
        needs={"no_such_module_at_all": "no-such-package", "no_such.module": "another"},
        shown=("no-such-package",),
        zstd_needs={},
        settings="",
    )
    assert absent.missing(None) == "no-such-package and another not installed: pip install 'trioshard[bench]'"
    assert absent.versions() == {}
    assert CONTESTANTS["trioshard"].missing("zstd-stream") is None


def test_what_is_written_in_c_counts_for_the_layer_that_calls_it():
    reader = ("/x/trioshard/_reader.py", 1, "read")
    inflate = ("/x/trioshard/protocol/compression.py", 1, "feed")
    stats = {
        reader: (1, 1, 2.0, 9.0, {}),
        inflate: (1, 1, 1.0, 4.0, {reader: (1, 1, 1.0, 4.0)}),
        ("~", 0, "<method 'decompress' of 'zlib.Decompress' objects>"): (1, 1, 3.0, 3.0, {inflate: (1, 1, 3.0, 3.0)}),
        ("~", 0, "<method 'poll' of 'select.epoll' objects>"): (1, 1, 50.0, 50.0, {reader: (1, 1, 50.0, 50.0)}),
    }
    assert time_by_layer(stats) == {"reader": 2.0, "inflate": 4.0}
    assert layer_of("/usr/lib/python3/json/decoder.py") == "other"
