"""What a user may send: a closed set of five commands, checked before they are accepted.

Identify, Resume and heartbeats are not in it: the connection writes those itself. Every check that Discord
would answer with a close code (4001, 4002) or with silence is made here, at the caller, where the
mistake is; a command that was accepted can be written at any later time.

Source: *Gateway Events*, send events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast

import msgspec

from trioshard.errors import InvalidCommand
from trioshard.protocol import codec
from trioshard.protocol.opcodes import Opcode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trioshard.protocol.events import RateLimited

__all__ = [
    "Activity",
    "ActivityType",
    "Command",
    "RequestChannelInfo",
    "RequestMembers",
    "RequestSoundboardSounds",
    "Snowflake",
    "Status",
    "UpdatePresence",
    "UpdateVoiceState",
    "encode_command",
    "limit_key",
    "limited_key",
]

Snowflake = int | str
"""An id of Discord, as a number or as its digits."""

Status = Literal["online", "dnd", "idle", "invisible", "offline"]

MAX_NONCE: Final = 32
"""Bytes. With a longer nonce the chunks would come back without any."""
MAX_USER_IDS: Final = 100
MAX_PRESENCE: Final = codec.MAX_OUTBOUND - 512
"""Bytes. An Identify has to hold the presence, a token of up to 200 bytes, and about 200 bytes more."""
_STATUSES: Final = ("online", "dnd", "idle", "invisible", "offline")
_STREAM_HOSTS: Final = (
    "https://twitch.tv/",
    "https://www.twitch.tv/",
    "https://youtube.com/",
    "https://www.youtube.com/",
)
_CHANNEL_FIELDS: Final = ("status", "voice_start_time")


class ActivityType(IntEnum):
    """How an activity is shown."""

    PLAYING = 0
    STREAMING = 1
    LISTENING = 2
    WATCHING = 3
    CUSTOM = 4
    COMPETING = 5


class Activity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bot is shown to be doing. The class methods build each kind.

    A bot may set no more than these four fields (*Gateway Events*, activity object).
    """

    name: str
    type: int
    state: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise InvalidCommand("an activity needs a name", field="name")
        if not _is_int(self.type) or self.type not in set(ActivityType):
            raise InvalidCommand(f"there is no activity type {self.type!r}", field="type")
        if self.state is not None and not isinstance(self.state, str):
            raise InvalidCommand(f"state is text, or None, not {self.state!r}", field="state")
        if self.url is not None and not (isinstance(self.url, str) and self.url.startswith(_STREAM_HOSTS)):
            raise InvalidCommand(
                f"Discord accepts only twitch.tv and youtube.com URLs for streaming, not {self.url!r}",
                field="url",
            )

    @classmethod
    def playing(cls, name: str, *, state: str | None = None) -> Activity:
        """*Playing name*."""
        return cls(name=name, type=ActivityType.PLAYING, state=state)

    @classmethod
    def streaming(cls, name: str, url: str) -> Activity:
        """*Streaming name*, with a link to ``https://twitch.tv/…`` or ``https://youtube.com/…``."""
        return cls(name=name, type=ActivityType.STREAMING, url=url)

    @classmethod
    def listening(cls, name: str, *, state: str | None = None) -> Activity:
        """*Listening to name*."""
        return cls(name=name, type=ActivityType.LISTENING, state=state)

    @classmethod
    def watching(cls, name: str, *, state: str | None = None) -> Activity:
        """*Watching name*."""
        return cls(name=name, type=ActivityType.WATCHING, state=state)

    @classmethod
    def custom(cls, text: str) -> Activity:
        """``text``, and nothing else."""
        return cls(name="Custom Status", type=ActivityType.CUSTOM, state=text)

    @classmethod
    def competing(cls, name: str, *, state: str | None = None) -> Activity:
        """*Competing in name*."""
        return cls(name=name, type=ActivityType.COMPETING, state=state)


class UpdatePresence(msgspec.Struct, frozen=True, kw_only=True):
    """Op 3: set the bot's own presence. At most 5 per 20 s; a newer one replaces one that still waits.

    Attributes:
        activities: what the bot is shown to be doing.
        status: online, dnd, idle, invisible or offline.
        since: Unix time in **milliseconds** since when the bot is idle, or ``None``.
        afk: whether it is away.
    """

    opcode: ClassVar[Opcode] = Opcode.PRESENCE_UPDATE

    activities: tuple[Activity, ...] = ()
    status: Status = "online"
    since: int | None = None
    afk: bool = False

    def __post_init__(self) -> None:
        _freeze(self, "activities")
        if not all(isinstance(activity, Activity) for activity in self.activities):
            raise InvalidCommand("activities must be Activity objects", field="activities")
        if self.status not in _STATUSES:
            raise InvalidCommand(f"status must be one of {', '.join(_STATUSES)}, not {self.status!r}", field="status")
        if self.since is not None and (not _is_int(self.since) or self.since < 0):
            raise InvalidCommand("since is a Unix time in whole milliseconds, or None", field="since")
        _check_bool("afk", self.afk)

    def data(self) -> object:
        """Return what goes into ``d``."""
        return self


