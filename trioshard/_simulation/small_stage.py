"""Where a small world is played: the real shard, and a gateway of a few lines that watches every byte.

Everything between the user's call and the transport is the product's own: `Shard`, `Connection`, `Reader`,
`Heartbeater`, `Sender`, `Wire`, `Machine`, `CommandQueue`, the limits. Only the WebSocket is replaced, by `Peer`. A
write takes as many turns there as on trio-websocket over a Trio stream: one in line for the library's lock, which
cannot be called back once it is over, then the bytes, all at once or in two halves with a turn between them in which it
can be called back, and one turn at the end in which it cannot. Or it breaks in the middle, stands still there, or
lingers for some turns after its last byte.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from trioshard import _connection
from trioshard._config import ShardConfig, Token
from trioshard._shard import Shard
from trioshard.errors import ConnectionLost, ShardClosed
from trioshard.protocol.commands import encode_command
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.pacing import Backoff, Lane
from trioshard.protocol.phases import HANDSHAKES, USER_COMMANDS, Phase

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from trioshard._queue import Receipt
    from trioshard._simulation.exhaustive import Choices
    from trioshard._transport import Transport
    from trioshard.errors import ConnectionClosed
    from trioshard.protocol.commands import Command
    from trioshard.protocol.machine import Machine

    Script = Callable[["Peer"], Awaitable[None]]

__all__ = ["BREAKS", "HALVES", "LINGERS", "STALLS", "WHOLE", "Broken", "Peer", "Script", "Stage", "must"]

WHOLE: Final = "all at once"
HALVES: Final = "in two halves"
LINGERS: Final = "and lingers"
BREAKS: Final = "and breaks"
STALLS: Final = "and stands still"

_FAULTS: Final = (BREAKS, STALLS)
_LINGERING: Final = 4
"""Turns."""

_ENDS: Final = (Opcode.RECONNECT, Opcode.INVALID_SESSION)


class Broken(AssertionError):
    """A rule was broken."""


class _NoChance(Random):
    """Chance that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self._value = value

    def random(self) -> float:
        return self._value

    def uniform(self, a: float, b: float) -> float:
        return a


