"""trioshard: the Discord gateway for Trio.

Start with `open_shard`. Errors are in `trioshard.errors`, typed events in `trioshard.events`, and a gateway to test
bots against, without Discord, in `trioshard.testing`.
"""

from trioshard import errors, events
from trioshard._identify_queue import IdentifyQueue, IdentifyStatistics, LocalIdentifyQueue
from trioshard._open_shard import open_shard
from trioshard._queue import QueueStatistics, Receipt
from trioshard._shard import Shard
from trioshard._statistics import ShardStatistics
from trioshard._store import MemoryStore, SessionStore
from trioshard._store_sqlite import SqliteStore
from trioshard._subscription import Subscription
from trioshard._version import __version__
from trioshard.protocol.commands import (
    Activity,
    ActivityType,
    Command,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
)
from trioshard.protocol.events import Dispatch
from trioshard.protocol.opcodes import CloseCode, Intents, Opcode
from trioshard.protocol.pacing import Backoff
from trioshard.protocol.phases import Phase
from trioshard.protocol.session import Session
from trioshard.protocol.starts import SessionStartLimit
from trioshard.protocol.stored import StoredSession

__all__ = [
    "Activity",
    "ActivityType",
    "Backoff",
    "CloseCode",
    "Command",
    "Dispatch",
    "IdentifyQueue",
    "IdentifyStatistics",
    "Intents",
    "LocalIdentifyQueue",
    "MemoryStore",
    "Opcode",
    "Phase",
    "QueueStatistics",
    "Receipt",
    "RequestChannelInfo",
    "RequestMembers",
    "RequestSoundboardSounds",
    "Session",
    "SessionStartLimit",
    "SessionStore",
    "Shard",
    "ShardStatistics",
    "SqliteStore",
    "StoredSession",
    "Subscription",
    "UpdatePresence",
    "UpdateVoiceState",
    "__version__",
    "errors",
    "events",
    "open_shard",
]
