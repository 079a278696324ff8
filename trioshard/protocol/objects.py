"""The objects that events are made of: users, members, voice states, messages' parts.

Only what the typed events need, and of that only what Discord documents. Fields that may be absent have a
default; fields that are not listed here are in ``event.dispatch.json()``. Ids are ``int``.

Source: the resource pages *User*, *Guild*, *Voice*, *Message*.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Attachment", "Guild", "Member", "PartialUser", "UnavailableGuild", "User", "VoiceState"]


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    pass


class User(_Object, frozen=True, kw_only=True):
    """A user, or the webhook that wrote a message."""

    id: int
    username: str = ""
    discriminator: str = "0"
    global_name: str | None = None
    avatar: str | None = None
    bot: bool = False

    @property
    def mention(self) -> str:
        """The text that mentions this user in a message."""
        return f"<@{self.id}>"


class PartialUser(_Object, frozen=True, kw_only=True):
    """A user in a presence: nothing but the id is sure."""

    id: int
    username: Any = None


class Member(_Object, frozen=True, kw_only=True):
    """A user in a guild. In a message the ``user`` is left out: it is the author."""

    user: User | None = None
    nick: str | None = None
    roles: list[int] = []
    joined_at: str | None = None
    deaf: bool = False
    mute: bool = False
    pending: bool = False


class Attachment(_Object, frozen=True, kw_only=True):
    """A file in a message. ``size`` is in bytes."""

    id: int
    filename: str = ""
    size: int = 0
    url: str = ""
    content_type: str | None = None


class UnavailableGuild(_Object, frozen=True, kw_only=True):
    """A guild that is not loaded yet, or in an outage."""

    id: int
    unavailable: bool = False


class Guild(_Object, frozen=True, kw_only=True):
    """The part of a guild that an interaction brings."""

    id: int
    locale: str | None = None


class VoiceState(_Object, frozen=True, kw_only=True):
    """Where somebody is in voice, as GUILD_CREATE lists it: the guild is the event's."""

    user_id: int
    session_id: str = ""
    channel_id: int | None = None
    member: Member | None = None
    deaf: bool = False
    mute: bool = False
    self_deaf: bool = False
    self_mute: bool = False
    self_stream: bool = False
    self_video: bool = False
    suppress: bool = False
