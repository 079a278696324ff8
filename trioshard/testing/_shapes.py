"""The shape of `d` for each opcode that a client may send."""

from __future__ import annotations

from typing import Annotated, Any, Final, Optional

import msgspec
from msgspec import UNSET, Meta, UnsetType

SnowflakeText = Annotated[str, Meta(pattern=r"^\d{1,20}$")]
Snowflake = SnowflakeText | Annotated[int, Meta(ge=0)]
"""Discord asks for strings of digits and takes numbers as well."""


class Activity(msgspec.Struct):
    """One activity of a presence; bots may set these four fields, others are ignored."""

    name: str
    type: Annotated[int, Meta(ge=0, le=5)]
    state: str | None = None
    url: str | None = None


class Presence(msgspec.Struct):
    """op 3."""

    since: int | float | None
    activities: list[Activity]
    status: str
    afk: bool


class IdentifyPresence(msgspec.Struct):
    """The presence inside op 2. Clients in use leave fields out, and Discord takes it."""

    since: int | float | None = None
    activities: list[Activity] = []
    status: str = "online"
    afk: bool = False


class Properties(msgspec.Struct):
    """Who the client is, in op 2."""

    os: str
    browser: str
    device: str


class Identify(msgspec.Struct):
    """op 2."""

    token: str
    properties: Properties
    intents: int
    compress: bool = False
    large_threshold: Annotated[int, Meta(ge=50, le=250)] = 50
    shard: tuple[int, int] | None = None
    presence: IdentifyPresence | None = None

    def __repr__(self) -> str:
        return f"<Identify shard={self.shard} intents={self.intents}>"


class Resume(msgspec.Struct):
    """op 6."""

    token: str
    session_id: str
    seq: int

    def __repr__(self) -> str:
        return f"<Resume seq={self.seq}>"


class VoiceState(msgspec.Struct):
    """op 4."""

    guild_id: Snowflake
    channel_id: Snowflake | None
    self_mute: bool
    self_deaf: bool


class RequestMembers(msgspec.Struct):
    """op 8. One of `query` and `user_ids` is needed; `limit` goes with `query`."""

    guild_id: Snowflake
    query: str | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    presences: bool = False
    user_ids: Snowflake | list[Snowflake] | UnsetType = UNSET
    nonce: Any = None

    def __post_init__(self) -> None:
        if self.user_ids is UNSET:
            if self.query is UNSET:
                raise ValueError("one of `query` and `user_ids` is needed")
            if self.limit is UNSET:
                raise ValueError("`query` needs `limit`")

    @property
    def is_full_list(self) -> bool:
        """Whether everybody is asked for: the one form that is limited for each guild."""
        return self.user_ids is UNSET and self.query == "" and self.limit == 0

    @property
    def usable_nonce(self) -> str | None:
        """The nonce to echo; one that is too long or no string is ignored."""
        if isinstance(self.nonce, str) and len(self.nonce.encode()) <= 32:
            return self.nonce
        return None


class RequestSoundboardSounds(msgspec.Struct):
    """op 31."""

    guild_ids: list[Snowflake]


class RequestChannelInfo(msgspec.Struct):
    """op 43."""

    guild_id: Snowflake
    fields: list[str]


Body = (
    Identify
    | Resume
    | Presence
    | VoiceState
    | RequestMembers
    | RequestSoundboardSounds
    | RequestChannelInfo
    | int
    | None
)
"""`d` of a payload after its shape was found right. A heartbeat's is an int or None."""

_SHAPES: Final[dict[int, Any]] = {
    1: Optional[Annotated[int, Meta(ge=0)]],  # noqa: UP045 - `|` is for classes
    2: Identify,
    3: Presence,
    4: VoiceState,
    6: Resume,
    8: RequestMembers,
    31: RequestSoundboardSounds,
    43: RequestChannelInfo,
}


def read_body(op: int, data: object) -> Body:
    """`data` in the shape that `op` asks for. Raises :exc:`msgspec.ValidationError` when it is another."""
    body: Body = msgspec.convert(data, _SHAPES[op])
    return body
