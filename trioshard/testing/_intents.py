"""Which events need which intent."""

from __future__ import annotations

from typing import Final

ALL_INTENTS: Final = 53_608_447
GUILD_MEMBERS: Final = 1 << 1
GUILD_VOICE_STATES: Final = 1 << 7
GUILD_PRESENCES: Final = 1 << 8
GUILDS: Final = 1 << 0

_NEEDED: Final[dict[int, tuple[str, ...]]] = {
    0: (
        "GUILD_CREATE",
        "GUILD_UPDATE",
        "GUILD_DELETE",
        "GUILD_ROLE_CREATE",
        "GUILD_ROLE_UPDATE",
        "GUILD_ROLE_DELETE",
        "CHANNEL_CREATE",
        "CHANNEL_UPDATE",
        "CHANNEL_DELETE",
        "CHANNEL_PINS_UPDATE",
        "THREAD_CREATE",
        "THREAD_UPDATE",
        "THREAD_DELETE",
        "THREAD_LIST_SYNC",
        "THREAD_MEMBER_UPDATE",
        "STAGE_INSTANCE_CREATE",
        "STAGE_INSTANCE_UPDATE",
        "STAGE_INSTANCE_DELETE",
        "VOICE_CHANNEL_STATUS_UPDATE",
        "VOICE_CHANNEL_START_TIME_UPDATE",
        "THREAD_MEMBERS_UPDATE",
    ),
    1: ("GUILD_MEMBER_ADD", "GUILD_MEMBER_UPDATE", "GUILD_MEMBER_REMOVE", "THREAD_MEMBERS_UPDATE"),
    2: ("GUILD_AUDIT_LOG_ENTRY_CREATE", "GUILD_BAN_ADD", "GUILD_BAN_REMOVE"),
    3: (
        "GUILD_EMOJIS_UPDATE",
        "GUILD_STICKERS_UPDATE",
        "GUILD_SOUNDBOARD_SOUND_CREATE",
        "GUILD_SOUNDBOARD_SOUND_UPDATE",
        "GUILD_SOUNDBOARD_SOUND_DELETE",
        "GUILD_SOUNDBOARD_SOUNDS_UPDATE",
    ),
    4: ("GUILD_INTEGRATIONS_UPDATE", "INTEGRATION_CREATE", "INTEGRATION_UPDATE", "INTEGRATION_DELETE"),
    5: ("WEBHOOKS_UPDATE",),
    6: ("INVITE_CREATE", "INVITE_DELETE"),
    7: ("VOICE_STATE_UPDATE", "VOICE_CHANNEL_EFFECT_SEND"),
    8: ("PRESENCE_UPDATE",),
    9: ("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK"),
    10: (
        "MESSAGE_REACTION_ADD",
        "MESSAGE_REACTION_REMOVE",
        "MESSAGE_REACTION_REMOVE_ALL",
        "MESSAGE_REACTION_REMOVE_EMOJI",
    ),
    11: ("TYPING_START",),
    16: (
        "GUILD_SCHEDULED_EVENT_CREATE",
        "GUILD_SCHEDULED_EVENT_UPDATE",
        "GUILD_SCHEDULED_EVENT_DELETE",
        "GUILD_SCHEDULED_EVENT_USER_ADD",
        "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    ),
    20: ("AUTO_MODERATION_RULE_CREATE", "AUTO_MODERATION_RULE_UPDATE", "AUTO_MODERATION_RULE_DELETE"),
    21: ("AUTO_MODERATION_ACTION_EXECUTION",),
    24: ("MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE"),
}
"""Event names by the bit of the intent, for events of a guild."""

_NEEDED_IN_DIRECT_MESSAGES: Final[dict[int, tuple[str, ...]]] = {
    12: ("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "CHANNEL_PINS_UPDATE"),
    13: _NEEDED[10],
    14: ("TYPING_START",),
    25: _NEEDED[24],
}


def _masks(table: dict[int, tuple[str, ...]]) -> dict[str, int]:
    masks: dict[str, int] = {}
    for bit, names in table.items():
        for name in names:
            masks[name] = masks.get(name, 0) | 1 << bit
    return masks


_IN_GUILDS: Final = _masks(_NEEDED)
_ELSEWHERE: Final = _masks(_NEEDED_IN_DIRECT_MESSAGES)


def wanted_by(intents: int, name: str, *, in_guild: bool) -> bool:
    """Whether a session with these intents gets events of this name. Names without an intent always pass."""
    mask = (_IN_GUILDS if in_guild else _ELSEWHERE).get(name)
    return mask is None or bool(intents & mask)
