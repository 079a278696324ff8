"""The bot, its guild, and what every session begins with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

__all__ = [
    "BOT_ID",
    "FOUNDED",
    "GUILD_ID",
    "ROLE_IDS",
    "TEXT_CHANNELS",
    "USERS",
    "VOICE_CHANNELS",
    "JSONObject",
    "application",
    "bot_user",
    "guild_create",
    "ready",
    "snowflake",
    "timestamp",
]

JSONObject = dict[str, Any]

_DISCORD_EPOCH: Final = datetime(2015, 1, 1, tzinfo=UTC)

USERS: Final = 2_000
"""How many people are in the guild, the bot not counted."""


def snowflake(at: datetime, low: int = 0) -> str:
    """Return the id of something made at a moment."""
    return str((int((at - _DISCORD_EPOCH).total_seconds() * 1000) << 22) | low)


def timestamp(at: datetime) -> str:
    """Return the moment as Discord writes it."""
    return at.isoformat(timespec="microseconds")


FOUNDED: Final = datetime(2020, 3, 14, 15, 9, 26, tzinfo=UTC)
GUILD_ID: Final = snowflake(FOUNDED, 1)
BOT_ID: Final = snowflake(datetime(2023, 4, 5, 6, 7, 8, tzinfo=UTC), 1)
ROLE_IDS: Final = [snowflake(FOUNDED + timedelta(days=10 * n), 7) for n in range(60)]
TEXT_CHANNELS: Final = [snowflake(FOUNDED + timedelta(days=8 * n), 9) for n in range(40)]
VOICE_CHANNELS: Final = [snowflake(FOUNDED + timedelta(days=40 * n), 11) for n in range(8)]


def bot_user() -> JSONObject:
    """Return the bot's user."""
    return {
        "id": BOT_ID,
        "username": "bench",
        "discriminator": "0",
        "global_name": None,
        "avatar": None,
        "bot": True,
        "flags": 0,
        "public_flags": 0,
        "verified": True,
        "mfa_enabled": True,
        "email": None,
        "locale": "en-US",
        "premium_type": 0,
    }


def application() -> JSONObject:
    """Return the bot's application, as the HTTP API tells it."""
    return {
        "id": BOT_ID,
        "name": "bench",
        "icon": None,
        "description": "",
        "summary": "",
        "bot_public": False,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "flags": 0,
        "owner": bot_user(),
        "team": None,
        "bot": bot_user(),
        "rpc_origins": [],
        "tags": [],
        "redirect_uris": [],
        "hook": True,
        "approximate_guild_count": 1,
        "interactions_endpoint_url": None,
    }


def ready(resume_url: str, *, shard: tuple[int, int] = (0, 1), with_guild: bool = True) -> JSONObject:
    """Return the data of READY."""
    return {
        "v": 10,
        "user_settings": {},
        "user": bot_user(),
        "shard": list(shard),
        "session_type": "normal",
        "session_id": f"{int(BOT_ID) + shard[0]:032x}",
        "resume_gateway_url": resume_url,
        "relationships": [],
        "private_channels": [],
        "presences": [],
        "guilds": [{"unavailable": True, "id": GUILD_ID}] if with_guild else [],
        "guild_join_requests": [],
        "geo_ordered_rtc_regions": [],
        "auth": {},
        "application": {"id": BOT_ID, "flags": 0},
        "_trace": [],
    }


def guild_create() -> JSONObject:
    """Return the data of GUILD_CREATE for the one guild: all channels and roles, and the bot as the only member."""
    me: JSONObject = {
        "user": bot_user(),
        "roles": [],
        "premium_since": None,
        "pending": False,
        "nick": None,
        "mute": False,
        "joined_at": timestamp(FOUNDED),
        "flags": 0,
        "deaf": False,
        "communication_disabled_until": None,
        "avatar": None,
    }
    return {
        "id": GUILD_ID,
        "name": "Benchmark",
        "icon": None,
        "splash": None,
        "discovery_splash": None,
        "owner_id": snowflake(FOUNDED, 5),
        "afk_channel_id": None,
        "afk_timeout": 300,
        "verification_level": 1,
        "default_message_notifications": 1,
        "explicit_content_filter": 0,
        "roles": [_role(GUILD_ID, "@everyone", 0)]
        + [_role(role, f"role {n}", n + 1) for n, role in enumerate(ROLE_IDS)],
        "emojis": [],
        "stickers": [],
        "features": [],
        "mfa_level": 0,
        "application_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "public_updates_channel_id": None,
        "safety_alerts_channel_id": None,
        "max_members": 500_000,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "premium_progress_bar_enabled": False,
        "preferred_locale": "en-US",
        "max_video_channel_users": 25,
        "max_stage_video_channel_users": 50,
        "nsfw": False,
        "nsfw_level": 0,
        "incidents_data": None,
        "joined_at": timestamp(FOUNDED),
        "large": True,
        "unavailable": False,
        "member_count": USERS + 1,
        "voice_states": [],
        "members": [me],
        "channels": [_channel(channel, 0, n) for n, channel in enumerate(TEXT_CHANNELS)]
        + [_channel(channel, 2, n) for n, channel in enumerate(VOICE_CHANNELS)],
        "threads": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }


def _role(role_id: str, name: str, position: int) -> JSONObject:
    return {
        "id": role_id,
        "name": name,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "icon": None,
        "unicode_emoji": None,
        "position": position,
        "permissions": "2248473465835073",
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }


def _channel(channel_id: str, kind: int, position: int) -> JSONObject:
    channel: JSONObject = {
        "id": channel_id,
        "type": kind,
        "name": f"channel-{position}",
        "position": position,
        "permission_overwrites": [],
        "parent_id": None,
        "nsfw": False,
        "rate_limit_per_user": 0,
        "last_message_id": None,
        "flags": 0,
    }
    if kind == 2:
        return channel | {"bitrate": 64_000, "user_limit": 0, "rtc_region": None}
    return channel | {"topic": None, "last_pin_timestamp": None}
