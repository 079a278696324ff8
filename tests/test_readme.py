"""The README is true: its code runs as printed, its links lead somewhere, its commands and tables name what exists."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trioshard
from trioshard import errors, events
from trioshard.testing import LocalGateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
BOT, SENDING, RECEIVING, SESSION, TEST = BLOCKS


@pytest.fixture
def local_open_shard(local_gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_shard` leads to the local gateway. Nothing else about the printed code is changed."""
    directed = partial(trioshard.open_shard, url=local_gateway.url, dial=local_gateway.dial)
    monkeypatch.setattr(trioshard, "open_shard", directed)


def run_top_level(block: str, names: dict[str, Any]) -> Awaitable[None]:
    """Run a block that awaits without a function around it."""
    code = compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    coroutine = eval(code, names)
    assert inspect.iscoroutine(coroutine)
    return coroutine


async def test_the_bot_at_the_top(
    local_gateway: LocalGateway,
    local_open_shard: None,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs: list[Callable[[], Awaitable[None]]] = []
    monkeypatch.setenv("DISCORD_TOKEN", "any-token")
    with monkeypatch.context() as patch:
        # This test runs in Trio already: it takes the program to where the other tasks are.
        patch.setattr(trio, "run", programs.append)
        exec(compile(BOT, "README.md", "exec"), {"__name__": "__main__"})
    (main,) = programs
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main)
        await local_gateway.wait_command()
        local_gateway.connections[0].reconnect()
        local_gateway.send_message("hello")
        await local_gateway.wait_resumed()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == "member00000 wrote hello\n"
    assert local_gateway.report.commands[0].data["activities"][0]["name"] == "the reconnects"
    assert not local_gateway.report.violations


async def test_sending(
    local_gateway: LocalGateway, local_open_shard: None, autojump_clock: object, capsys: pytest.CaptureFixture[str]
) -> None:
    guild_id = local_gateway.guilds[0].id
    async with trioshard.open_shard("any-token", intents=trioshard.Intents.GUILDS, events=False) as shard:
        names = {"shard": shard, "trio": trio, "trioshard": trioshard, "Activity": trioshard.Activity}
        await run_top_level(SENDING, names | {"guild_id": guild_id, "channel_id": guild_id + 2})
        await local_gateway.wait_command(7)
    assert [arrival.op for arrival in local_gateway.report.commands] == [3, 4, 8, 31, 43, 4, 3]
    assert "waited 0.000 s" in capsys.readouterr().out
    assert not local_gateway.report.violations


async def test_receiving(local_gateway: LocalGateway, local_open_shard: None, autojump_clock: object) -> None:
    names: dict[str, Any] = {"events": events}
    async with trio.open_nursery() as nursery:
        opening = trioshard.open_shard("any-token", intents=trioshard.Intents.GUILD_MESSAGES)
        async with opening as names["shard"]:
            nursery.start_soon(run_top_level, RECEIVING, names)
            await local_gateway.wait_ready()
            local_gateway.send_message("hello")
            await trio.testing.wait_all_tasks_blocked()
            assert isinstance(names["event"], events.MessageCreate)
        # The shard is over, and both loops end by themselves.


async def test_a_session_is_carried_over(
    local_gateway: LocalGateway, local_open_shard: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the file of the example is a relative one; threads write it, so time is real
    seen: list[str] = []

    async def serve(shard: trioshard.Shard) -> None:
        with shard.subscribe() as dispatches:
            async for dispatch in dispatches:
                seen.append(dispatch.name)
                if dispatch.name in ("GUILD_CREATE", "RESUMED"):
                    return

    names: dict[str, Any] = {"trioshard": trioshard, "Intents": trioshard.Intents, "serve": serve}
    exec(compile(SESSION, "README.md", "exec"), names)
    await names["run_bot"]("any-token")
    local_gateway.send_message("while the bot was away")
    await names["run_bot"]("any-token")
    assert (tmp_path / "bot.db").exists()
    assert seen == ["READY", "GUILD_CREATE", "MESSAGE_CREATE", "RESUMED"]
    assert local_gateway.report.resumes == local_gateway.report.identifies == 1
    assert not local_gateway.report.violations


def test_the_test_of_a_bot(tmp_path: Path) -> None:
    (tmp_path / "test_bot.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "--rootdir", ".", "."]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert "examples/ping.py" in targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_every_example_is_listed() -> None:
    files = {f"examples/{path.name}" for path in (ROOT / "examples").glob("[!_]*.py")}
    assert files == set(re.findall(r"\((examples/\w+\.py)\)", README))


def test_every_error_that_leaves_is_listed() -> None:
    inside = {"TrioshardError", "TransportError", "ConnectFailed", "ConnectionLost", "ConnectionClosed"}
    listed = set(re.findall(r"`(\w+)`", README.partition("## Errors")[2].partition("## ")[0]))
    assert set(errors.__all__) - inside - {"GatewayProtocolError"} <= listed


def test_every_typed_event_is_listed() -> None:
    receiving = README.partition("## Receiving")[2].partition("## ")[0]
    kinds = [getattr(events, name) for name in events.__all__]
    names = {kind.NAME for kind in kinds if kind is not events.Dispatch and kind.NAME}
    assert names == set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bREADY\b|\bRESUMED\b", receiving)) - {"TYPING_START"}


def test_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = README.partition("## Requirements")[2]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in section
    for requirement in project["dependencies"]:
        assert re.split(r"[><=~;\[ ]", requirement)[0] in section
