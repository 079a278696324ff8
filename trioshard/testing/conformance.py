"""Checks for session stores and identify queues of your own: what trioshard's pass, yours has to pass.

Each check is an async function for a Trio run that is given a way to open what it checks, and raises `Nonconformance`
with a sentence when that does not behave. With pytest and pytest-trio::

    @pytest.mark.trio
    @pytest.mark.parametrize("check", STORE_CHECKS)
    async def test_my_store(check):
        await check(open_my_store)  # an async context manager of the store

and likewise with `QUEUE_CHECKS` and ``open_my_queue(bot, spacing)``. Everything is opened several times, also side by
side; all of these have to see the same, as several processes would. Names of bots are made up for each check, so
nothing needs to be emptied in between. The checks take a few seconds, or none with a clock that jumps.

Unlike the gateway of `trioshard.testing`, this knows what it checks: it uses trioshard's values and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import uuid4

import trio

from trioshard.errors import SessionStartsExhausted, ShardClaimed
from trioshard.protocol.session import Session
from trioshard.protocol.starts import SessionStartLimit
from trioshard.protocol.stored import StoredSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from trioshard._identify_queue import IdentifyQueue
    from trioshard._store import SessionStore

    OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[SessionStore]]
    OpenQueue: TypeAlias = Callable[[str, float], AbstractAsyncContextManager[IdentifyQueue]]

__all__ = ["QUEUE_CHECKS", "STORE_CHECKS", "Nonconformance"]

SPACING: Final = 0.1
"""Seconds between two permits of a bucket, in these checks."""

TOLERANCE: Final = 0.002
"""Seconds by which two clocks may disagree."""

PATIENCE: Final = 20.0
"""Seconds after which something that should happen does not."""

PLENTY: Final = SessionStartLimit(total=1000, remaining=900, reset_after=3_600_000, max_concurrency=1)


class Nonconformance(AssertionError):
    """A store or a queue does not do what it promises."""


def expect(condition: object, sentence: str) -> None:
    """Raise `Nonconformance` unless a condition holds."""
    if not condition:
        raise Nonconformance(sentence)


def _bot() -> str:
    return uuid4().hex[:16]


def _stored(sequence: int, shard: tuple[int, int] = (0, 1)) -> StoredSession:
    session = Session(id="a1b2", sequence=sequence, resume_url="wss://gateway.example", shard=shard)
    return StoredSession(session=session, stored_at=1_700_000_000.25)


# --- stores ---


async def nothing_is_kept_of_a_new_bot(open_store: OpenStore) -> None:
    """`load` returns ``None`` where nothing was saved."""
    async with open_store() as store:
        expect(await store.load(_bot(), (0, 1)) is None, "something is loaded that nobody saved")


async def what_was_saved_is_loaded(open_store: OpenStore) -> None:
    """Every field comes back as it was, here and in another opening, also after the first has been closed."""
    bot = _bot()
    session = Session(
        id="Ω" * 40,
        sequence=2**40,
        resume_url="wss://gateway-us-east1-b.example",
        shard=(7, 16),
        compress="zstd-stream",
    )
    stored = StoredSession(session=session, stored_at=1_700_000_000.125)
    async with open_store() as store, open_store() as other:
        await store.save(bot, stored)
        expect(await store.load(bot, (7, 16)) == stored, "what is loaded is not what was saved")
        expect(await other.load(bot, (7, 16)) == stored, "another opening does not see what was saved")
    async with open_store() as store:
        expect(await store.load(bot, (7, 16)) == stored, "what was saved is gone after closing")


async def the_last_save_counts(open_store: OpenStore) -> None:
    """`save` replaces what is there."""
    bot = _bot()
    async with open_store() as store:
        for sequence in (1, 2, 3):
            await store.save(bot, _stored(sequence))
        expect(await store.load(bot, (0, 1)) == _stored(3), "an older save is loaded")


async def what_is_forgotten_is_gone(open_store: OpenStore) -> None:
    """`forget` drops what is there, and does not mind if there is nothing."""
    bot = _bot()
    async with open_store() as store:
        await store.save(bot, _stored(1))
        await store.forget(bot, (0, 1))
        await store.forget(bot, (0, 1))
        expect(await store.load(bot, (0, 1)) is None, "what was forgotten is loaded")


async def records_are_kept_apart(open_store: OpenStore) -> None:
    """Bots, shards and numbers of shards do not get into each other's way."""
    bot, stranger = _bot(), _bot()
    places = [(0, 1), (0, 2), (1, 2), (1, 112), (11, 12)]
    async with open_store() as store:
        for number, place in enumerate(places):
            await store.save(bot, _stored(number, place))
            await store.save(stranger, _stored(100 + number, place))
        await store.forget(stranger, (0, 2))
        for number, place in enumerate(places):
            expect(await store.load(bot, place) == _stored(number, place), f"shard {place} got another's record")


