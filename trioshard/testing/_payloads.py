"""What Discord says: realistic objects, made from numbers so that they are the same in every run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from trioshard.testing import _intents

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The moment from which the timestamps of messages count."""

BOT_ID: Final = 1_100_000_000_000_000_001
APPLICATION_ID: Final = BOT_ID
_GUILD_STAMP: Final = 252_252_000_000
"""Bits 22 and up of the first made-up guild. Divisible by every small number, so that guild *i* of such guilds
lives on shard *i* for all usual shard counts (modulo that count)."""
_MEMBER_BASE: Final = 700_000_000_000_000_000
_MESSAGE_STAMP: Final = 1_300_000_000_000

JSONObject = dict[str, Any]


def timestamp(seconds: float) -> str:
    """ISO 8601 for so many seconds after the beginning of these tales."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def message_id(number: int) -> int:
    """The snowflake of the n-th message."""
    return (_MESSAGE_STAMP + number) << 22


@dataclass(frozen=True, slots=True)
class Guild:
    """A simple guild: some channels, and members that are made up when somebody asks for them."""

    id: int
    name: str = "Test guild"
    member_count: int = 3
    """Members, the bot not counted."""

    @property
    def text_channel_id(self) -> int:
        """The channel that messages are sent to."""
        return self.id + 1

    @property
    def voice_channel_id(self) -> int:
        """The only voice channel."""
        return self.id + 2

    def has_channel(self, channel_id: int) -> bool:
        """Whether the channel belongs to this guild."""
        return channel_id in (self.text_channel_id, self.voice_channel_id)

    def member(self, index: int) -> JSONObject:
        """The member with this index, from 0."""
        if not 0 <= index < self.member_count:
            raise IndexError(index)
        return _member(user(_MEMBER_BASE + index, f"member{index:05}"))

    def find_member(self, user_id: int) -> JSONObject | None:
        """The member with this id, the bot included."""
        if user_id == BOT_ID:
            return bot_member()
        index = user_id - _MEMBER_BASE
        return self.member(index) if 0 <= index < self.member_count else None

    def find_members(self, prefix: str, limit: int) -> list[JSONObject]:
        """Members whose username begins with `prefix`; `limit` 0 means all."""
        found = [bot_member()] if bot_user()["username"].startswith(prefix) else []
        for index in range(self.member_count):
            if limit and len(found) >= limit:
                break
            if f"member{index:05}".startswith(prefix):
                found.append(self.member(index))
        return found[:limit] if limit else found


def make_guilds(count: int) -> tuple[Guild, ...]:
    """So many guilds; number *i* lives on shard ``i % num_shards``."""
    return tuple(Guild((_GUILD_STAMP + i) << 22, f"Test guild {i}") for i in range(count))


def user(user_id: int, name: str, *, bot: bool = False) -> JSONObject:
    """A user object."""
    return {
        "id": str(user_id), "username": name, "discriminator": "0", "global_name": name.title(),
        "avatar": f"{user_id:032x}", "bot": bot, "system": False, "public_flags": 0, "banner": None,
        "accent_color": None, "avatar_decoration_data": None, "collectibles": None, "clan": None,
        "primary_guild": {"identity_guild_id": None, "identity_enabled": False, "tag": None, "badge": None},
        "display_name_styles": None,
    }  # fmt: skip


def bot_user() -> JSONObject:
    """The bot's own user."""
    return {
        **user(BOT_ID, "testbot", bot=True),
        "flags": 0,
        "verified": True,
        "mfa_enabled": False,
        "email": None,
        "locale": "en-US",
        "bio": "",
        "premium_type": 0,
    }


def _member(of: JSONObject) -> JSONObject:
    return {"user": of, **_member_without_user()}


def _member_without_user() -> JSONObject:
    return {
        "nick": None, "avatar": None, "banner": None, "roles": [], "joined_at": timestamp(0.0), "premium_since": None,
        "deaf": False, "mute": False, "flags": 0, "pending": False, "communication_disabled_until": None,
        "avatar_decoration_data": None,
    }  # fmt: skip


def bot_member() -> JSONObject:
    """The bot as a member of a guild."""
    return _member(bot_user())


