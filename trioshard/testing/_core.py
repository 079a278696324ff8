"""What all connections of one gateway share."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import trio

from trioshard.testing import _payloads
from trioshard.testing._intents import wanted_by
from trioshard.testing._milestones import Milestones
from trioshard.testing._payloads import Guild, JSONObject
from trioshard.testing._report import Report
from trioshard.testing._sessions import Dispatch, Registry, Session
from trioshard.testing._settings import Settings


def encode(data: object) -> bytes:
    """`data` as JSON; bytes are taken as JSON already."""
    return data if isinstance(data, bytes) else msgspec.json.encode(data)


@dataclass(slots=True)
class Core:
    """The state of a gateway, without its sockets."""

    settings: Settings
    registry: Registry
    report: Report
    rng: Random
    milestones: Milestones = field(default_factory=Milestones)
    message_count: int = 0

    def publish(self, name: str, data: object, guild_id: int | None) -> int:
        """Dispatch to each session that gets such an event; their number."""
        return self.registry.publish(name, encode(data), guild_id, trio.current_time())

    def dispatch(self, session: Session, name: str, data: object, *, in_guild: bool = True) -> Dispatch | None:
        """Dispatch to one session, if its intents let it."""
        if self.settings.filter_intents and not wanted_by(session.intents, name, in_guild=in_guild):
            return None
        return session.append(name, encode(data))

    def carried_guilds(self, session: Session) -> list[Guild]:
        """The guilds of the session's shard."""
        return [guild for guild in self.settings.guilds if session.carries(guild.id)]

    def find_guild(self, guild_id: int) -> Guild | None:
        """The guild with this id."""
        return next((guild for guild in self.settings.guilds if guild.id == guild_id), None)

    def post_message(
        self,
        content: str,
        *,
        channel_id: int | None = None,
        guild_id: int | None = None,
        author: JSONObject | None = None,
        nonce: str | int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> JSONObject:
        """Make a message and publish its MESSAGE_CREATE. A channel that no guild has belongs to the first guild."""
        guild = None
        if guild_id is None and self.settings.guilds:
            guild = next(
                (g for g in self.settings.guilds if channel_id is not None and g.has_channel(channel_id)),
                self.settings.guilds[0],
            )
            guild_id = guild.id
        if channel_id is None:
            channel_id = 1 if guild_id is None else Guild(guild_id).text_channel_id
        self.message_count += 1
        message = _payloads.message(
            self.message_count,
            content,
            channel_id=channel_id,
            guild_id=guild_id,
            author=author,
            now=trio.current_time(),
            nonce=nonce,
            extra=extra,
        )
        self.publish("MESSAGE_CREATE", message, guild_id)
        return message
