"""How a gateway was opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from trioshard.testing._payloads import Guild


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of :func:`~trioshard.testing.open_local_gateway`, with the addresses that came of them."""

    url: str
    resume_url: str
    token: str | None = field(repr=False)
    heartbeat_interval: float
    """Seconds."""
    heartbeat_grace: float
    """Seconds."""
    max_concurrency: int
    session_starts: int
    identify_window: float
    """Seconds."""
    shards: int
    guilds: tuple[Guild, ...]
    allowed_intents: int | None
    filter_intents: bool
    session_ttl: float
    """Seconds."""
    replay_limit: int
