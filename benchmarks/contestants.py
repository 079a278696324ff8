"""Who is measured, how each is used, and what it takes to run it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

__all__ = ["BARE", "CONTESTANTS", "DISCORD_PY", "HIKARI", "PEERS", "TRIOSHARD", "TRIOSHARD_TW", "Contestant"]

TRIOSHARD: Final = "trioshard"
TRIOSHARD_TW: Final = "trioshard-tw"
DISCORD_PY: Final = "discord.py"
HIKARI: Final = "hikari"
BARE: Final = "bare"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A client.

    Attributes:
        name: in tables and on the command line.
        module: the program.
        needs: the packages that must be importable, with their names for pip.
        shown: the distributions whose versions matter.
        zstd_needs: as ``needs``, for zstd.
        arguments: what the program is told in addition.
        settings: how the library is used, in words.
    """

    name: str
    module: str
    needs: dict[str, str]
    shown: tuple[str, ...]
    zstd_needs: dict[str, str]
    arguments: tuple[str, ...] = ()
    settings: str

    def missing(self, compression: str | None) -> str | None:
        """Return a sentence about what is not installed, or ``None``."""
        needs = self.needs | (self.zstd_needs if compression == "zstd-stream" else {})
        lacking = [package for module, package in needs.items() if not _is_there(module)]
        if not lacking:
            return None
        return f"{' and '.join(lacking)} not installed: pip install 'trioshard[bench]'"

    def versions(self) -> dict[str, str]:
        """Return the versions of what is installed of ``shown``."""
        found: dict[str, str] = {}
        for name in self.shown:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


_ZSTD: Final = {"backports.zstd": "backports.zstd"}
_ASYNCIO: Final = {"aiohttp": "aiohttp", "orjson": "orjson"}

CONTESTANTS: Final = {
    each.name: each
    for each in (
        Contestant(
            name=TRIOSHARD,
            module="benchmarks.clients.trioshard_client",
            needs={"websockets": "websockets", "zlib_ng": "zlib-ng"},
            shown=("trioshard", "trio", "websockets", "zlib-ng", "msgspec", "backports.zstd"),
            zstd_needs=_ZSTD,
            arguments=("--transport", "websockets"),
            settings="`open_shard(…, transport='websockets')`, the default with `trioshard[speed]`."
            " Raw: `async for event in shard.subscribe()`. Typed: `shard.subscribe(events.MessageCreate)`."
            " Nothing else is set. The extra brings zlib-ng, which inflates zlib-stream; all others use Python's zlib.",
        ),
        Contestant(
            name=TRIOSHARD_TW,
            module="benchmarks.clients.trioshard_client",
            needs={"trio_websocket": "trio-websocket"},
            shown=("trio-websocket", "wsproto"),
            zstd_needs=_ZSTD,
            arguments=("--transport", "trio-websocket"),
            settings="The same with `transport='trio-websocket'`, as without extras: zlib-ng is hidden from it.",
        ),
        Contestant(
            name=DISCORD_PY,
            module="benchmarks.clients.discord_py_client",
            needs={"discord": "discord.py", **_ASYNCIO},
            shown=("discord.py", "aiohttp", "orjson", "zstandard"),
            zstd_needs={"zstandard": "zstandard"},
            settings="`Client(max_messages=None, member_cache_flags=MemberCacheFlags.none(),"
            " chunk_guilds_at_startup=False)`; several shards: `AutoShardedClient` with a `before_identify_hook` that"
            " does not wait. Raw: `on_socket_event_type`. Typed: `on_message`. It decodes with orjson, as it does"
            " wherever that is installed. It takes zstd if `zstandard` is installed and zlib otherwise, and has no"
            " setting for it: the package is hidden from it where zlib is measured.",
        ),
        Contestant(
            name=HIKARI,
            module="benchmarks.clients.hikari_client",
            needs={"hikari": "hikari", **_ASYNCIO},
            shown=("hikari", "aiohttp", "orjson", "ciso8601", "backports.zstd"),
            zstd_needs=_ZSTD,
            settings="`GatewayBot(cache_settings=CacheSettings(components=CacheComponents.NONE),"
            " auto_chunk_members=False, banner=None, logs=None)`, with its speedups. Raw: a listener for"
            " `ShardPayloadEvent`. Typed: for `MessageCreateEvent`. A bot takes zstd if `backports.zstd` is installed"
            " and zlib otherwise, and has no setting for it: the package is hidden from it where zlib is measured.",
        ),
        Contestant(
            name=BARE,
            module="benchmarks.clients.bare_client",
            needs=_ASYNCIO,
            shown=("aiohttp", "orjson", "backports.zstd"),
            zstd_needs=_ZSTD,
            settings="No library: `async for` over aiohttp's `ws_connect(max_msg_size=0)`, `zlib.decompressobj`,"
            " `orjson.loads`, a look at `op`, `t` and `s`. It does not resume, keep order for anybody, or limit what it"
            " sends. In the typed work it does the same, for it has the dict.",
        ),
    )
}
"""By name, in the order of the tables."""

PEERS: Final = (DISCORD_PY, HIKARI)
"""The other libraries. The bare loop is none: it is the floor."""