class Stage:
    """One run of a small world.

    Args:
        choices: what decides.
        scripts: what the gateway does on each connection; the last one also on all that follow.
        writes: how the write of a command may go; only one in all breaks or stands still.
        handshakes: how the write of Identify or Resume may go.
        interval: seconds between heartbeats.
        first_beat: when the first beat of each connection is due, in seconds after Hello.
        write_timeout: as for `trioshard.open_shard`.
        capacity: how many commands may wait.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        scripts: tuple[Script, ...],
        writes: tuple[str, ...] = (WHOLE,),
        handshakes: tuple[str, ...] = (WHOLE,),
        interval: float = 40.0,
        first_beat: float = 40.0,
        write_timeout: float = 10.0,
        capacity: int = 10,
    ) -> None:
        self.choices = choices
        self.interval = interval
        self.first_beat = first_beat
        self.begun = trio.Event()
        """The part of the story that is explored has begun."""
        self.answers: dict[str, list[str]] = {}
        """What each caller was told, in order."""
        self.receipts: dict[str, Receipt] = {}
        self.scopes: dict[str, trio.CancelScope] = {}
        """How to cancel a caller; also by what it sends."""
        self.writing: dict[str, trio.Event] = {}
        self.peers: list[Peer] = []
        self.crossed = 0
        """Commands that left although the end had been read: the known limit."""
        self.connections: list[Any] = []
        self._scripts = scripts
        self._writes = {
            **dict.fromkeys(USER_COMMANDS, writes),
            **dict.fromkeys(HANDSHAKES, handshakes),
            Opcode.HEARTBEAT: (WHOLE,),
        }
        self._faults = 1
        self._servers: trio.Nursery | None = None
        self.shard = Shard(
            ShardConfig(
                token=Token("token"),
                intents=0,
                url="ws://gateway",
                compress=None,
                events=False,
                write_timeout=write_timeout,
                queue_capacity=capacity,
                backoff=Backoff(base=0.5, cap=2.0),
                random=_NoChance(first_beat / interval),
                wall_clock=trio.current_time,
            )
        )

    @contextmanager
    def connected(self, servers: trio.Nursery) -> Generator[None]:
        """While this lasts, the shard's connections lead here. The gateway's tasks run in ``servers``."""
        self._servers = servers
        product: Any = _connection
        before = product.open_transport
        product.open_transport = self._open_transport
        try:
            yield
        finally:
            product.open_transport = before

    @asynccontextmanager
    async def _open_transport(self, url: str, **_: object) -> AsyncGenerator[Transport]:
        assert self._servers is not None
        await trio.lowlevel.checkpoint()
        shard: Any = self.shard
        self.connections.append(shard._connection)
        number = len(self.peers)
        peer = Peer(self, number + 1, shard._connection.machine)
        self.peers.append(peer)
        script = self._scripts[min(number, len(self._scripts) - 1)]
        self._servers.start_soon(peer.serve, script, name=f"gateway {number + 1}")
        try:
            yield peer
        finally:
            peer.hang_up()

    # --- for those who act ---

    async def send(self, caller: str, command: Command) -> None:
        """Send, and note the one way in which it ended."""
        answers = self.answers.setdefault(caller, [])
        with trio.CancelScope() as scope:
            self.scopes[caller] = self.scopes[label_of(command)] = scope
            try:
                receipt = await self.shard.send(command)
            except ShardClosed:
                answers.append("closed")
            else:
                answers.append("superseded" if receipt.superseded else "receipt")
                self.receipts[label_of(command)] = receipt
        if scope.cancelled_caught:
            answers.append("cancelled")
        self.tell(f"{caller} is told: {answers[-1]}")

    def is_cancelled(self, label: str) -> bool:
        """Return whether the caller of a command has been cancelled."""
        return label in self.scopes and self.scopes[label].cancel_called

    async def sometime(self, turns: int) -> None:
        """Let some turns pass: none, or any number up to ``turns``."""
        for _ in range(turns):
            if self.choices.choose("now, or later", 2) == 0:
                return
            await trio.lowlevel.checkpoint()

    async def wait_writing(self, label: str) -> None:
        """Wait until the write of a command has begun."""
        await self.writing.setdefault(label, trio.Event()).wait()

    def how_to_write(self, opcode: Opcode) -> str:
        """Choose how a write goes."""
        ways = [way for way in self._writes[opcode] if self._faults or way not in _FAULTS]
        way = ways[self.choices.choose("how it is written", len(ways))] if len(ways) > 1 else ways[0]
        if way in _FAULTS:
            self._faults -= 1
        return way

    def tell(self, what: str) -> None:
        """Add to the story."""
        self.choices.tell(what)

    # --- what must hold ---

    def judge(self) -> None:
        """Compare what left with what the callers were told, when everything is over."""
        counts = self.shard.statistics().commands
        settled = counts.written + counts.superseded + counts.withdrawn + counts.failed
        must(counts.pending == 0 and settled == counts.accepted, f"the books do not balance: {counts}")
        left = [label for peer in self.peers for label in peer.left]
        told = [answer for answers in self.answers.values() for answer in answers]
        must(len(self.receipts) == told.count("receipt") + told.count("superseded"), "two receipts for one command")
        for label, receipt in self.receipts.items():
            times = left.count(label)
            must(times == (0 if receipt.superseded else 1), f"{label} has its receipt, and left {times} times")
        must(len(set(left)) == len(left), f"a command left twice: {left}")
        must(counts.written == len(left), f"{counts.written} commands count as written, and {len(left)} left")
        self._judge_permits()

    def _judge_permits(self) -> None:
        # Asked about a time at which everything that was ever written is long past.
        later = trio.current_time() + 1000.0
        shard: Any = self.shard
        must(
            all(log.used(later) == 0 for log in shard._limits._logs.values()), "a permit of the bot was not given back"
        )
        for budget in (connection.budget for connection in self.connections):
            if budget is not None:
                must(budget.left(later) == budget.limit(Lane.USER), "a permit of a connection was not given back")


class Peer:
    """The gateway's end of one connection, and the transport that leads to it.

    Args:
        stage: the world.
        number: of the connection, from 1.
        machine: the shard's, to see in which phase a byte leaves.
    """

    def __init__(self, stage: Stage, number: int, machine: Machine) -> None:
        self.stage = stage
        self.number = number
        self.left: list[str] = []
        """The commands that left whole."""
        self.beats: list[float] = []
        """When heartbeats left."""
        self.opened: float | None = None
        """When READY or RESUMED was said."""
        self.cut = False
        """Whether half a frame is the last thing that left."""
        self._machine = machine
        self._send_inbox, self._inbox = trio.open_memory_channel[str](20)
        self._line = trio.StrictFIFOLock()
        self._shaken = trio.Event()
        self._handshake: Opcode | None = None
        self._end_read: float | None = None
        self._over = False
        self._excused: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()

    # --- the gateway ---

    async def serve(self, script: Script) -> None:
        """Follow a script until the connection is over."""
        with self._scope:
            await script(self)

    def say(self, opcode: Opcode, data: object = None, name: str | None = None, sequence: int | None = None) -> None:
        """Send a payload to the shard."""
        if name in ("READY", "RESUMED"):
            self.opened = trio.current_time()
        self._tell(f"the gateway says {name or f'op {int(opcode)}'}")
        if self._over:
            return
        self._send_inbox.send_nowait(json.dumps({"op": opcode, "d": data, "t": name, "s": sequence}))

    async def admit(self) -> None:
        """Say Hello, wait for the handshake, say READY or RESUMED."""
        self.say(Opcode.HELLO, {"heartbeat_interval": self.stage.interval * 1000})
        await self._shaken.wait()
        if self._handshake is Opcode.IDENTIFY:
            self.say(Opcode.DISPATCH, {"session_id": "s", "resume_gateway_url": "ws://resume"}, "READY", 1)
        else:
            self.say(Opcode.DISPATCH, None, "RESUMED", 2)

    def hang_up(self) -> None:
        """End the connection. What was said before can still be read."""
        if not self._over:
            self._over = True
            late = 0.0 if self._end_read is None else trio.current_time() - self._end_read
            must(late <= 0.0, f"the end was read, and the connection ended {late:g} s later")
            self._scope.cancel()
            self._send_inbox.close()

    # --- the transport ---

    is_resting = True

    async def receive_batch(self) -> list[bytes | str]:
        try:
            message = await self._inbox.receive()
        except trio.EndOfChannel:
            raise ConnectionLost("the connection ended without a close frame") from None
        opcode = Opcode(json.loads(message)["op"])
        if opcode in _ENDS:
            self._tell(f"the reader has op {int(opcode)} in hand")
            self._end_read = trio.current_time()
            # Who has just got the library's lock cannot be called back before its first byte.
            self._excused = self._line.statistics().owner
        return [message]

    async def send(self, document: bytes) -> None:
        payload = json.loads(document)
        opcode = Opcode(payload["op"])
        label = _label(opcode, payload["d"])
        self._tell(f"a write begins: {label}")
        must(not self.stage.is_cancelled(label), f"the write of {label} begins after its caller was cancelled")
        self.stage.writing.setdefault(label, trio.Event()).set()
        async with self._line:
            way = self.stage.how_to_write(opcode)
            self._first_byte(opcode, label)
            if way in (HALVES, *_FAULTS):
                await self._half(label, way)
            self._last_byte(opcode, label)
            for _ in range(_LINGERING if way == LINGERS else 1):
                await trio.lowlevel.cancel_shielded_checkpoint()

    def _first_byte(self, opcode: Opcode, label: str) -> None:
        must(not self.cut, f"{label} follows a frame that was cut")
        phase = self._machine.phase
        if opcode in USER_COMMANDS:
            must(phase is Phase.READY, f"{label} leaves while {phase.value}")
        elif opcode in HANDSHAKES:
            must(self._handshake is None, f"a second handshake on one connection: {label}")
            must(phase in (Phase.IDENTIFYING, Phase.RESUMING), f"{label} leaves while {phase.value}")
            self._handshake = opcode
        else:
            must(phase not in (Phase.CONNECTING, Phase.AWAITING_HELLO), f"{label} leaves while {phase.value}")
        if self._end_read is not None:
            must(trio.lowlevel.current_task() is self._excused, f"{label} begins to leave after the end was read")
            self.stage.crossed += 1

    async def _half(self, label: str, way: str) -> None:
        self.cut = True
        self._tell(f"half of it has left: {label}")
        if way == BREAKS:
            self._tell("the line breaks")
            self.hang_up()
            raise ConnectionLost("the connection broke during the write")
        if way == STALLS:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.cut = False

    def _last_byte(self, opcode: Opcode, label: str) -> None:
        self._tell(f"it has left whole: {label}")
        if opcode in USER_COMMANDS:
            must(self.opened is not None, f"closed with 4003: {label} came before READY or RESUMED")
            self.left.append(label)
        elif opcode in HANDSHAKES:
            self._shaken.set()
        else:
            self.beats.append(trio.current_time())
            self.say(Opcode.HEARTBEAT_ACK)

    def close_seen(self) -> ConnectionClosed | None:
        return None

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        self._tell(f"the shard says goodbye ({code})")
        await trio.lowlevel.checkpoint()

    def _tell(self, what: str) -> None:
        self.stage.tell(f"[{self.number}] {what}")


def must(holds: bool, otherwise: str) -> None:
    """Raise `Broken` if a rule does not hold."""
    if not holds:
        raise Broken(otherwise)


def label_of(command: Command) -> str:
    """Name a command after what tells it apart from others."""
    return _label(command.opcode, json.loads(encode_command(command))["d"])


def _label(opcode: Opcode, data: Any) -> str:
    if opcode is Opcode.VOICE_STATE_UPDATE:
        return f"voice state {data['guild_id']}"
    if opcode is Opcode.PRESENCE_UPDATE:
        return f"presence {data['status']}"
    return opcode.name.lower()
