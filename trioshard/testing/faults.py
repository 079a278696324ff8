"""What can go wrong, as data: small steps, and a :class:`Scenario` that says when each of them happens.

A script is a list of steps for one connection. They run in order: those before the first step that waits apply
before the connection is even accepted. Steps that *set* something (:class:`Setting`) change how the gateway
behaves from then on; steps that *do* something (:class:`Action`) act on the connection at that moment. A script
whose connection has gone ends quietly. ::

    Scenario(
        [
            [After("ready"), Sleep(2), Reconnect()],   # first connection: op 7 two seconds after READY
            [DelayHello(3), After("resumed"), Drop()],  # second
            [RefuseResume(resumable=False)],            # third: op 9 false to the Resume
        ],
    )                                                   # every later one: nothing goes wrong
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from random import Random
from typing import Any

import trio

from trioshard.testing import _payloads
from trioshard.testing._steps import Action, Conduct, Moment, Powers, Script, Setting

# Steps that wait.


@dataclass(frozen=True, slots=True)
class After(Action):
    """Wait for the `count`-th time of a moment, counted from the start of the connection."""

    moment: Moment
    count: int = 1

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        await connection.wait_for(self.moment, self.count)


@dataclass(frozen=True, slots=True)
class Sleep(Action):
    """Wait so many seconds."""

    seconds: float

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        await trio.sleep(self.seconds)


# Steps that do something.


@dataclass(frozen=True, slots=True)
class Publish(Action):
    """Dispatch an event to the connection's session, `count` times."""

    name: str
    data: object = field(default_factory=dict[str, object])
    count: int = 1

    async def perform(self, connection: Powers) -> None:
        """Publish."""
        for _ in range(self.count):
            connection.publish(self.name, self.data)


@dataclass(frozen=True, slots=True)
class BigMessage(Action):
    """Dispatch a MESSAGE_CREATE with so many bytes of content."""

    nbytes: int

    async def perform(self, connection: Powers) -> None:
        """Publish it."""
        data = _payloads.message(0, "x" * self.nbytes, channel_id=1, guild_id=None, author=None, now=0.0)
        connection.publish("MESSAGE_CREATE", data)


@dataclass(frozen=True, slots=True)
class Reconnect(Action):
    """Send Reconnect (op 7); some seconds later the gateway closes by itself."""

    async def perform(self, connection: Powers) -> None:
        """Send it."""
        connection.reconnect()


@dataclass(frozen=True, slots=True)
class InvalidateSession(Action):
    """Send Invalid Session (op 9); a session that is not resumable is forgotten."""

    resumable: bool = False

    async def perform(self, connection: Powers) -> None:
        """Send it."""
        connection.invalidate(self.resumable)


@dataclass(frozen=True, slots=True)
class Close(Action):
    """Close with this code. `end_session`: also forget the session (None: as the code says)."""

    code: int = 4000
    reason: str = ""
    end_session: bool | None = None

    async def perform(self, connection: Powers) -> None:
        """Close."""
        connection.close(self.code, self.reason, end_session=self.end_session)


@dataclass(frozen=True, slots=True)
class Drop(Action):
    """End the stream without a close frame (EOF)."""

    async def perform(self, connection: Powers) -> None:
        """Drop."""
        connection.drop()


@dataclass(frozen=True, slots=True)
class Reset(Action):
    """Break the stream: RST on TCP, an error on both sides in memory."""

    async def perform(self, connection: Powers) -> None:
        """Reset."""
        connection.reset()


@dataclass(frozen=True, slots=True)
class Stall(Action):
    """Neither read nor write for so many seconds; the script goes on after that."""

    seconds: float = math.inf

    async def perform(self, connection: Powers) -> None:
        """Stall, and wait it out."""
        connection.stall(self.seconds)
        await trio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class RequestHeartbeat(Action):
    """Ask for a heartbeat at once (op 1), `count` times."""

    count: int = 1

    async def perform(self, connection: Powers) -> None:
        """Ask."""
        for _ in range(self.count):
            connection.request_heartbeat()


@dataclass(frozen=True, slots=True)
class SendPayload(Action):
    """Send any payload, compressed like every other one, such as an opcode that nobody knows, or a second Hello."""

    payload: object

    async def perform(self, connection: Powers) -> None:
        """Send."""
        connection.send_payload(self.payload)


@dataclass(frozen=True, slots=True)
class SendText(Action):
    """Send a text message as it is: not compressed, not checked."""

    text: str

    async def perform(self, connection: Powers) -> None:
        """Send."""
        connection.send_text(self.text)


@dataclass(frozen=True, slots=True)
class SendBytes(Action):
    """Send a binary message as it is: not compressed, not checked."""

    data: bytes

    async def perform(self, connection: Powers) -> None:
        """Send."""
        connection.send_bytes(self.data)


