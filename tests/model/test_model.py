"""The formal model holds, fails where it must, and speaks of the same phases as the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import RECEIVE, SEND, USER_COMMANDS, Inbound, Phase

DIRECTORY = Path(__file__).parent.parent.parent / "docs" / "model"
MODEL = (DIRECTORY / "trioshard.pml").read_text(encoding="utf-8")

needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="the model checker needs spin and gcc (Debian: apt-get install spin gcc)",
)


def table(name: str) -> set[tuple[str, str, str]]:
    """Return the rows ``(phase, kind, next phase)`` of a table in the model."""
    start = MODEL.index(f"inline {name}(now, kind, next)")
    body = MODEL[start : MODEL.index("\n}\n", start)]
    rows = re.findall(r":: now == (\w+) +&& kind == (\w+) +-> next = (\w+)", body)
    assert len(rows) == len(set(rows)) == body.count("::") - 1
    return set(rows)


def test_the_model_has_the_phases_of_the_code() -> None:
    declared = re.search(r"mtype:phase = \{(.*?)\};", MODEL)
    assert declared is not None
    assert declared[1].replace(" ", "").split(",") == [phase.name for phase in Phase]


def test_the_model_sends_what_the_code_sends() -> None:
    def kind(opcode: Opcode) -> str:
        return "COMMAND" if opcode in USER_COMMANDS else opcode.name

    assert table("SEND") == {(phase.name, kind(opcode), after.name) for (phase, opcode), after in SEND.items()}
    for command in USER_COMMANDS:
        assert {phase for phase, opcode in SEND if opcode is command} == {Phase.READY}


def test_the_model_moves_as_the_code_moves() -> None:
    moving = {(phase, kind, after) for (phase, kind), after in RECEIVE.items() if after is not phase}
    assert table("RECEIVE") == {(phase.name, f"IN_{kind.name}", after.name) for phase, kind, after in moving}
    assert {kind for _, kind, _ in moving} <= set(Inbound)


def run_checker(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DIRECTORY / "check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@needs_spin
def test_the_stories_in_the_readme_are_the_counterexamples() -> None:
    done = run_checker("--stories")
    assert done.returncode == 0, done.stdout + done.stderr
    readme = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    told = [text for language, text in blocks if not language]
    stories = re.findall(r"FAILS AS IT MUST\n\n(.*?)\n\n", done.stdout, re.DOTALL)
    assert [re.sub(r"^ +", "", story, flags=re.MULTILINE) + "\n" for story in stories] == told


@needs_spin
def test_every_claim_holds_and_every_broken_design_fails() -> None:
    done = run_checker()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert done.stdout.count("FAILS AS IT MUST") >= 10