async def a_cancelled_save_is_whole_or_did_not_happen(open_store: OpenStore) -> None:
    """Cancelling `save` leaves the old record or the new one, and a store that works."""
    bot = _bot()
    async with open_store() as store:
        await store.save(bot, _stored(0))
        for attempt in range(1, 20):
            with trio.move_on_after(attempt * 0.0002):
                await store.save(bot, _stored(attempt))
            found = await store.load(bot, (0, 1))
            whole = [_stored(number) for number in range(attempt + 1)]
            expect(found in whole, f"a cancelled save left {found!r}")
        await store.save(bot, _stored(99))
        expect(await store.load(bot, (0, 1)) == _stored(99), "nothing is saved any more after a cancelled save")


async def many_may_save_at_once(open_store: OpenStore) -> None:
    """Tasks of two openings save side by side, and nothing is lost."""
    bot = _bot()
    async with open_store() as store, open_store() as other:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                where = store if number % 2 else other
                nursery.start_soon(where.save, bot, _stored(number, (number, 20)))
        for number in range(20):
            place = (number, 20)
            expect(await store.load(bot, place) == _stored(number, place), f"the record of shard {number} was lost")


async def a_shard_is_claimed_once(open_store: OpenStore) -> None:
    """A second claim is refused at once, from this opening and from another; others are free to claim theirs."""
    bot = _bot()
    async with open_store() as store, open_store() as other, store.claim(bot, (0, 2)):
        for where in (store, other):
            refused = False
            try:
                with trio.fail_after(PATIENCE):
                    async with where.claim(bot, (0, 2)):
                        pass
            except ShardClaimed as exc:
                refused = True
                expect(exc.shard == (0, 2), "ShardClaimed names another shard")
            expect(refused, "a shard was claimed twice")
            async with where.claim(bot, (1, 2)), where.claim(bot, (0, 4)), where.claim(_bot(), (0, 2)):
                pass


async def a_claim_ends_with_its_block(open_store: OpenStore) -> None:
    """However the block ends, the shard is free again; a claim that was refused has taken nothing away."""
    bot = _bot()
    async with open_store() as store, open_store() as other:
        async with store.claim(bot, (0, 1)):
            pass
        try:
            async with other.claim(bot, (0, 1)):
                raise KeyError
        except KeyError:
            pass
        with trio.CancelScope() as scope:
            async with store.claim(bot, (0, 1)):
                scope.cancel()
                await trio.lowlevel.checkpoint()
        async with other.claim(bot, (0, 1)):
            for _ in range(2):
                try:
                    async with store.claim(bot, (0, 1)):
                        raise Nonconformance("a claim does not survive the attempt of another")
                except ShardClaimed:
                    pass


async def a_bot_has_one_queue(open_store: OpenStore) -> None:
    """`identify_queue` returns the same for a bot, or always ``None``."""
    bot = _bot()
    async with open_store() as store:
        expect(store.identify_queue(bot) is store.identify_queue(bot), "a bot has two identify queues")


# --- queues ---


async def the_next_of_a_bucket_waits(open_queue: OpenQueue) -> None:
    """From the end of a permit to the next of its bucket the spacing is kept, between openings as well."""
    bot = _bot()
    async with open_queue(bot, SPACING) as queue, open_queue(bot, SPACING) as other:
        ended = -1e9
        for where in (queue, other, other, queue):
            async with where.permit((0, 1), PLENTY):
                expect(trio.current_time() - ended >= SPACING - TOLERANCE, "two permits of a bucket came too close")
                await trio.sleep(SPACING / 3)
                ended = trio.current_time()


