"""Keeps the session of a running shard in a store, so that the next process goes on where this one ended.

What is stored is the sequence up to which every subscriber has finished. So after a crash events may come twice, those
of the last few seconds, but none is missing; after a stop in good order none comes twice.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from trioshard.errors import MissingDependency, ShardClosed, StoreError
from trioshard.protocol.stored import StoredSession

if TYPE_CHECKING:
    from trioshard._config import ShardConfig
    from trioshard._shard import Shard
    from trioshard._store import SessionStore
    from trioshard.protocol.session import Session

__all__ = ["SessionKeeper"]

LAST_SAVE_TIMEOUT: Final = 5.0
"""Seconds that the last save may take when the shard is left; it is shielded."""

logger = logging.getLogger("trioshard")


class SessionKeeper:
    """The place of one shard in a store.

    Args:
        store: where to keep it.
        bot: the `fingerprint` of the token.
        config: what the shard is to be opened with.
        interval: seconds between two saves. So much is repeated after a crash, at most.
    """

    def __init__(self, store: SessionStore, *, bot: str, config: ShardConfig, interval: float) -> None:
        self._store = store
        self._bot = bot
        self._config = config
        self._shard = config.shard
        self._interval = interval
        self._saved: Session | None = None
        self._in_trouble = False

    async def restore(self) -> ShardConfig:
        """Return the configuration with the stored session, if there is one that may still be alive and fits.

        A session that was passed by hand comes first.

        Raises:
            StoreError: the store cannot be read.
        """
        config = replace(self._config, keep_session=True)
        stored = await self._store.load(self._bot, self._shard)
        if stored is None or config.session is not None:
            return config
        age = self._config.wall_clock() - stored.stored_at
        self._saved = stored.session
        if not stored.may_be_alive(self._config.wall_clock()):
            logger.info("shard %d of %d: the stored session is %.0f s old, and not tried", *self._shard, age)
            return config
        try:
            config = replace(config, session=stored.session)
        except (ValueError, MissingDependency) as exc:
            logger.warning("shard %d of %d: the stored session is not tried: %s", *self._shard, exc)
        else:
            logger.info("shard %d of %d: a stored session is resumed, %.1f s after its last save", *self._shard, age)
        return config

    async def run(self, shard: Shard) -> None:
        """Save the session when the shard is ready, and from then on again and again, until cancelled.

        A store that fails is tried again.
        """
        with contextlib.suppress(ShardClosed):
            await shard.wait_ready()
        while True:
            await self._save(shard.session)
            await trio.sleep(self._interval)

    async def finish(self, session: Session | None) -> None:
        """Save the last word. Takes at most 5 s, shielded from cancellation."""
        with trio.move_on_after(LAST_SAVE_TIMEOUT, shield=True) as scope:
            await self._save(session)
        if scope.cancelled_caught:
            logger.warning("shard %d of %d: the session could not be stored in time", *self._shard)

    async def _save(self, session: Session | None) -> None:
        try:
            if session is not None:
                # Also when nothing has happened since: how old it is decides whether it is tried.
                await self._store.save(self._bot, StoredSession(session=session, stored_at=self._config.wall_clock()))
            elif self._saved is not None:
                await self._store.forget(self._bot, self._shard)
        except StoreError as exc:
            if not self._in_trouble:
                logger.warning(
                    "shard %d of %d: the session is not stored: %s. It is tried again; until then a crash loses more",
                    *self._shard,
                    exc,
                )
            self._in_trouble = True
        else:
            self._saved = session
            self._in_trouble = False
