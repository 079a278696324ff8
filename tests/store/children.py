"""Processes that use a store, and get killed. Run as a script: what to do, the path of the store, and numbers."""

from __future__ import annotations

import os
import signal
import sys
import time

import trio

from trioshard._store_sqlite import SqliteStore
from trioshard.errors import TrioshardError
from trioshard.protocol.session import Session
from trioshard.protocol.starts import SessionStartLimit
from trioshard.protocol.stored import StoredSession

BOT = "0123456789abcdef"

TWO_BUCKETS = SessionStartLimit(total=1000, remaining=1000, reset_after=3_600_000, max_concurrency=2)


def say(*words):
    print(*words, flush=True)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def session(sequence):
    """One whose fields tell whether they belong together."""
    return Session(id=f"{sequence:064d}", sequence=sequence, resume_url=f"wss://{sequence}.example")


async def claim(path):
    async with SqliteStore(path) as store, store.claim(BOT, (0, 1)):
        say("claimed")
        await trio.sleep_forever()


async def try_claim(path):
    try:
        async with SqliteStore(path) as store, store.claim(BOT, (0, 1)):
            say("claimed")
    except TrioshardError as exc:
        say(type(exc).__name__)


async def save(path):
    async with SqliteStore(path) as store:
        sequence = 0
        while True:
            sequence += 1
            await store.save(BOT, StoredSession(session=session(sequence), stored_at=time.time()))
            say(sequence)


async def hold(path, spacing, lease):
    async with SqliteStore(path, spacing=float(spacing), lease=float(lease)) as store:
        async with store.identify_queue(BOT).permit((0, 1), None):
            say("inside", time.monotonic())
            await trio.sleep_forever()


async def identify(path, spacing, count):
    """Write when each Identify was written, in the middle of its permit."""
    async with SqliteStore(path, spacing=float(spacing), guard=False) as store:
        queue = store.identify_queue(BOT)

        async def run(shard_id, times):
            for _ in range(times):
                async with queue.permit((shard_id, 4), TWO_BUCKETS):
                    await trio.sleep(0.001 * (shard_id % 3))
                    say(shard_id % 2, time.monotonic())

        async with trio.open_nursery() as nursery:
            for shard_id in range(4):
                nursery.start_soon(run, shard_id, int(count) // 4)


async def save_on_a_full_disk(path, limit):
    import resource

    async with SqliteStore(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        try:
            for number in range(10_000):
                crowd = Session(id="x" * 400, sequence=number, resume_url="wss://x", shard=(number, 10_000))
                await store.save(BOT, StoredSession(session=crowd, stored_at=1e9))
        except TrioshardError as exc:
            say(number, type(exc).__name__, exc)
            found = await store.load(BOT, (0, 10_000))
            say("still readable" if found is not None else "lost")


async def save_as_nobody(path):
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        async with SqliteStore(path) as store:
            await store.save(BOT, StoredSession(session=session(1), stored_at=1e9))
    except TrioshardError as exc:
        say(type(exc).__name__, exc)


async def start_and_die(path, now, dies_inside):
    """One life of a bot that crashes: identify if that is allowed, otherwise be killed while waiting."""
    store = SqliteStore(path, wall_clock=lambda: now, clock=lambda: now)
    queue = store.identify_queue(BOT)

    async def live():
        async with queue.permit((0, 1), None):
            say(os.getpid(), "identified")
            if dies_inside:
                die()
        die()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        while not (wait := queue.statistics().next_permit or 0.0):
            await trio.sleep(0.001)
        say(os.getpid(), wait)
        die()


def crash_loop(path, lives):
    """Fork one life after the other, six seconds apart or when it may identify; say when each identified."""
    now = 1_800_000_000.0
    for number in range(int(lives)):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.dup2(writer, sys.stdout.fileno())
            trio.run(start_and_die, path, now, number % 4 == 0)
        os.close(writer)
        with os.fdopen(reader) as output:
            word = output.read().split()[-1]
        os.waitpid(pid, 0)
        if word == "identified":
            say("identified", now)
            now += 6.0
        else:
            say("killed", now)
            now += float(word) + 1.0  # real time passed, too, before it was said
    return now


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "crash_loop":
        crash_loop(*arguments)
    else:
        trio.run(globals()[task], *arguments)
