"""The bot that is stopped and started: it writes the number of each message to a file, one line each.

SIGTERM makes it leave in good order. SIGKILL does not ask.
"""

from __future__ import annotations

import argparse
import os
import signal

import trio

from trioshard import Intents, SqliteStore, open_shard


async def main(url: str, store: str, log: str, save_interval: float) -> None:
    numbers = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def take_leave(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                nursery.cancel_scope.cancel()

    async with SqliteStore(store) as kept:
        async with open_shard(
            "secret", intents=Intents.GUILD_MESSAGES, url=url, store=kept, save_interval=save_interval
        ) as shard:
            # With `with` the last message counts as finished when the loop is left: its number has been written.
            with shard.subscribe("MESSAGE_CREATE") as messages:
                async with trio.open_nursery() as nursery:
                    await nursery.start(take_leave)
                    async for message in messages:
                        # Killed behind this line, the message comes again; killed before it, too.
                        os.write(numbers, f"{message.json()['content']}\n".encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--save-interval", type=float, default=0.5, help="seconds")
    options = parser.parse_args()
    trio.run(main, options.url, options.store, options.log, options.save_interval)