def application() -> JSONObject:
    """The bot's application."""
    return {
        "id": str(APPLICATION_ID), "name": "testbot", "icon": None, "description": "", "bot_public": False,
        "bot_require_code_grant": False, "verify_key": "0" * 64, "flags": 0, "flags_new": "0", "summary": "",
        "owner": user(_MEMBER_BASE, "member00000"), "team": None, "bot": user(BOT_ID, "testbot", bot=True),
        "rpc_origins": [], "tags": [], "redirect_uris": [], "hook": True, "approximate_guild_count": 1,
        "integration_types_config": {"0": {}}, "interactions_endpoint_url": None, "type": None,
    }  # fmt: skip


def ready(
    guild_ids: list[int], session_id: str, resume_url: str, shard: tuple[int, int] | None, version: int
) -> JSONObject:
    """`d` of READY."""
    data: JSONObject = {
        "v": version,
        "user": bot_user(),
        "guilds": [{"id": str(guild_id), "unavailable": True} for guild_id in guild_ids],
        "session_id": session_id,
        "resume_gateway_url": resume_url,
        "application": {"id": str(APPLICATION_ID), "flags": 0},
        # Not documented, yet there, and read by libraries in use.
        "session_type": "normal",
        "private_channels": [],
        "relationships": [],
        "user_settings": {},
        "presences": [],
        "guild_join_requests": [],
        "geo_ordered_rtc_regions": [],
    }
    if shard is not None:
        data["shard"] = list(shard)
    return data


def guild_create(guild: Guild, intents: int, large_threshold: int) -> JSONObject:
    """`d` of GUILD_CREATE. All members are listed only to those with the presence intent, in small guilds."""
    members = [bot_member()]
    if intents & _intents.GUILD_PRESENCES and guild.member_count < large_threshold:
        members += [guild.member(index) for index in range(guild.member_count)]
    return {
        "id": str(guild.id), "name": guild.name, "icon": None, "splash": None, "discovery_splash": None,
        "owner_id": str(_MEMBER_BASE), "afk_channel_id": None, "afk_timeout": 300, "verification_level": 1,
        "default_message_notifications": 1, "explicit_content_filter": 0, "roles": [_everyone(guild)], "emojis": [],
        "features": [], "mfa_level": 0, "application_id": None, "system_channel_id": str(guild.text_channel_id),
        "system_channel_flags": 0, "rules_channel_id": None, "max_members": 500_000, "vanity_url_code": None,
        "description": None, "banner": None, "premium_tier": 0, "premium_subscription_count": 0,
        "preferred_locale": "en-US", "public_updates_channel_id": None, "max_video_channel_users": 25,
        "max_stage_video_channel_users": 50, "nsfw": False, "nsfw_level": 0, "stickers": [],
        "premium_progress_bar_enabled": False, "safety_alerts_channel_id": None, "incidents_data": None,
        "joined_at": timestamp(0.0), "large": guild.member_count + 1 > large_threshold, "unavailable": False,
        "member_count": guild.member_count + 1, "voice_states": [], "members": members,
        "channels": [_channel(guild.text_channel_id, 0, "general", 0),
                     _channel(guild.voice_channel_id, 2, "voice", 1)],
        "threads": [], "presences": [], "stage_instances": [], "guild_scheduled_events": [], "soundboard_sounds": [],
        "guild_hashes": None, "lazy": True, "application_command_counts": {}, "region": "deprecated",
    }  # fmt: skip


def _everyone(guild: Guild) -> JSONObject:
    return {
        "id": str(guild.id), "name": "@everyone", "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None}, "hoist": False,
        "icon": None, "unicode_emoji": None, "position": 0, "permissions": "2248473465835073", "managed": False,
        "mentionable": False, "flags": 0,
    }  # fmt: skip


def _channel(channel_id: int, kind: int, name: str, position: int) -> JSONObject:
    channel: JSONObject = {
        "id": str(channel_id), "type": kind, "name": name, "position": position, "permission_overwrites": [],
        "parent_id": None, "nsfw": False, "rate_limit_per_user": 0, "last_message_id": None, "flags": 0,
    }  # fmt: skip
    if kind == 2:
        channel |= {"bitrate": 64_000, "user_limit": 0, "rtc_region": None}
    else:
        channel |= {"topic": None, "last_pin_timestamp": None}
    return channel


