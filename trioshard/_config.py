"""What a shard is opened with, checked once at the border."""

from __future__ import annotations

import math
import random
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trioshard._dial import dialer_for
from trioshard._open_transport import TRANSPORTS, require_websockets
from trioshard.protocol.commands import UpdatePresence, encode_command
from trioshard.protocol.compression import DEFAULT_MAX_MESSAGE, require_zstd
from trioshard.protocol.opcodes import Intents
from trioshard.protocol.pacing import Backoff
from trioshard.protocol.session import Session
from trioshard.protocol.url import check_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from trioshard._dial import Dialer
    from trioshard._proxies import Proxy
    from trioshard.protocol.compression import Compression

__all__ = ["DEFAULT_API_URL", "ShardConfig", "Token"]

DEFAULT_API_URL: Final = "https://discord.com/api/v10"

_COMPRESSIONS: Final = ("zlib-stream", "zstd-stream", "payload", None)

_LONGEST_TOKEN: Final = 200

_RANDOM: Final = random.Random()
"""The source of jitter for all shards of the process: its state takes 2.5 KiB."""


class Token:
    """A bot token that shows itself to nobody who prints it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("token must be the bot token from the Developer Portal, as text; it is empty")
        if value.startswith(("Bot ", "Bearer ")):
            raise ValueError("token is passed bare: leave out the 'Bot ' in front")
        if not all("!" <= character <= "~" for character in value.strip()):
            raise ValueError("token contains characters that no token has; copy it from the Developer Portal again")
        if len(value) > _LONGEST_TOKEN:
            raise ValueError(f"token has {len(value)} characters; no bot token is that long")
        self._value = value.strip()

    def reveal(self) -> str:
        """Return the token itself. Call this where it is written, and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "<Token>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """Everything that one shard needs to know. See `trioshard.open_shard` for what the fields mean.

    Raises:
        ValueError: a field makes no sense; the text says which and why.
        MissingDependency: ``compress="zstd-stream"`` without a zstd binding, ``transport="websockets"`` without
            that package, or a SOCKS proxy without ``python-socks``.
    """

    token: Token
    intents: int
    shard: tuple[int, int] = (0, 1)
    url: str | None = None
    api_url: str = DEFAULT_API_URL
    compress: Compression = "zlib-stream"
    transport: str = "auto"
    ssl_context: ssl.SSLContext | None = None
    presence: UpdatePresence | None = None
    session: Session | None = None
    events: bool = True
    write_timeout: float = 10.0
    keep_session: bool = False
    queue_capacity: int = 256
    max_message_size: int = DEFAULT_MAX_MESSAGE
    large_threshold: int | None = None
    backoff: Backoff = field(default_factory=Backoff)
    dial: Dialer | None = None
    proxy: Proxy | None = None
    trust_env: bool = True
    random: random.Random = _RANDOM
    wall_clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if not isinstance(self.intents, int) or isinstance(self.intents, bool):
            raise ValueError("intents is a combination of trioshard.Intents, such as Intents.GUILDS")
        unknown = self.intents & ~int(Intents.ALL)
        if unknown or self.intents < 0:
            raise ValueError(f"intents has bits that Discord does not know: {unknown:#x}; build it from Intents")
        _check_shard(self.shard)
        if self.url is not None:
            check_url(self.url)
        else:
            _check_api_url(self.api_url)
        if self.dial is not None and self.proxy is not None:
            raise ValueError("dial= opens the stream itself, and proxy= says how; pass one of them")
        self.dialer(self.url or self.api_url)
        if self.compress not in _COMPRESSIONS:
            raise ValueError(f"compress is one of {_COMPRESSIONS}, not {self.compress!r}")
        if self.compress == "zstd-stream":
            require_zstd()
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport is one of {TRANSPORTS}, not {self.transport!r}")
        if self.transport == "websockets":
            require_websockets()
        if not 0 < self.write_timeout < math.inf:
            raise ValueError("write_timeout is a positive number of seconds")
        if self.queue_capacity < 1 or self.max_message_size < 1:
            raise ValueError("queue_capacity and max_message_size are at least 1")
        if self.large_threshold is not None and not 50 <= self.large_threshold <= 250:
            raise ValueError("large_threshold is a number of members from 50 to 250")
        if self.presence is not None and not isinstance(self.presence, UpdatePresence):
            raise ValueError("presence is an UpdatePresence")
        if self.presence is not None:
            encode_command(self.presence)
        self._check_session()

    def _check_session(self) -> None:
        if self.session is None:
            return
        if not isinstance(self.session, Session):
            raise ValueError("session is a trioshard.Session")
        if tuple(self.session.shard) != tuple(self.shard):
            raise ValueError(f"the session belongs to shard {self.session.shard}, this is shard {self.shard}")
        check_url(self.session.resume_url)
        if self.session.compress == "zstd-stream":
            require_zstd()

    def dialer(self, url: str) -> Dialer:
        """Return what opens the stream to the host of a URL, of the gateway or of the API.

        Raises:
            ValueError: the environment names a proxy that is none.
        """
        if self.dial is not None:
            return self.dial
        return dialer_for(url, proxy=self.proxy, trust_env=self.trust_env, ssl_context=self.ssl_context)

    @property
    def properties(self) -> dict[str, str]:
        """The connection properties of Identify."""
        return {"os": sys.platform, "browser": "trioshard", "device": "trioshard"}


def _check_api_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError(f"api_url looks like {DEFAULT_API_URL}, not {url!r}")
    _ = parts.port  # raises ValueError itself when it is no number


def _check_shard(shard: tuple[int, int]) -> None:
    if (
        not isinstance(shard, tuple)
        or len(shard) != 2
        or not all(isinstance(number, int) and not isinstance(number, bool) for number in shard)
        or not 0 <= shard[0] < shard[1]
    ):
        raise ValueError(f"shard is (shard_id, num_shards) with 0 <= shard_id < num_shards, not {shard!r}")
