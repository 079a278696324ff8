"""A session: what Discord remembers of us, and what it takes to continue it elsewhere."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Session"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway session as an immutable value. Take it out of one shard, and hand it to another.

    It holds no secret: without the token nobody can resume it. As a `msgspec.Struct` it can be stored with
    ``msgspec.json.encode`` and read back with ``msgspec.json.decode(data, type=Session)``.

    Attributes:
        id: Discord's name for the session (``session_id`` in READY).
        sequence: the ``s`` after which a Resume shall replay.
        resume_url: where it may be resumed (``resume_gateway_url`` in READY), without query parameters.
        shard: the ``(shard_id, num_shards)`` it was identified with.
        encoding: the ``encoding`` that a Resume has to repeat.
        compress: the transport compression that a Resume has to repeat, or ``None``.

    Source: *Gateway*, resuming.
    """

    id: str
    sequence: int
    resume_url: str
    shard: tuple[int, int] = (0, 1)
    encoding: str = "json"
    compress: Literal["zlib-stream", "zstd-stream"] | None = None

    def at(self, sequence: int) -> Session:
        """Return this session with another sequence."""
        return msgspec.structs.replace(self, sequence=sequence)
