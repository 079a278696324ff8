"""Runs clients against the gateway: one process each, ended whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from benchmarks.contestants import BARE
from benchmarks.recording import GREETINGS
from benchmarks.world import GUILD_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contestants import Contestant
    from benchmarks.play import Play
    from benchmarks.works import Work

__all__ = ["Arena", "ClientFailed", "ClientProcess", "open_arena", "wait_all_ready"]

ROOT: Final = Path(__file__).parent.parent
HOST: Final = "127.0.0.1"
_TAIL: Final = 1_500
"""Characters of a failed client's stderr that are shown."""


class ClientFailed(Exception):
    """A client crashed or hung. The text says which, and ends with what it wrote on stderr."""


class ClientProcess:
    """A client that runs."""

    def __init__(
        self, arena: Arena, name: str, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]
    ) -> None:
        self._arena = arena
        self._name = name
        self._process = process
        self._out = out
        self._err = err

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        return self._process.poll() is not None

    def look(self) -> dict[str, Any]:
        """Return what the gateway has seen of it so far."""
        return self._arena.ask(do="look", run=self._name)

    def wait(self, timeout: float) -> dict[str, Any]:
        """Wait for the figures that the client tells.

        Raises:
            ClientFailed: there are none.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"it did not end within {timeout:.0f} s. {self._complaint()}") from None
        lines = self._read(self._out).splitlines()
        if not lines:
            raise ClientFailed(f"it ended with status {status} and no figures. {self._complaint()}")
        figures: dict[str, Any] = json.loads(lines[-1])
        return figures

    def complain_if_ended(self) -> None:
        """Raise `ClientFailed` if the process is over, which it should not be."""
        if self.has_ended:
            raise ClientFailed(f"it ended with status {self._process.returncode}. {self._complaint()}")

    def stop(self) -> dict[str, Any]:
        """End it, if it has not ended, and return what the gateway has seen of it."""
        if not self.has_ended:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._err.close()
        return self._arena.ask(do="close", run=self._name)

    def _complaint(self) -> str:
        tail = self._read(self._err)[-_TAIL:].strip()
        return f"On stderr:\n{tail}" if tail else "Nothing on stderr."

    def _read(self, file: IO[bytes]) -> str:
        file.seek(0)
        return file.read().decode(errors="replace")


class Arena:
    """The gateway, and how clients are sent there."""

    def __init__(self, stack: ExitStack, gateway: subprocess.Popen[str], ca: str | None) -> None:
        self._stack = stack
        self._gateway = gateway
        self._ca = ca
        self._runs = 0
        ports = self._hear()
        self._port, self._tls_port = ports["port"], ports["tls_port"]

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give the gateway an order, and return its answer."""
        assert self._gateway.stdin is not None
        self._gateway.stdin.write(json.dumps(order) + "\n")
        self._gateway.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._gateway.stdout is not None
        line = self._gateway.stdout.readline()
        if not line:
            raise RuntimeError("the gateway process has ended")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def record(self, work: Work) -> dict[str, Any]:
        """Let the gateway encode what the work needs, unless it has; return the sizes of what there is."""
        return self.ask(do="record", compression=work.compress, events=work.play.warmup + work.play.events)

    def marks(self, work: Work, mode: str) -> dict[str, int]:
        """Return between which calls of all hooks together to measure, and how many events that are."""
        play = work.play
        if mode == "raw":
            hooks = play.connections * work.subscribers
            start = (GREETINGS + play.warmup) * hooks
            return {"start": start, "stop": start + play.events * hooks, "events": play.events * play.connections}
        return self.ask(do="mark", compression=work.compress, warmup=play.warmup, events=play.events)

    def command(self, contestant: Contestant, work: Work, play: Play) -> tuple[str, list[str]]:
        """Open a run at the gateway; return its name, and the arguments of the client's program."""
        self._runs += 1
        name = f"run{self._runs}"
        port, scheme = (self._tls_port, "wss") if work.tls else (self._port, "ws")
        url = f"{scheme}://{HOST}:{port}/{name}/"
        self.ask(do="open", run=name, url=url, play=asdict(play))
        arguments = {
            "--mode": work.mode,
            "--url": url,
            "--api-url": f"http://{HOST}:{self._port}/{name}/api/v10",
            "--compress": work.compress,
            "--shards": work.shards,
            "--subscribers": work.subscribers,
            "--ca": self._ca if work.tls else None,
            "--window": work.window,
            "--sends": work.sends,
            "--guild-id": GUILD_ID,
        }
        if work.kind == "stream":
            # The bare loop has a dict for every event, and no types.
            mode = arguments["--mode"] = "raw" if contestant.name == BARE else work.mode
            marks = self.marks(work, mode)
            arguments |= {"--start": marks["start"], "--stop": marks["stop"]}
        given = [str(part) for pair in arguments.items() if pair[1] is not None for part in pair]
        return name, [*given, *contestant.arguments]

    def start(self, contestant: Contestant, work: Work, play: Play) -> ClientProcess:
        """Start a client."""
        name, arguments = self.command(contestant, work, play)
        # `ClientProcess.stop` closes them.
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", contestant.module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=ROOT,
            env=_environment(),
            process_group=0,  # Ctrl-C is for us; we end the others
        )
        client = ClientProcess(self, name, process, out, err)
        self._stack.callback(_end, process)
        return client


def _environment() -> dict[str, str]:
    # What speeds up or slows down a Python from outside is for nobody.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(ROOT)}


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


@contextmanager
def open_arena(*, tls: bool) -> Iterator[Arena]:
    """Start the gateway; when the block is left, end it and every client.

    Raises:
        ImportError: TLS is wanted, and trustme is not installed.
    """
    with ExitStack() as stack:
        arguments: list[str] = []
        ca: str | None = None
        if tls:
            import trustme  # an extra

            folder = stack.enter_context(tempfile.TemporaryDirectory())
            authority = trustme.CA()
            ca = f"{folder}/ca.pem"
            authority.cert_pem.write_to_path(ca)
            authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(f"{folder}/gateway.pem")
            arguments = ["--certificate", f"{folder}/gateway.pem"]
        gateway = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gateway", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=_environment(),
                process_group=0,
            )
        )
        stack.callback(_end, gateway)
        yield Arena(stack, gateway, ca)


def wait_all_ready(clients: list[tuple[ClientProcess, int]], seconds: float) -> None:
    """Wait until every client has identified on all its connections, has ended, or the time is over."""
    deadline = time.monotonic() + seconds
    waiting = list(clients)
    while waiting and time.monotonic() < deadline:
        time.sleep(0.2)
        waiting = [
            (client, shards)
            for client, shards in waiting
            if not client.has_ended and client.look()["identifies"] < shards
        ]
