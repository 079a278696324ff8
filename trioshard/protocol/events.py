"""What arrives: dispatches, and the typed events that they are decoded to when somebody asks.

A `Dispatch` is an event as it came, its data undecoded. A typed event is a frozen struct with the documented
fields; whatever else Discord sent is in ``event.dispatch.json()``. Decoding happens at most once for each
dispatch, in the task of the subscriber that asked for the type.

Discord may add fields and events at any time: unknown fields are ignored, unknown events are dispatches. Ids are
``int``, whether they came as text or as numbers.

Source: *Gateway Events*, receive events.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from trioshard.errors import GatewayProtocolError
from trioshard.protocol import codec, objects

__all__ = [
    "EVENT_TYPES",
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

E = TypeVar("E", bound="Event")


class Dispatch(msgspec.Struct, eq=False):
    """One event as it came from the gateway.

    Attributes:
        name: the event's name, such as ``"MESSAGE_CREATE"``.
        sequence: its ``s``; ``None`` if it came without.
        shard: the ``(shard_id, num_shards)`` it came to.
        session_id: the session it belongs to.
    """

    # A struct only because there is nothing that Python makes faster.
    name: str
    sequence: int | None
    shard: tuple[int, int]
    _raw: msgspec.Raw | bytes
    session_id: str = ""
    _event: Event | None = None

    @property
    def raw(self) -> bytes:
        """The bytes of ``d``: JSON, in UTF-8."""
        return bytes(self._raw)

    def json(self) -> Any:
        """Decode ``d`` to plain Python objects, anew at each call.

        Raises:
            GatewayProtocolError: it cannot be decoded.
        """
        return codec.decode_json(self._raw)

    def decode(self, kind: type[E]) -> E:
        """Return this dispatch as a typed event; it is decoded at the first call only (of the same type).

        Raises:
            GatewayProtocolError: the data do not fit the type.
        """
        if isinstance(self._event, kind):
            return self._event
        # An ordinary assignment: only that tells the collector that this object may be part of a circle from now on.
        self._event = event = self.decode_anew(kind)
        return event

    def decode_anew(self, kind: type[E]) -> E:
        """Do as `decode`, but keep nothing: dispatch and event would hold each other until the collector comes.

        Raises:
            GatewayProtocolError: the data do not fit the type.
        """
        try:
            event: E = kind.decoder().decode(self._raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise GatewayProtocolError(f"{self.name} does not fit {kind.__name__}: {exc}") from exc
        msgspec.structs.force_setattr(event, "dispatch", self)
        return event

    def __repr__(self) -> str:
        return f"<Dispatch {self.name} s={self.sequence} shard={self.shard}>"


_NO_DISPATCH: Final = Dispatch("", None, (0, 1), b"null")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all typed events.

    Subclass it, with ``NAME`` and fields of your own, to subscribe to an event that has no type here.

    Attributes:
        dispatch: the event as it came, with shard, sequence and all fields that are not listed here.
    """

    NAME: ClassVar[str] = ""

    # Never on the wire: no event of Discord has a field by this name.
    dispatch: Dispatch = msgspec.field(default_factory=lambda: _NO_DISPATCH, name="trioshard dispatch")

    @classmethod
    def decoder(cls) -> msgspec.json.Decoder[Any]:
        """Return the decoder of this type. It takes ids as text and as numbers."""
        try:
            return _decoders[cls]
        except KeyError:
            return _decoders.setdefault(cls, msgspec.json.Decoder(cls, strict=False))


_decoders: Final[dict[type[Event], msgspec.json.Decoder[Any]]] = {}


class Ready(Event, frozen=True, kw_only=True):
    """The session is open. Guilds come as unavailable; a GUILD_CREATE follows for each."""

    NAME = "READY"

    session_id: str
    resume_gateway_url: str
    user: objects.User
    v: int = 0
    guilds: list[objects.UnavailableGuild] = []
    shard: tuple[int, int] | None = None


class Resumed(Event, frozen=True, kw_only=True):
    """The session goes on, and everything missed has been replayed."""

    NAME = "RESUMED"


class RateLimited(Event, frozen=True, kw_only=True):
    """A command was dropped by Discord because it came too often.

    Attributes:
        opcode: of the command.
        retry_after: seconds until it may be sent again.
        meta: what identifies the command; for op 8 ``guild_id`` and perhaps ``nonce``.
    """

    NAME = "RATE_LIMITED"

    opcode: int
    retry_after: float
    meta: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Numbers may come as text, and "nan" is one: nobody can sleep for so long.
        if not math.isfinite(self.retry_after):
            raise ValueError(f"retry_after is {self.retry_after}")