class UpdateVoiceState(msgspec.Struct, frozen=True, kw_only=True):
    """Op 4: join, move to, or leave a voice channel.

    Attributes:
        guild_id: the guild.
        channel_id: where to be; ``None`` to leave.
        self_mute: whether the bot mutes itself.
        self_deaf: whether the bot deafens itself.
    """

    opcode: ClassVar[Opcode] = Opcode.VOICE_STATE_UPDATE

    guild_id: Snowflake
    channel_id: Snowflake | None = None
    self_mute: bool = False
    self_deaf: bool = False

    def __post_init__(self) -> None:
        _check_snowflake("guild_id", self.guild_id)
        if self.channel_id is not None:
            _check_snowflake("channel_id", self.channel_id)
        _check_bool("self_mute", self.self_mute)
        _check_bool("self_deaf", self.self_deaf)

    def data(self) -> object:
        """Return what goes into ``d``."""
        return {
            "guild_id": str(self.guild_id),
            "channel_id": None if self.channel_id is None else str(self.channel_id),
            "self_mute": self.self_mute,
            "self_deaf": self.self_deaf,
        }


class RequestMembers(msgspec.Struct, frozen=True, kw_only=True):
    """Op 8: ask for members of a guild. The answer is one or more ``GuildMembersChunk`` events.

    Give either ``query`` or ``user_ids``. The full list (``query=""``, ``limit=0``) needs the GUILD_MEMBERS intent, and
    is limited to one per guild in 30 s.

    Attributes:
        guild_id: the guild.
        query: how the username starts; ``""`` is everyone.
        limit: how many members at most, with ``query``; 0 with ``query=""`` means all. A prefix brings at most 100.
        user_ids: up to 100 members by id.
        presences: whether presences shall come too (needs GUILD_PRESENCES).
        nonce: up to 32 bytes that come back in each chunk.
    """

    opcode: ClassVar[Opcode] = Opcode.REQUEST_GUILD_MEMBERS

    guild_id: Snowflake
    query: str | None = None
    limit: int | None = None
    user_ids: tuple[Snowflake, ...] | None = None
    presences: bool = False
    nonce: str | None = None

    def __post_init__(self) -> None:
        _check_snowflake("guild_id", self.guild_id)
        _check_bool("presences", self.presences)
        if (self.query is None) == (self.user_ids is None):
            raise InvalidCommand("give either query or user_ids, and not both", field="query")
        if self.query is not None:
            self._check_query(self.query)
        if self.user_ids is not None:
            self._check_user_ids(self.user_ids)
        if self.nonce is not None and not (isinstance(self.nonce, str) and _utf8_size(self.nonce) <= MAX_NONCE):
            raise InvalidCommand(
                f"a nonce has at most {MAX_NONCE} bytes; Discord would ignore a longer one", field="nonce"
            )

    def _check_query(self, query: str) -> None:
        if not isinstance(query, str):
            raise InvalidCommand("query is text", field="query")
        if self.limit is None:
            msgspec.structs.force_setattr(self, "limit", 0 if query == "" else MAX_USER_IDS)
        if not _is_int(self.limit) or self.limit is None or self.limit < 0:
            raise InvalidCommand("limit is a whole number, 0 or more", field="limit")
        if query != "" and not 1 <= self.limit <= MAX_USER_IDS:
            raise InvalidCommand("with a query, limit is 1 to 100", field="limit")

    def _check_user_ids(self, user_ids: Sequence[Snowflake]) -> None:
        if self.limit is not None:
            raise InvalidCommand("limit goes with query, not with user_ids", field="limit")
        _freeze(self, "user_ids")
        user_ids = self.user_ids or ()
        if not 1 <= len(user_ids) <= MAX_USER_IDS:
            raise InvalidCommand("user_ids takes 1 to 100 ids", field="user_ids")
        for user_id in user_ids:
            _check_snowflake("user_ids", user_id)

    @property
    def is_full_list(self) -> bool:
        """Whether this asks for all members, which is limited to once per guild in 30 s."""
        return self.query == "" and self.limit == 0

    def data(self) -> object:
        """Return what goes into ``d``."""
        data: dict[str, object] = {"guild_id": str(self.guild_id)}
        if self.query is not None:
            data |= {"query": self.query, "limit": self.limit}
        if self.user_ids is not None:
            data["user_ids"] = [str(user_id) for user_id in self.user_ids]
        if self.presences:
            data["presences"] = True
        if self.nonce is not None:
            data["nonce"] = self.nonce
        return data


