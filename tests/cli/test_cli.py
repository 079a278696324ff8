"""The command line as people call it."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys

import pytest
import trio

import trioshard
from trioshard import cli
from trioshard._demo import demo
from trioshard._demo.weather import Weather
from trioshard.testing import CloseOnIdentify


def test_version_and_module():
    done = subprocess.run(
        [sys.executable, "-m", "trioshard", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"trioshard {trioshard.__version__}\n"


def test_without_a_command_it_explains_itself(capsys):
    assert cli.main([]) == 2
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["--help"], ["demo", "--help"], ["soak", "--help"], ["gateway", "--help"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(command)
    assert capsys.readouterr().out.startswith("usage: trioshard")


@pytest.mark.parametrize(
    "command",
    [
        ["dance"],
        ["demo", "--seconds", "0"],
        ["demo", "--seconds", "inf"],
        ["demo", "--seconds", "soon"],
        ["demo", "--senders", "0"],
        ["demo", "--seed", "x"],
        ["demo", "more"],
        ["gateway", "--port", "65536"],
        ["gateway", "--guilds", "0"],
        ["gateway", "--heartbeat-interval", "-1"],
        ["gateway", "--messages-per-second", "-1"],
        ["gateway", "--churn", "hard"],
    ],
)
def test_bad_arguments_are_one_line_and_status_2(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(command)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trioshard")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "/no/such/cert.pem"], "/no/such/cert.pem: No such file or directory"),
    ],
)
def test_a_gateway_that_cannot_be_opened_is_one_line_and_status_2(command, reason, capsys):
    assert cli.main(["gateway", *command]) == 2
    assert capsys.readouterr().err == f"trioshard gateway: {reason}\n"


def test_a_gateway_that_was_stopped_is_status_0(monkeypatch):
    async def serve(options, out):
        assert options.port == 0
        assert options.churn == 0

    monkeypatch.setattr("trioshard._demo.gateway.serve", serve)
    assert cli.main(["gateway", "--churn"]) == 0


def test_ctrl_c_before_anything_has_begun_is_status_130(monkeypatch):
    async def run_demo(options, show):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert cli.main(["demo", "--json"]) == 130


def test_a_port_in_use_is_one_line_and_status_2(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert cli.main(["gateway", "--port", str(port)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"trioshard gateway: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_demo_as_json(capsys):
    status = cli.main(["demo", "--seconds", "3", "--seed", "1", "--senders", "4", "--json"])
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert captured.err == ""
    assert status == 0, data
    assert data["seed"] == 1
    assert data["seconds"] >= 3.0
    assert data["refused"] == {}
    assert data["connections"] >= 3
    assert data["resumes"] >= 1
    assert data["identifies"] == 1
    assert data["commands"]["written"] >= 20
    assert data["commands"]["pending"] == data["commands"]["withdrawn_but_arrived"] == 0
    assert data["dispatches"]["lost"] == data["dispatches"]["repeated"] == 0
    assert data["dispatches"]["received"] == data["dispatches"]["sent"] >= 100
    assert data["ready_ms"]["worst"] >= data["ready_ms"]["median"] > 0


def test_a_demo_for_people(capsys, monkeypatch):
    monkeypatch.setattr(demo, "LINE_EVERY", 0.2)
    assert cli.main(["demo", "--seconds", "0.5", "--seed", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trioshard demo: 0.5 s, seed 2, 8 senders"
    assert lines[1].endswith("refused")
    assert lines[-1] == "No complaints."


def test_a_demo_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["demo", "--seconds", "0.5"]) == 0
    assert "\x1b[8F" in terminal.getvalue()
    assert terminal.getvalue().endswith("No complaints.\n")


def test_ctrl_c_ends_a_demo_with_a_summary_and_status_130(monkeypatch, capsys):
    async def interrupt(stream, view):
        while view().connections < 2:
            await trio.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(demo, "show_lines", interrupt)
    assert cli.main(["demo", "--seconds", "60", "--seed", "3"]) == 130
    assert capsys.readouterr().out.endswith("Interrupted; no complaints so far.\n")


async def test_a_second_ctrl_c_does_not_wait(monkeypatch):
    async def wait_for_ever(self, number):
        await trio.sleep_forever()

    async def interrupt(view):
        # Not in a rush: one more while nobody obeys any more would be a plain KeyboardInterrupt.
        while True:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(0.4)

    monkeypatch.setattr(demo.Listener, "wait_received", wait_for_ever)
    with trio.fail_after(10):
        summary = await demo.run_demo(demo.Options(seconds=60.0, seed=4), interrupt)
    assert summary.interrupted
    assert not summary.settled
    assert summary.exit_status == 130


async def test_a_shard_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(demo, "heavy_weather", lambda seed: Weather(lambda number: [CloseOnIdentify(4004)]))
    with trio.fail_after(10):
        summary = await demo.run_demo(demo.Options(seconds=60.0))
    assert summary.exit_status == 1
    assert "4004" in summary.failure


def test_a_reader_that_leaves_is_no_reason_for_a_traceback():
    command = [sys.executable, "-m", "trioshard", "demo", "--seconds", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(timeout=30) == 1
