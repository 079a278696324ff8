"""Every exception that trioshard raises, in one tree.

::

    TrioshardError
    ├── InvalidCommand (ValueError)      a command was refused before it was accepted
    ├── QueueFull                        send_nowait found no room; nothing was queued
    ├── ShardClosed                      the shard is over; __cause__ says why, if it failed
    ├── SubscriptionOverflow             a subscription with overflow="fail" fell behind
    ├── MissingDependency (ImportError)  an optional package is not installed
    ├── ShardFailed                      ended for good: this leaves ``open_shard``
    │   ├── AuthenticationFailed         4004, or HTTP 401: the token
    │   ├── InvalidShard                 4010: the shard pair
    │   ├── ShardingRequired             4011: too many guilds for one shard
    │   ├── InvalidVersion               4012: the gateway no longer speaks v10
    │   ├── InvalidIntents               4013: an undefined intent bit
    │   ├── DisallowedIntents            4014: a privileged intent is not switched on
    │   ├── GatewayUnreachable           the first connection could not be made
    │   ├── SessionStartsExhausted       another Identify today would reset the token, or use up the reserve
    │   └── ShardClaimed                 another process runs the same shard
    ├── StoreError                       sessions and permits could not be stored or read
    │   ├── StoreUnreadable              not a store of this version
    │   ├── StoreUnwritable              read-only, or full
    │   └── StoreBusy                    locked by another process
    ├── TransportError                   a connection attempt went wrong; recovered from inside
    │   ├── ConnectFailed                no WebSocket could be opened
    │   ├── ConnectionLost               it ended without a close frame
    │   └── ConnectionClosed             it ended with a close frame
    └── GatewayProtocolError             what arrived cannot be right; recovered from inside

Exceptions carry their data as attributes, so that programs need not read the text. No exception, log
line or ``repr`` of trioshard contains the token.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationFailed",
    "ConnectFailed",
    "ConnectionClosed",
    "ConnectionLost",
    "DisallowedIntents",
    "GatewayProtocolError",
    "GatewayUnreachable",
    "InvalidCommand",
    "InvalidIntents",
    "InvalidShard",
    "InvalidVersion",
    "MissingDependency",
    "QueueFull",
    "SessionStartsExhausted",
    "ShardClaimed",
    "ShardClosed",
    "ShardFailed",
    "ShardingRequired",
    "StoreBusy",
    "StoreError",
    "StoreUnreadable",
    "StoreUnwritable",
    "SubscriptionOverflow",
    "TransportError",
    "TrioshardError",
]


class TrioshardError(Exception):
    """The root of everything that trioshard raises."""


class InvalidCommand(TrioshardError, ValueError):
    """A command was refused at the border, before it was queued: nothing was sent.

    Attributes:
        field: the name of the offending field, or ``None`` when the command as a whole is at fault.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class QueueFull(TrioshardError):
    """``send_nowait`` found the command queue full. Nothing was queued; await ``send`` to wait for room.

    Attributes:
        capacity: how many commands the queue holds.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(
            f"the command queue is full ({capacity} commands wait); this one was not queued."
            " Await send() to wait for room instead."
        )
        self.capacity = capacity


class ShardClosed(TrioshardError):
    """The shard is over. A command that was waiting was not written.

    When the shard ended by a failure, that failure is the ``__cause__``.
    """


class SubscriptionOverflow(TrioshardError):
    """A subscription with ``overflow="fail"`` did not keep up, and was ended; or one of any kind held up a resume.

    Attributes:
        capacity: how many events its outbox holds.
    """

    def __init__(self, capacity: int, *, stuck_in_replay: bool = False) -> None:
        super().__init__(
            f"the subscriber took nothing for a while, with {capacity} events waiting and a session being resumed. It"
            " probably waits for the end of the resume itself, in send() or wait_ready(); its subscription was ended so"
            " that the shard can go on. Use send_nowait() in handlers, or handle events in tasks of their own."
            if stuck_in_replay
            else f"the subscriber fell {capacity} events behind and asked to fail in that case;"
            " its subscription has ended. Handle events faster, raise capacity=, or choose another overflow=."
        )
        self.capacity = capacity


class MissingDependency(TrioshardError, ImportError):
    """An optional package is needed for what was asked, and is not installed."""


class ShardFailed(TrioshardError):
    """The shard ended for good, and reconnecting cannot help. This leaves ``open_shard``.

    Attributes:
        code: the close code that Discord gave, or ``None`` when it was not a close.
        shard: the ``(shard_id, num_shards)`` that failed.
    """

    def __init__(self, message: str, *, code: int | None = None, shard: tuple[int, int] = (0, 1)) -> None:
        super().__init__(message)
        self.code = code
        self.shard = shard


class AuthenticationFailed(ShardFailed):
    """Discord does not accept the token (close code 4004, or HTTP 401)."""


class InvalidShard(ShardFailed):
    """Discord does not accept the shard pair (close code 4010)."""


class ShardingRequired(ShardFailed):
    """The bot is in too many guilds for this number of shards (close code 4011)."""


class InvalidVersion(ShardFailed):
    """Discord no longer speaks the gateway version of this release (close code 4012)."""


class InvalidIntents(ShardFailed):
    """The intents contain a bit that Discord does not know (close code 4013)."""


class DisallowedIntents(ShardFailed):
    """A privileged intent is asked for, but not switched on for the application (close code 4014)."""


class GatewayUnreachable(ShardFailed):
    """No connection has ever been made, and trying on is unlikely to help. ``__cause__`` has the last error."""


class SessionStartsExhausted(ShardFailed):
    """The bot has used up its session starts; one Identify more, and Discord resets the token.

    Attributes:
        reset_after: seconds until Discord grants new session starts.
        left: how many starts are left; more than none when the rest is a reserve.
        resets_at: when that is, in wall clock seconds; ``None`` if only ``reset_after`` is known.
    """

    def __init__(
        self,
        message: str,
        *,
        reset_after: float,
        shard: tuple[int, int] = (0, 1),
        left: int = 0,
        resets_at: float | None = None,
    ) -> None:
        super().__init__(message, shard=shard)
        self.reset_after = reset_after
        self.left = left
        self.resets_at = resets_at


class ShardClaimed(ShardFailed):
    """The same shard of the same bot is running already, here or in another process. Nothing was sent.

    Attributes:
        pid: the process that runs it, or ``None`` if it is not known.
        since: when it began, in wall clock seconds, or ``None``.
    """

    def __init__(
        self, message: str, *, shard: tuple[int, int], pid: int | None = None, since: float | None = None
    ) -> None:
        super().__init__(message, shard=shard)
        self.pid = pid
        self.since = since


class StoreError(TrioshardError):
    """The store of sessions and identify permits failed. What was to be written was not written.

    A shard goes on without saved sessions, but does not identify without a permit.
    """


class StoreUnreadable(StoreError):
    """The file is no store of ours, or of a newer trioshard, or damaged again after it was replaced.

    It was left as it is.
    """


class StoreUnwritable(StoreError):
    """The file cannot be written: it is read-only, the disk is full, or the disk fails."""


class StoreBusy(StoreError):
    """Another process kept the store locked for too long."""


class TransportError(TrioshardError):
    """A connection attempt went wrong. The shard recovers by itself; the text shows up in its logs."""


class ConnectFailed(TransportError):
    """No WebSocket connection could be opened.

    Attributes:
        permanent: whether trying again is unlikely to help (a certificate that an ``ssl_context=`` does not
            trust, a server that is not a gateway, a proxy that does not accept the password).
        retry_after: seconds that the server asks to wait; 0 if it does not.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after


class ConnectionLost(TransportError):
    """The connection ended without a close frame, or a write to it did not succeed in time."""


class ConnectionClosed(TransportError):
    """The connection was ended by a close frame of the gateway.

    Attributes:
        code: the close code, or ``None`` when the frame carried none.
        reason: the text that came with it, possibly empty.
    """

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(f"closed by the gateway with code {code}" + (f" ({reason})" if reason else ""))
        self.code = code
        self.reason = reason


class GatewayProtocolError(TrioshardError):
    """What arrived cannot be right: no JSON, a broken compression stream, an absurd heartbeat interval.

    The connection is given up with a resumable close code; the session goes on from the last message
    that was whole.
    """