@dataclass(frozen=True, slots=True)
class SendRaw(Action):
    """Send bytes under the WebSocket layer, such as half a frame."""

    data: bytes

    async def perform(self, connection: Powers) -> None:
        """Send."""
        connection.send_raw(self.data)


# Steps that set something.


@dataclass(frozen=True, slots=True)
class RejectUpgrade(Setting):
    """Answer the WebSocket handshake with this HTTP status. Has to stand before any step that waits."""

    http_status: int = 503

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.reject_status = self.http_status


@dataclass(frozen=True, slots=True)
class DelayHello(Setting):
    """Send Hello so many seconds late."""

    seconds: float

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.hello_delay = self.seconds


@dataclass(frozen=True, slots=True)
class NoHello(Setting):
    """Never send Hello."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.hello_delay = math.inf


@dataclass(frozen=True, slots=True)
class ReconnectInsteadOfHello(Setting):
    """Send Reconnect (op 7) where Hello belongs."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.reconnect_instead_of_hello = True


@dataclass(frozen=True, slots=True)
class HelloInterval(Setting):
    """Put any JSON value into Hello as `heartbeat_interval` (ms). The client is held to it from one second up."""

    value: Any

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.hello_interval = self.value


@dataclass(frozen=True, slots=True)
class DelayReady(Setting):
    """Let READY wait so many seconds after the Identify."""

    seconds: float

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.ready_delay = self.seconds


@dataclass(frozen=True, slots=True)
class NoReady(Setting):
    """Never send READY; heartbeats are answered."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.ready_delay = math.inf


@dataclass(frozen=True, slots=True)
class DelayResumed(Setting):
    """Let RESUMED wait so many seconds after the replay."""

    seconds: float

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.resumed_delay = self.seconds


@dataclass(frozen=True, slots=True)
class SlowReplay(Setting):
    """Pause so many seconds before each replayed dispatch."""

    seconds: float

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.replay_pause = self.seconds


@dataclass(frozen=True, slots=True)
class DropDuringReplay(Setting):
    """End the stream after so many replayed dispatches; with fewer to replay, in place of RESUMED."""

    after: int = 1

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.replay_drop_after = self.after


@dataclass(frozen=True, slots=True)
class RefuseIdentify(Setting):
    """Answer Identify with Invalid Session."""

    resumable: bool = False

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.identify_answer = InvalidateSession(self.resumable)


@dataclass(frozen=True, slots=True)
class RefuseResume(Setting):
    """Answer Resume with Invalid Session; not resumable: the session is forgotten."""

    resumable: bool = False

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.resume_answer = InvalidateSession(self.resumable)


@dataclass(frozen=True, slots=True)
class CloseOnIdentify(Setting):
    """Answer Identify with a close."""

    code: int

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.identify_answer = Close(self.code)


@dataclass(frozen=True, slots=True)
class CloseOnResume(Setting):
    """Answer Resume with a close."""

    code: int

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.resume_answer = Close(self.code)


@dataclass(frozen=True, slots=True)
class StopAcks(Setting):
    """Answer no heartbeat any more, but go on with everything else."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.acks = False


@dataclass(frozen=True, slots=True)
class Silence(Setting):
    """Read on but never send again: a zombie."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.silent = True


@dataclass(frozen=True, slots=True)
class CutAfter(Setting):
    """Let so many more bytes out, then end the stream (or break it), in the middle of a frame if it so happens."""

    nbytes: int
    _: KW_ONLY
    reset: bool = False

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.cut_after = self.nbytes
        conduct.cut_resets = self.reset


@dataclass(frozen=True, slots=True)
class TruncatedCompression(Setting):
    """Cut the next payload in half after it was compressed, then go on as if nothing had happened."""

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.truncate_next = True


@dataclass(frozen=True, slots=True)
class Fragment(Setting):
    """Split each payload into `parts` frames; with `messages`, into messages of their own where zlib-stream allows."""

    parts: int = 3
    _: KW_ONLY
    messages: bool = False

    def apply(self, conduct: Conduct) -> None:
        """Set it."""
        conduct.fragments = self.parts
        conduct.separate_messages = self.messages


# When what happens.

ScriptMaker = Callable[[int, Random], Script]
"""Makes the script of a connection from its number (0-based, in order of arrival) and a source of chance."""


class Scenario:
    """One script for each connection, in order of arrival, and `then` for all that come later."""

    def __init__(self, connections: Sequence[Script] = (), *, then: Script | ScriptMaker = (), seed: int = 0) -> None:
        self._connections = tuple(tuple(script) for script in connections)
        self._then = then
        self._rng = Random(seed)

    def script_for(self, number: int) -> Script:
        """The script of the connection with this number (0-based). Asked for once, in order."""
        if number < len(self._connections):
            return self._connections[number]
        return self._then(number, self._rng) if callable(self._then) else self._then