async def nobody_enters_while_a_bucket_is_written(open_queue: OpenQueue) -> None:
    """A write that takes long keeps its bucket for as long."""
    bot = _bot()
    async with open_queue(bot, SPACING) as queue, open_queue(bot, SPACING) as other:
        inside: set[int] = set()
        overlaps: list[set[int]] = []

        async def identify(where: IdentifyQueue, shard_id: int) -> None:
            async with where.permit((shard_id, 4), PLENTY):
                overlaps.append(inside.copy())
                inside.add(shard_id)
                await trio.sleep(SPACING * 1.5)
                inside.remove(shard_id)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(identify, queue, 0)
                nursery.start_soon(identify, other, 1)
                nursery.start_soon(identify, queue, 2)
        expect(not any(overlaps), "two are inside the same bucket at once")


async def buckets_do_not_wait_for_each_other(open_queue: OpenQueue) -> None:
    """With ``max_concurrency`` 2, shards 0 and 1 are inside at once."""
    bot = _bot()
    two = SessionStartLimit(total=1000, remaining=900, reset_after=3_600_000, max_concurrency=2)
    async with open_queue(bot, 5.0) as queue, open_queue(bot, 5.0) as other:
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            async with queue.permit((0, 2), two), other.permit((1, 2), two):
                pass
        expect(trio.current_time() - began < 5.0, "shards of different buckets wait for each other")


async def an_unknown_limit_means_one_bucket(open_queue: OpenQueue) -> None:
    """With ``limit=None`` shards 0 and 1 keep their distance."""
    bot = _bot()
    async with open_queue(bot, SPACING) as queue:
        async with queue.permit((0, 2), None):
            pass
        ended = trio.current_time()
        async with queue.permit((1, 2), None):
            expect(trio.current_time() - ended >= SPACING - TOLERANCE, "an unknown limit is taken for a wide one")


async def a_changed_concurrency_is_read_carefully(open_queue: OpenQueue) -> None:
    """When ``max_concurrency`` changes, two permits keep their distance if either reading asks for it."""
    bot = _bot()
    wide = SessionStartLimit(total=1000, remaining=900, reset_after=3_600_000, max_concurrency=16)
    async with open_queue(bot, SPACING) as queue:
        ended = -1e9
        for shard_id, limit in ((0, wide), (1, PLENTY), (2, wide), (3, PLENTY)):
            async with queue.permit((shard_id, 16), limit):
                near = trio.current_time() - ended < SPACING - TOLERANCE
                expect(not near, "max_concurrency changed, and the wider reading won")
            ended = trio.current_time()


async def who_asks_first_goes_first(open_queue: OpenQueue) -> None:
    """Within an opening permits of a bucket come in the order of asking, and `statistics` shows who waits."""
    bot = _bot()
    order: list[int] = []
    async with open_queue(bot, SPACING) as queue:

        async def identify(shard_id: int) -> None:
            async with queue.permit((shard_id, 8), PLENTY):
                order.append(shard_id)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery, queue.permit((0, 8), PLENTY):
                for shard_id in (5, 3, 7):
                    nursery.start_soon(identify, shard_id)
                    await _wait_in_line(queue, shard_id)
                line = queue.statistics()
        expect((line.waiting, line.buckets) == ((5, 3, 7), (0,)), "statistics do not show who waits for which bucket")
    expect(order == [5, 3, 7], f"shards asked in the order 5, 3, 7 and were served in the order {order}")
    expect(queue.statistics().waiting == (), "somebody waits for ever in the statistics")


async def who_is_cancelled_holds_up_nobody(open_queue: OpenQueue) -> None:
    """A waiter that is cancelled has spent nothing, and the next one behind it gets the permit."""
    bot = _bot()
    served: list[int] = []
    async with open_queue(bot, SPACING) as queue:

        async def identify(shard_id: int, scope: trio.CancelScope) -> None:
            with scope:
                async with queue.permit((shard_id, 4), PLENTY):
                    served.append(shard_id)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                scopes = [trio.CancelScope() for _ in range(4)]
                async with queue.permit((0, 4), PLENTY):
                    for shard_id in (1, 2, 3):
                        nursery.start_soon(identify, shard_id, scopes[shard_id])
                        await _wait_in_line(queue, shard_id)
                    scopes[1].cancel()
                    scopes[2].cancel()
        expect(served == [3], f"shards 1 and 2 were cancelled, and {served} were served")
        left = queue.statistics().starts_left
        expect(left == 898, f"two starts of 900 were spent, and {left} are left: a cancelled waiter is counted")


