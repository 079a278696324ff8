"""Each example plays its story on the local gateway to the end, and says what a reader is told that it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))

BOT_LINES = {
    "ping": [
        "answered '!ping' of member00000",
        "answered '!ping again' of member00000",
    ],
    "status_rotator": [
        "'the reconnects' on connection 1",
        "'by the rules' on connection 1",
        "'heartbeats' on connection 2",
        "'one of five in twenty seconds' on connection 2",
        "'the reconnects' on connection 3",
    ],
    "members": [
        "chunk 1 of 3, 1000 members",
        "chunk 2 of 3, 1000 members",
        "chunk 3 of 3, 501 members",
        "Example guild has 2501 members, from testbot to member02499",
    ],
    "voice_follower": [
        "went to channel 1001, on connection 1",
        "went to channel 1002, on connection 2",
        "went to channel 1003, on connection 2",
        "left voice, on connection 2",
    ],
}
LAST_LINES = {
    "ping": "2 connections, 0 commands, 0 violations",
    "status_rotator": "3 connections, 5 commands, 0 violations",
    "members": "2 connections, 1 commands, 0 violations",
    "voice_follower": "2 connections, 4 commands, 0 violations",
}


@pytest.fixture(scope="module")
def local_runs() -> Generator[dict[str, subprocess.Popen[str]], None, None]:
    """All examples, started at once: most of their time they wait."""
    runs = {name: _start(name, "--local") for name in NAMES}
    yield runs
    for run in runs.values():
        run.kill()
        run.communicate()


def _start(name: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("DISCORD_TOKEN", "FOLLOW_USER")}
    environment = kept | {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"} | variables
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_every_example_is_expected_here() -> None:
    assert set(BOT_LINES) == set(LAST_LINES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_plays_its_story(name: str, local_runs: dict[str, subprocess.Popen[str]]) -> None:
    output, errors = local_runs[name].communicate(timeout=60)
    assert errors == ""
    assert local_runs[name].returncode == 0
    lines = [line.partition(" | ") for line in output.splitlines()]
    said = [text for who, _, text in lines if who.strip() == "bot"]
    assert [line.partition(", after waiting")[0] for line in said] == BOT_LINES[name]
    assert lines[-1][2] == LAST_LINES[name]


@pytest.mark.parametrize(
    ("name", "variables", "missing"),
    [
        *((name, {}, "DISCORD_TOKEN") for name in NAMES),
        ("voice_follower", {"DISCORD_TOKEN": "x"}, "FOLLOW_USER"),
    ],
)
def test_says_what_it_needs(name: str, variables: dict[str, str], missing: str) -> None:
    process = _start(name, **variables)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == ""
    assert f"error: set {missing} to" in errors
    assert "--local" in errors
