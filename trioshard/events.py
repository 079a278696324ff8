"""The typed events, and `Dispatch`: what `Shard.subscribe` takes and brings."""

from trioshard.protocol.events import (
    Dispatch,
    Event,
    GuildCreate,
    GuildMembersChunk,
    InteractionCreate,
    MessageCreate,
    PresenceUpdate,
    RateLimited,
    Ready,
    Resumed,
    VoiceServerUpdate,
    VoiceStateUpdate,
)

__all__ = [
    "Dispatch",
    "Event",
    "GuildCreate",
    "GuildMembersChunk",
    "InteractionCreate",
    "MessageCreate",
    "PresenceUpdate",
    "RateLimited",
    "Ready",
    "Resumed",
    "VoiceServerUpdate",
    "VoiceStateUpdate",
]
