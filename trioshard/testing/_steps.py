"""What a step of a script is, what it may change, and what it may do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import UNSET

Moment = Literal[
    "connect",
    "hello",
    "identify",
    "resume",
    "handshake",
    "ready",
    "resumed",
    "session",
    "replay",
    "dispatch",
    "command",
    "heartbeat",
]
"""What a script can wait for, counted from the start of its connection.

Arrivals: "identify", "resume", "handshake" (one of the two), "command", "heartbeat". About to be sent: "hello",
"ready", "resumed", "session" (one of the two), "dispatch" (all but READY and RESUMED), "replay" (those of a resume)."""


@dataclass(slots=True)
class Conduct:
    """How the gateway behaves on one connection. The defaults are a gateway in good health. Times in seconds."""

    reject_status: int | None = None
    hello_delay: float = 0.0
    reconnect_instead_of_hello: bool = False
    hello_interval: Any = UNSET
    identify_answer: Action | None = None
    resume_answer: Action | None = None
    ready_delay: float = 0.0
    resumed_delay: float = 0.0
    replay_pause: float = 0.0
    replay_drop_after: int | None = None
    acks: bool = True
    silent: bool = False
    cut_after: int | None = None
    cut_resets: bool = False
    truncate_next: bool = False
    fragments: int = 1
    separate_messages: bool = False


class Powers(Protocol):
    """What an action may do to its connection. All of it raises :exc:`trio.ClosedResourceError` when that is gone."""

    async def wait_for(self, moment: Moment, count: int = 1) -> None:
        """Wait until `moment` has come `count` times on this connection."""
        ...

    def publish(self, name: str, data: object) -> bool:
        """Dispatch to this connection's session; False when there is none."""
        ...

    def reconnect(self) -> None:
        """Send Reconnect (op 7)."""
        ...

    def invalidate(self, resumable: bool = False) -> None:
        """Send Invalid Session (op 9)."""
        ...

    def close(self, code: int = 4000, reason: str = "", *, end_session: bool | None = None) -> None:
        """Close with a close frame."""
        ...

    def drop(self) -> None:
        """End the stream without a close frame."""
        ...

    def reset(self) -> None:
        """Break the stream."""
        ...

    def stall(self, seconds: float) -> None:
        """Neither read nor write for so long."""
        ...

    def request_heartbeat(self) -> None:
        """Send a heartbeat request (op 1)."""
        ...

    def send_payload(self, payload: object) -> None:
        """Send a payload as it is, compressed like every other one."""
        ...

    def send_text(self, text: str) -> None:
        """Send a text message as it is."""
        ...

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message as it is."""
        ...

    def send_raw(self, data: bytes) -> None:
        """Send bytes without a WebSocket frame around them."""
        ...


class Setting(ABC):
    """A step that changes how the gateway behaves on the connection from then on."""

    __slots__ = ()

    @abstractmethod
    def apply(self, conduct: Conduct) -> None:
        """Change the conduct."""


class Action(ABC):
    """A step that waits for something or does something."""

    __slots__ = ()

    @abstractmethod
    async def perform(self, connection: Powers) -> None:
        """Do it."""


Step = Setting | Action
Script = Sequence[Step]