async def what_was_entered_is_spent(open_queue: OpenQueue) -> None:
    """A body that fails or is cancelled has spent its start, and its window is kept."""
    bot = _bot()
    async with open_queue(bot, SPACING) as queue:
        try:
            async with queue.permit((0, 1), PLENTY):
                raise KeyError
        except KeyError:
            pass
        ended = trio.current_time()
        with trio.CancelScope() as scope:
            async with queue.permit((0, 1), PLENTY):
                near = trio.current_time() - ended < SPACING - TOLERANCE
                expect(not near, "the window of a failed write is not kept")
                scope.cancel()
                await trio.lowlevel.checkpoint()
        ended = trio.current_time()
        with trio.fail_after(PATIENCE):
            async with queue.permit((0, 1), PLENTY):
                near = trio.current_time() - ended < SPACING - TOLERANCE
                expect(not near, "the window of a cancelled write is not kept")
        left = queue.statistics().starts_left
        expect(left <= 897, f"three starts of 900 were spent, and {left} are left")


async def everybody_counts_the_same_starts(open_queue: OpenQueue) -> None:
    """Starts of all openings are counted, and a limit that is passed again is not newer for that."""
    bot = _bot()
    async with open_queue(bot, SPACING) as queue, open_queue(bot, SPACING) as other:
        for where in (queue, other, queue, other):
            async with where.permit((0, 1), PLENTY):
                pass
        left = other.statistics().starts_left
        expect(left <= 896, f"four starts of 900 were spent, and {left} are left")
        expect(left > 800, f"four starts of 900 were spent, and only {left} are left")


async def nothing_is_started_when_nothing_is_left(open_queue: OpenQueue) -> None:
    """With ``remaining`` 0 a permit is refused with the time of the reset; a newer limit opens the queue again."""
    bot = _bot()
    empty = SessionStartLimit(total=1000, remaining=0, reset_after=7_200_000, max_concurrency=1)
    async with open_queue(bot, SPACING) as queue:
        refused = False
        try:
            with trio.fail_after(PATIENCE):
                async with queue.permit((0, 1), empty):
                    pass
        except SessionStartsExhausted as exc:
            refused = True
            expect(exc.left == 0, "the error does not say that nothing is left")
            expect(7_000 < exc.reset_after <= 7_200, "the error does not say when the reset is")
        expect(refused, "a permit was given although no session start is left")
        with trio.fail_after(PATIENCE):
            async with queue.permit((0, 1), PLENTY):
                pass


async def _wait_in_line(queue: IdentifyQueue, shard_id: int) -> None:
    while True:
        if shard_id in queue.statistics().waiting:
            return
        await trio.sleep(0.001)


STORE_CHECKS: Final[tuple[Callable[[OpenStore], Awaitable[None]], ...]] = (
    nothing_is_kept_of_a_new_bot,
    what_was_saved_is_loaded,
    the_last_save_counts,
    what_is_forgotten_is_gone,
    records_are_kept_apart,
    a_cancelled_save_is_whole_or_did_not_happen,
    many_may_save_at_once,
    a_shard_is_claimed_once,
    a_claim_ends_with_its_block,
    a_bot_has_one_queue,
)
"""What a `SessionStore` has to pass."""

QUEUE_CHECKS: Final[tuple[Callable[[OpenQueue], Awaitable[None]], ...]] = (
    the_next_of_a_bucket_waits,
    nobody_enters_while_a_bucket_is_written,
    buckets_do_not_wait_for_each_other,
    an_unknown_limit_means_one_bucket,
    a_changed_concurrency_is_read_carefully,
    who_asks_first_goes_first,
    who_is_cancelled_holds_up_nobody,
    what_was_entered_is_spent,
    everybody_counts_the_same_starts,
    nothing_is_started_when_nothing_is_left,
)
"""What an `IdentifyQueue` has to pass."""