class MessageCreate(Event, frozen=True, kw_only=True):
    """A message was sent.

    Without the MESSAGE_CONTENT intent, ``content`` and ``attachments`` are empty, except in messages that mention the
    bot, in direct messages, and in the bot's own. ``guild_id`` is ``None`` in direct messages.
    """

    NAME = "MESSAGE_CREATE"

    id: int
    channel_id: int
    author: objects.User
    content: str = ""
    timestamp: str = ""
    guild_id: int | None = None
    member: objects.Member | None = None
    type: int = 0
    flags: int = 0
    tts: bool = False
    pinned: bool = False
    mention_everyone: bool = False
    mentions: list[objects.User] = []
    mention_roles: list[int] = []
    attachments: list[objects.Attachment] = []
    webhook_id: int | None = None
    nonce: int | str | None = None


class InteractionCreate(Event, frozen=True, kw_only=True):
    """A command, component, autocomplete or modal was used. Answer over HTTP within 3 s, or the token is void.

    Attributes:
        type: 1 ping, 2 command, 3 component, 4 autocomplete, 5 modal.
        token: what authorises the answer, for 15 minutes.
        member: who used it, in a guild; ``user`` in direct messages.
    """

    NAME = "INTERACTION_CREATE"

    id: int
    application_id: int
    type: int
    token: str
    data: dict[str, Any] = {}
    guild: objects.Guild | None = None
    guild_id: int | None = None
    channel_id: int | None = None
    member: objects.Member | None = None
    user: objects.User | None = None
    locale: str | None = None
    guild_locale: str | None = None
    app_permissions: str = ""
    context: int | None = None

    def __repr__(self) -> str:
        # The token lets anybody answer in the bot's name: it must not end up in a log.
        return f"<InteractionCreate {self.id} type={self.type} from {self.dispatch!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id), ("type", self.type), ("dispatch", self.dispatch)]


class GuildCreate(Event, frozen=True, kw_only=True):
    """A guild is available: after READY, after an outage, or because the bot joined it.

    In an outage (``unavailable`` is true) no field but the id is certain. Member lists are to be taken as partial.
    """

    NAME = "GUILD_CREATE"

    id: int
    unavailable: bool = False
    name: str = ""
    owner_id: int | None = None
    joined_at: str | None = None
    large: bool = False
    member_count: int = 0
    members: list[objects.Member] = []
    voice_states: list[objects.VoiceState] = []
    channels: list[dict[str, Any]] = []
    threads: list[dict[str, Any]] = []
    roles: list[dict[str, Any]] = []


class GuildMembersChunk(Event, frozen=True, kw_only=True):
    """Up to 1,000 of the members that a `RequestMembers` asked for.

    ``not_found`` lists the ids that matched nobody; Discord may send those as numbers or as text.
    """

    NAME = "GUILD_MEMBERS_CHUNK"

    guild_id: int
    members: list[objects.Member]
    chunk_index: int
    chunk_count: int
    not_found: list[int | str] = []
    presences: list[dict[str, Any]] = []
    nonce: str | None = None


class VoiceStateUpdate(Event, frozen=True, kw_only=True):
    """Somebody joined, moved in, or left voice; ``channel_id`` is ``None`` after leaving."""

    NAME = "VOICE_STATE_UPDATE"

    user_id: int
    session_id: str = ""
    guild_id: int | None = None
    channel_id: int | None = None
    member: objects.Member | None = None
    deaf: bool = False
    mute: bool = False
    self_deaf: bool = False
    self_mute: bool = False
    self_stream: bool = False
    self_video: bool = False
    suppress: bool = False


class VoiceServerUpdate(Event, frozen=True, kw_only=True):
    """A voice server was assigned. ``endpoint`` has no scheme; ``None`` means: gone, wait for the next."""

    NAME = "VOICE_SERVER_UPDATE"

    token: str
    guild_id: int
    endpoint: str | None = None

    def __repr__(self) -> str:
        return f"<VoiceServerUpdate guild_id={self.guild_id} endpoint={self.endpoint!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("guild_id", self.guild_id), ("endpoint", self.endpoint)]


class PresenceUpdate(Event, frozen=True, kw_only=True):
    """A user's presence changed.

    Discord validates none of it: any field may be missing or have another type. Only ``user.id`` is typed strictly;
    look at the rest with care.
    """

    NAME = "PRESENCE_UPDATE"

    user: objects.PartialUser
    guild_id: Any = None
    status: Any = None
    activities: Any = None
    client_status: Any = None


EVENT_TYPES: Final[dict[str, type[Event]]] = {
    kind.NAME: kind
    for kind in (
        Ready,
        Resumed,
        RateLimited,
        MessageCreate,
        InteractionCreate,
        GuildCreate,
        GuildMembersChunk,
        VoiceStateUpdate,
        VoiceServerUpdate,
        PresenceUpdate,
    )
}
"""The typed events by name. Every other event is a `Dispatch`."""
