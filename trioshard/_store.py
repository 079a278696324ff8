"""Where sessions are kept over restarts: the seam, and the store that forgets everything with its process."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, final

import trio

from trioshard._identify_queue import LocalIdentifyQueue
from trioshard.errors import ShardClaimed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from trioshard._identify_queue import IdentifyQueue
    from trioshard.protocol.stored import StoredSession

__all__ = ["MemoryStore", "SessionStore", "already_claimed", "fingerprint"]


def fingerprint(token: str) -> str:
    """Return the name of a bot in a store: 16 hexadecimal digits, the same in every process, and no secret.

    It tells tokens apart, and leads back to none. A bot token ends in more than 160 random bits, so nobody can go
    through the candidates, however fast the hash; and of what is left, 64 bits fit countless tokens, so that not even
    a lucky guess could be confirmed. The key only sees to it that the same token hashes differently elsewhere. After
    a token was reset, the bot has a new name: what was stored under the old one is not tried.
    """
    return blake2b(token.strip().encode(), digest_size=8, key=b"trioshard store").hexdigest()


class SessionStore(Protocol):
    """Keeps sessions over restarts, and sees to it that a shard runs once.

    ``bot`` is the `fingerprint` of a token, ``shard`` a ``(shard_id, num_shards)``: what was stored for another number
    of shards is another record. All methods may be cancelled; a `save` that was cancelled has happened whole or not
    at all. All raise `trioshard.errors.StoreError` when the store cannot be used now. `trioshard.testing.conformance`
    checks implementations.
    """

    async def load(self, bot: str, shard: tuple[int, int]) -> StoredSession | None:
        """Return what was last saved, or ``None``. How old it is, the caller judges."""
        ...

    async def save(self, bot: str, stored: StoredSession) -> None:
        """Keep a session in place of the one that is kept for ``stored.session.shard``."""
        ...

    async def forget(self, bot: str, shard: tuple[int, int]) -> None:
        """Drop what is kept for a shard, if there is anything."""
        ...

    def claim(self, bot: str, shard: tuple[int, int]) -> AbstractAsyncContextManager[None]:
        """Be the only one who runs a shard, for as long as the block lasts.

        Entering does not wait. A claim ends with its process, however that dies, and is never in the way of a restart.

        Raises:
            ShardClaimed: somebody else runs it, in this process or in another.
        """
        ...

    def identify_queue(self, bot: str) -> IdentifyQueue | None:
        """Return the queue for those who share this store, always the same for a bot; ``None`` if it has none."""
        ...


def already_claimed(shard: tuple[int, int], pid: int | None, since: float | None) -> ShardClaimed:
    """Return the error that tells who runs a shard."""
    if pid == os.getpid():
        who, remedy = "this process", "Open each shard once."
    else:
        who = "another process" if pid is None else f"process {pid}"
        remedy = "Stop it first, or give this one other shards."
    when = "" if since is None else f" since {time.strftime('%Y-%m-%d %H:%M:%S %z', time.localtime(since))}"
    return ShardClaimed(
        f"shard {shard[0]} of {shard[1]} is run by {who}{when}. Two would take each other's session starts and answer"
        f" everything twice, so nothing was sent. {remedy}",
        shard=shard,
        pid=pid,
        since=since,
    )


@final
class MemoryStore:
    """Keeps sessions for as long as the process lives. For tests, and for gateways that are opened again and again.

    Args:
        reserve: see `LocalIdentifyQueue`.
        guard: see `LocalIdentifyQueue`.
    """

    def __init__(self, *, reserve: int | None = None, guard: bool = True) -> None:
        self._reserve = reserve
        self._guard = guard
        self._sessions: dict[tuple[str, tuple[int, int]], StoredSession] = {}
        self._claims: dict[tuple[str, tuple[int, int]], float] = {}
        self._queues: dict[str, LocalIdentifyQueue] = {}

    async def load(self, bot: str, shard: tuple[int, int]) -> StoredSession | None:
        """See `SessionStore.load`."""
        await trio.lowlevel.checkpoint()
        return self._sessions.get((bot, shard))

    async def save(self, bot: str, stored: StoredSession) -> None:
        """See `SessionStore.save`."""
        await trio.lowlevel.checkpoint()
        self._sessions[bot, stored.session.shard] = stored

    async def forget(self, bot: str, shard: tuple[int, int]) -> None:
        """See `SessionStore.forget`."""
        await trio.lowlevel.checkpoint()
        self._sessions.pop((bot, shard), None)

    @asynccontextmanager
    async def claim(self, bot: str, shard: tuple[int, int]) -> AsyncGenerator[None]:
        """See `SessionStore.claim`."""
        await trio.lowlevel.checkpoint()
        key = (bot, shard)
        if key in self._claims:
            raise already_claimed(shard, os.getpid(), self._claims[key])
        self._claims[key] = time.time()
        try:
            yield
        finally:
            del self._claims[key]

    def identify_queue(self, bot: str) -> LocalIdentifyQueue:
        """See `SessionStore.identify_queue`."""
        return self._queues.setdefault(bot, LocalIdentifyQueue(reserve=self._reserve, guard=self._guard))
