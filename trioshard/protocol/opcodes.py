"""The numbers of the protocol: opcodes, intents, and what each close code asks of a client.

Sources: Discord's pages *Opcodes and Status Codes* and *Gateway*, state of August 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trioshard import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "API_VERSION",
    "CLOSE_POLICIES",
    "LEAVE_FOR_GOOD",
    "LEAVE_RESUMABLY",
    "CloseAction",
    "CloseCode",
    "ClosePolicy",
    "Intents",
    "Opcode",
    "close_policy",
]

API_VERSION: Final = 10

LEAVE_RESUMABLY: Final = 4900
"""The code of our own close when we mean to come back. 1000 and 1001 would end the session at Discord;
Discord uses no 49xx code, so this one is easy to recognise in anybody's log."""

LEAVE_FOR_GOOD: Final = 1000
"""The code of our own close when the session shall end at once, and the bot go offline."""


class Opcode(IntEnum):
    """What kind of payload this is (*Opcodes and Status Codes*, gateway opcodes)."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE_UPDATE = 3
    VOICE_STATE_UPDATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_GUILD_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDBOARD_SOUNDS = 31
    REQUEST_CHANNEL_INFO = 43


class Intents(IntFlag):
    """Which groups of events Discord shall send (*Gateway*, list of intents).

    Combine them with ``|``. ``MESSAGE_CONTENT``, ``GUILD_MEMBERS`` and ``GUILD_PRESENCES`` are privileged:
    they must be switched on in the Developer Portal first, or the shard ends with `DisallowedIntents`.
    """

    NONE = 0
    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_MODERATION = 1 << 2
    GUILD_EXPRESSIONS = 1 << 3
    GUILD_INTEGRATIONS = 1 << 4
    GUILD_WEBHOOKS = 1 << 5
    GUILD_INVITES = 1 << 6
    GUILD_VOICE_STATES = 1 << 7
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_REACTIONS = 1 << 10
    GUILD_MESSAGE_TYPING = 1 << 11
    DIRECT_MESSAGES = 1 << 12
    DIRECT_MESSAGE_REACTIONS = 1 << 13
    DIRECT_MESSAGE_TYPING = 1 << 14
    MESSAGE_CONTENT = 1 << 15
    GUILD_SCHEDULED_EVENTS = 1 << 16
    AUTO_MODERATION_CONFIGURATION = 1 << 20
    AUTO_MODERATION_EXECUTION = 1 << 21
    GUILD_MESSAGE_POLLS = 1 << 24
    DIRECT_MESSAGE_POLLS = 1 << 25

    PRIVILEGED = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT
    ALL = 53608447
    UNPRIVILEGED = ALL & ~PRIVILEGED


class CloseCode(IntEnum):
    """Close codes with which Discord ends a gateway connection (*Opcodes and Status Codes*)."""

    UNKNOWN_ERROR = 4000
    UNKNOWN_OPCODE = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    INVALID_SEQ = 4007
    RATE_LIMITED = 4008
    SESSION_TIMED_OUT = 4009
    INVALID_SHARD = 4010
    SHARDING_REQUIRED = 4011
    INVALID_API_VERSION = 4012
    INVALID_INTENTS = 4013
    DISALLOWED_INTENTS = 4014


class CloseAction(Enum):
    """What a close code leaves us to do."""

    RESUME = "resume"
    RESUME_ONCE = "resume once"
    """Resume; when the same session is closed this way again, identify anew."""
    IDENTIFY = "identify"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class ClosePolicy:
    """What one close code means, and what the shard does about it."""

    action: CloseAction
    meaning: str
    advice: str = ""
    """What the user can do. Empty when there is nothing to do."""
    error: type[errors.ShardFailed] = errors.ShardFailed
    """What is raised; only used with `CloseAction.FATAL`."""


_RESUME, _ONCE, _IDENTIFY, _FATAL = (
    CloseAction.RESUME,
    CloseAction.RESUME_ONCE,
    CloseAction.IDENTIFY,
    CloseAction.FATAL,
)
_OUR_BUG = "this is a fault in trioshard: please report it with the log"

CLOSE_POLICIES: Final[Mapping[int, ClosePolicy]] = MappingProxyType(
    {
        # Not covered by Discord's pages when *they* send it: one Resume, and op 9 decides.
        1000: ClosePolicy(_ONCE, "closed normally"),
        1001: ClosePolicy(_ONCE, "going away"),
        CloseCode.UNKNOWN_ERROR: ClosePolicy(_RESUME, "unknown error"),
        CloseCode.UNKNOWN_OPCODE: ClosePolicy(_ONCE, "unknown opcode", _OUR_BUG),
        CloseCode.DECODE_ERROR: ClosePolicy(_RESUME, "payload could not be decoded", _OUR_BUG),
        CloseCode.NOT_AUTHENTICATED: ClosePolicy(
            _IDENTIFY,
            "not authenticated, or the session was invalidated",
            "if it repeats: the token was reset, or a privileged intent was switched off",
        ),
        CloseCode.AUTHENTICATION_FAILED: ClosePolicy(
            _FATAL,
            "the token was not accepted",
            "copy the bot token from the Developer Portal again; it is passed bare, without 'Bot '",
            errors.AuthenticationFailed,
        ),
        CloseCode.ALREADY_AUTHENTICATED: ClosePolicy(_ONCE, "already authenticated", _OUR_BUG),
        CloseCode.INVALID_SEQ: ClosePolicy(_IDENTIFY, "the sequence of the Resume was not known"),
        CloseCode.RATE_LIMITED: ClosePolicy(_RESUME, "too many payloads in 60 seconds"),
        CloseCode.SESSION_TIMED_OUT: ClosePolicy(_IDENTIFY, "the session timed out"),
        CloseCode.INVALID_SHARD: ClosePolicy(
            _FATAL,
            "the shard pair was not accepted",
            "shard=(shard_id, num_shards) needs 0 <= shard_id < num_shards, and for large bots a"
            " num_shards that is a multiple of the number Discord assigned",
            errors.InvalidShard,
        ),
        CloseCode.SHARDING_REQUIRED: ClosePolicy(
            _FATAL,
            "the bot is in too many guilds for one shard",
            "open more shards: each may carry at most 2,500 guilds",
            errors.ShardingRequired,
        ),
        CloseCode.INVALID_API_VERSION: ClosePolicy(
            _FATAL,
            f"Discord no longer speaks gateway version {API_VERSION}",
            "update trioshard",
            errors.InvalidVersion,
        ),
        CloseCode.INVALID_INTENTS: ClosePolicy(
            _FATAL,
            "the intents contain an unknown bit",
            "build them from trioshard.Intents",
            errors.InvalidIntents,
        ),
        CloseCode.DISALLOWED_INTENTS: ClosePolicy(
            _FATAL,
            "a privileged intent is not switched on for this application",
            "switch it on in the Developer Portal (Bot > Privileged Gateway Intents), or ask for fewer intents",
            errors.DisallowedIntents,
        ),
    }
)
"""The one place that says what a close code means."""

_UNLISTED = ClosePolicy(_RESUME, "a close code that Discord does not document")
_NO_CODE = ClosePolicy(_RESUME, "the connection was lost")


def close_policy(code: int | None) -> ClosePolicy:
    """Return what to do after a connection ended with ``code``; ``None`` stands for no close frame."""
    if code is None:
        return _NO_CODE
    return CLOSE_POLICIES.get(code, _UNLISTED)