class RequestSoundboardSounds(msgspec.Struct, frozen=True, kw_only=True):
    """Op 31: ask for the soundboard sounds of guilds. The answer is one SOUNDBOARD_SOUNDS event for each.

    Attributes:
        guild_ids: the guilds; about 180 fit into one payload.
    """

    opcode: ClassVar[Opcode] = Opcode.REQUEST_SOUNDBOARD_SOUNDS

    guild_ids: tuple[Snowflake, ...]

    def __post_init__(self) -> None:
        _freeze(self, "guild_ids")
        if not self.guild_ids:
            raise InvalidCommand("guild_ids takes one id or more", field="guild_ids")
        for guild_id in self.guild_ids:
            _check_snowflake("guild_ids", guild_id)

    def data(self) -> object:
        """Return what goes into ``d``."""
        return {"guild_ids": [str(guild_id) for guild_id in self.guild_ids]}


class RequestChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Op 43: ask for the ephemeral data of a guild's voice channels. The answer is one CHANNEL_INFO event.

    Attributes:
        guild_id: the guild.
        fields: which data: ``"status"``, ``"voice_start_time"``.
    """

    opcode: ClassVar[Opcode] = Opcode.REQUEST_CHANNEL_INFO

    guild_id: Snowflake
    fields: tuple[str, ...] = _CHANNEL_FIELDS

    def __post_init__(self) -> None:
        _check_snowflake("guild_id", self.guild_id)
        _freeze(self, "fields")
        if not self.fields or any(f not in _CHANNEL_FIELDS for f in self.fields):
            raise InvalidCommand(f"fields takes some of {', '.join(_CHANNEL_FIELDS)}", field="fields")

    def data(self) -> object:
        """Return what goes into ``d``."""
        return {"guild_id": str(self.guild_id), "fields": list(self.fields)}


Command = UpdatePresence | UpdateVoiceState | RequestMembers | RequestSoundboardSounds | RequestChannelInfo
"""Everything that a user may send."""


def encode_command(command: Command) -> bytes:
    """Encode a command as it will stand on the wire.

    Raises:
        InvalidCommand: it is no command, or has more than 4096 bytes as JSON (a presence: `MAX_PRESENCE`).
    """
    if not isinstance(command, Command):
        raise InvalidCommand(
            f"only commands can be sent (UpdatePresence, UpdateVoiceState, …), not {type(command).__name__}"
        )
    document = codec.encode(command.opcode, command.data())
    if isinstance(command, UpdatePresence) and len(document) > MAX_PRESENCE:
        raise InvalidCommand(
            f"this presence takes {len(document)} bytes as JSON, and {MAX_PRESENCE} is what fits: the last presence"
            " also goes into the Identify of the next session. It was not sent; shorten it.",
            field="activities",
        )
    return document


def limit_key(command: Command) -> object:
    """Return the key of the bot-wide limit that this command falls under, or ``None``."""
    if isinstance(command, UpdatePresence):
        return "presence"
    if isinstance(command, RequestMembers) and command.is_full_list:
        return int(command.guild_id)
    return None


def limited_key(event: RateLimited) -> object:
    """Return the key of the limit that a RATE_LIMITED event is about, or ``None`` if it is none that we keep.

    Raises:
        ValueError: its guild id is no number, and no text that is one.
    """
    if event.opcode != Opcode.REQUEST_GUILD_MEMBERS or "guild_id" not in event.meta:
        return None
    guild_id: object = event.meta["guild_id"]
    if not isinstance(guild_id, int | str):
        raise ValueError(f"guild_id is {guild_id!r}")
    return int(guild_id)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _freeze(command: msgspec.Struct, field: str) -> None:
    # Lists are what people write; a tuple is what stays as it was checked.
    values: object = getattr(command, field)
    if isinstance(values, str | bytes | bytearray) or not isinstance(values, Iterable):
        raise InvalidCommand(f"{field} takes a list, not {values!r}", field=field)
    msgspec.structs.force_setattr(command, field, tuple(cast("Iterable[object]", values)))


def _utf8_size(text: str) -> float:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair: no size is small enough
        return math.inf


def _check_bool(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidCommand(f"{field} is True or False, not {value!r}", field=field)


def _check_snowflake(field: str, value: object) -> None:
    number: object = value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        number = int(value)
    if not _is_int(number) or not isinstance(number, int) or not 0 < number < 1 << 64:
        raise InvalidCommand(f"{field} takes ids (numbers, or their digits), not {value!r}", field=field)
