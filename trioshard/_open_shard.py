"""`open_shard`, and which exception the user gets when several happen.

The policy, and the tests hold it:

1. What the body raises leaves as it is, never wrapped in a group that trioshard made.
2. When the shard fails for good, the body is cancelled and the `ShardFailed` leaves, bare.
3. When both happen, the body's exception leaves, with the shard's failure as a note: the body's error would
   otherwise be hidden. Only a body that ended with `ShardClosed`, the echo of the failure, gives way to it.
4. Cancellation and KeyboardInterrupt pass through.
5. A fault inside trioshard leaves bare as well, and ends the body.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from trioshard._config import DEFAULT_API_URL, ShardConfig, Token
from trioshard._groups import members_of
from trioshard._proxies import Proxy
from trioshard._session_keeper import SessionKeeper
from trioshard._shard import Shard
from trioshard._store import fingerprint
from trioshard.errors import ShardClosed, ShardFailed
from trioshard.protocol.compression import DEFAULT_MAX_MESSAGE
from trioshard.protocol.pacing import Backoff

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from trioshard._dial import Dialer
    from trioshard._identify_queue import IdentifyQueue
    from trioshard._store import SessionStore
    from trioshard.protocol.commands import UpdatePresence
    from trioshard.protocol.compression import Compression
    from trioshard.protocol.opcodes import Intents
    from trioshard.protocol.session import Session

__all__ = ["open_shard", "run_shard"]

LEAVE_TIMEOUT: Final = 2.0
"""Seconds that a write in flight may still take when the block is left."""


@asynccontextmanager
async def open_shard(
    token: str,
    *,
    intents: Intents | int,
    shard: tuple[int, int] = (0, 1),
    url: str | None = None,
    api_url: str = DEFAULT_API_URL,
    compress: Compression = "zlib-stream",
    transport: str = "auto",
    ssl_context: ssl.SSLContext | None = None,
    dial: Dialer | None = None,
    proxy: str | None = None,
    trust_env: bool = True,
    presence: UpdatePresence | None = None,
    session: Session | None = None,
    keep_session: bool = False,
    events: bool = True,
    write_timeout: float = 10.0,
    queue_capacity: int = 256,
    max_message_size: int = DEFAULT_MAX_MESSAGE,
    large_threshold: int | None = None,
    backoff: Backoff | None = None,
    store: SessionStore | None = None,
    save_interval: float = 5.0,
    identify_queue: IdentifyQueue | None = None,
) -> AsyncGenerator[Shard]:
    """Open one shard, and keep it connected for as long as the block lasts.

    The block is entered at once: connecting goes on in the background, commands wait for it, and
    `Shard.wait_ready` tells when it is done. Leaving the block ends the connection and every task.

    Args:
        token: the bot token, without ``"Bot "`` in front.
        intents: which groups of events to receive.
        shard: ``(shard_id, num_shards)``.
        url: the gateway, such as ``wss://gateway.discord.gg``. ``None`` asks ``GET /gateway/bot`` of ``api_url``.
        api_url: the HTTP API; only used when ``url`` is ``None``.
        compress: ``"zlib-stream"``, ``"zstd-stream"`` (needs ``trioshard[zstd]``), ``"payload"``, or ``None``.
        transport: which WebSocket library: ``"websockets"`` (needs ``trioshard[speed]``), ``"trio-websocket"``, or
            ``"auto"`` for the former where it is installed. They behave alike; the former takes less CPU.
        ssl_context: how to verify the gateway, the HTTP API, and an ``https://`` proxy; ``None`` is the system's
            trust store.
        dial: opens the stream to ``(host, port)``, of the gateway and of the HTTP API; proxies are then your affair.
            ``None`` is TCP, or a proxy.
        proxy: a proxy for the gateway and the HTTP API, such as ``http://user:password@host:3128``, ``https://…``, or
            ``socks5://…`` (needs ``trioshard[socks]``). Names are resolved by the proxy.
        trust_env: whether to use the proxy that ``HTTPS_PROXY``, ``HTTP_PROXY`` or ``ALL_PROXY`` names when none was
            given, with the exceptions of ``NO_PROXY``. Streams to this machine never go through it.
        presence: what a new session begins with. `Shard.update_presence` replaces it.
        session: a session to resume, as an earlier shard left it in `Shard.session`.
        keep_session: leave with a close code that keeps the session resumable for a few minutes. By default the
            session is ended, and the bot goes offline at once (as far as there is a connection to say so on:
            otherwise Discord keeps it for those minutes).
        events: whether events wait for the first subscriber. Say ``False`` if the shard is used only for sending.
        write_timeout: seconds after which a write that does not get through counts as a broken connection.
        queue_capacity: how many commands may wait.
        max_message_size: bytes that one message may have after inflating.
        large_threshold: above how many members (50 to 250) GUILD_CREATE lists are partial.
        backoff: how long to wait between attempts.
        store: keeps the session over restarts, whatever ends the process: `SqliteStore`, or one of your own. The shard
            resumes what is stored, leaves its session resumable (as with ``keep_session``), and runs once: a second one
            with the same token and store is refused.
        save_interval: seconds between two saves. After a crash so many seconds of events may come again; none is
            missing as long as Discord keeps the session.
        identify_queue: whom to ask before each new session. ``None`` is the store's, which all processes that share it
            ask, or else one for this shard alone.

    Raises:
        ValueError: an argument makes no sense.
        MissingDependency: ``compress="zstd-stream"`` without a zstd binding, ``transport="websockets"`` without
            that package, or a SOCKS proxy without ``python-socks``.
        ShardFailed: the shard ended for good; see `trioshard.errors` for its kinds. The body was cancelled. Before the
            block is entered: `ShardClaimed`.
        StoreError: the store cannot be read. When it cannot be written later, that is logged, and tried again.

    What the body raises passes through as it is. When cancelled, the shard says goodbye (at most a second,
    shielded) and is gone; with a store, when the session has been saved (at most five more, shielded).

    Source: *Gateway*, connecting; *Gateway Events*, identify.
    """
    config = ShardConfig(
        token=Token(token),
        intents=intents,
        shard=shard,
        url=url,
        api_url=api_url,
        compress=compress,
        transport=transport,
        ssl_context=ssl_context,
        dial=dial,
        proxy=None if proxy is None else Proxy.parse(proxy),
        trust_env=trust_env,
        presence=presence,
        session=session,
        keep_session=keep_session,
        events=events,
        write_timeout=write_timeout,
        queue_capacity=queue_capacity,
        max_message_size=max_message_size,
        large_threshold=large_threshold,
        backoff=Backoff() if backoff is None else backoff,
    )
    if not 0 < save_interval < math.inf:
        raise ValueError("save_interval is a positive number of seconds")
    async with AsyncExitStack() as stack:
        keeper: SessionKeeper | None = None
        if store is not None:
            bot = fingerprint(config.token.reveal())
            await stack.enter_async_context(store.claim(bot, config.shard))
            keeper = SessionKeeper(store, bot=bot, config=config, interval=save_interval)
            config = await keeper.restore()
            identify_queue = identify_queue or store.identify_queue(bot)
        yield await stack.enter_async_context(run_shard(Shard(config, identify_queue=identify_queue), keeper))


@asynccontextmanager
async def run_shard(shard: Shard, keeper: SessionKeeper | None = None) -> AsyncGenerator[Shard]:
    """Run a shard in the background of a block. ``keeper``: keeps its session."""
    failure: ShardFailed | None = None
    body_error: BaseException | None = None

    async def run() -> None:
        nonlocal failure
        try:
            await shard.run()
        except ShardFailed as exc:
            failure = exc
            shard.close(failure)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            if keeper is not None:
                nursery.start_soon(keeper.run, shard)
            try:
                yield shard
            except BaseException as exc:
                if _has_cancelled(exc):
                    raise
                # Kept, and raised below: leaving the nursery would wrap it in a group.
                body_error = exc
            with trio.move_on_after(LEAVE_TIMEOUT):
                await shard.leave()
            nursery.cancel_scope.cancel()
    except trio.Cancelled:
        if body_error is None:
            raise
    except BaseExceptionGroup as group:
        fault = group.exceptions[0] if len(group.exceptions) == 1 else group
        if body_error is None:
            body_error = fault
        elif not _is_only(trio.Cancelled, fault):
            body_error.add_note(f"Meanwhile: {fault!r}")
    finally:
        shard.close(failure)
        if keeper is not None:
            await keeper.finish(shard.session)
    if failure is not None and (body_error is None or _is_only(ShardClosed, body_error)):
        raise failure
    if body_error is not None:
        if failure is not None:
            body_error.add_note(f"Meanwhile the shard failed: {failure}")
        raise body_error


def _has_cancelled(error: BaseException) -> bool:
    return isinstance(error, trio.Cancelled) or any(map(_has_cancelled, members_of(error)))


def _is_only(kind: type[BaseException], error: BaseException) -> bool:
    """Return whether an exception is of this kind, or a group of nothing else at any depth."""
    members = members_of(error)
    return isinstance(error, kind) or (bool(members) and all(_is_only(kind, member) for member in members))