def message(
    number: int,
    content: str,
    *,
    channel_id: int,
    guild_id: int | None,
    author: JSONObject | None,
    now: float,
    nonce: str | int | None = None,
    extra: JSONObject | None = None,
) -> JSONObject:
    """`d` of MESSAGE_CREATE, about 1.5 kB as JSON."""
    data: JSONObject = {
        "type": 0, "tts": False, "timestamp": timestamp(now), "pinned": False, "mentions": [], "mention_roles": [],
        "mention_everyone": False, "id": str(message_id(number)), "flags": 0, "embeds": [], "edited_timestamp": None,
        "content": content, "components": [], "channel_id": str(channel_id), "channel_type": 0,
        "author": author if author is not None else user(_MEMBER_BASE, "member00000"), "attachments": [],
        "reactions": [], "sticker_items": [],
    }  # fmt: skip
    if nonce is not None:
        data["nonce"] = nonce
    if guild_id is not None:
        data["guild_id"] = str(guild_id)
        roles = [str(guild_id + offset) for offset in range(10, 16)]
        data["member"] = _member_without_user() | {"nick": "A member", "roles": roles}
    else:
        data["channel_type"] = 1
    return data | (extra or {})


def members_chunks(
    guild: Guild, members: list[JSONObject], *, not_found: list[Any] | None, presences: bool, nonce: str | None
) -> list[JSONObject]:
    """`d` of each GUILD_MEMBERS_CHUNK, at most 1,000 members each."""
    pages = [members[i : i + 1_000] for i in range(0, len(members), 1_000)] or [[]]
    chunks: list[JSONObject] = []
    for index, page in enumerate(pages):
        chunk: JSONObject = {
            "guild_id": str(guild.id),
            "members": page,
            "chunk_index": index,
            "chunk_count": len(pages),
        }
        if not_found is not None:
            chunk["not_found"] = not_found if index == 0 else []
        if presences:
            chunk["presences"] = [
                {
                    "user": {"id": member["user"]["id"]},
                    "status": "online",
                    "activities": [],
                    "client_status": {"desktop": "online"},
                }
                for member in page
            ]
        if nonce is not None:
            chunk["nonce"] = nonce
        chunks.append(chunk)
    return chunks


def voice_state(
    guild_id: int, channel_id: int | None, session_id: str, *, self_mute: bool, self_deaf: bool
) -> JSONObject:
    """`d` of the bot's own VOICE_STATE_UPDATE."""
    return {
        "guild_id": str(guild_id), "channel_id": None if channel_id is None else str(channel_id),
        "user_id": str(BOT_ID), "member": bot_member(), "session_id": session_id, "deaf": False, "mute": False,
        "self_deaf": self_deaf, "self_mute": self_mute, "self_video": False, "suppress": False,
        "request_to_speak_timestamp": None,
    }  # fmt: skip


def voice_server(guild_id: int, voice_token: str) -> JSONObject:
    """`d` of VOICE_SERVER_UPDATE."""
    return {"token": voice_token, "guild_id": str(guild_id), "endpoint": "voice.gateway.invalid:443"}


def soundboard_sounds(guild_id: int) -> JSONObject:
    """`d` of SOUNDBOARD_SOUNDS."""
    sound = {
        "name": "Tada",
        "sound_id": str(guild_id + 3),
        "volume": 1.0,
        "emoji_id": None,
        "emoji_name": "\U0001f389",
        "guild_id": str(guild_id),
        "available": True,
    }
    return {"guild_id": str(guild_id), "soundboard_sounds": [sound]}


def channel_info(guild: Guild, fields: list[str], now: float) -> JSONObject:
    """`d` of CHANNEL_INFO."""
    channel: JSONObject = {"id": str(guild.voice_channel_id)}
    if "status" in fields:
        channel["status"] = "Testing"
    if "voice_start_time" in fields:
        channel["voice_start_time"] = int(_EPOCH.timestamp() + now)
    return {"guild_id": str(guild.id), "channels": [channel]}
