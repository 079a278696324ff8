"""The bot of the demo: senders that never stop, and a listener that writes down what comes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

import trio

from trioshard import (
    Activity,
    Command,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
    events,
)
from trioshard._demo.weather import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from trioshard import Shard
    from trioshard._demo.ledger import Ledger
    from trioshard.testing import Arrival

__all__ = ["Listener", "Senders", "draw_command", "draw_patience", "tag_of"]

REST: Final = 0.06
"""Seconds between two commands of one sender, at most."""

HURRY: Final = 0.25
"""How many of the commands have a deadline that they may well miss."""

_KINDS: Final[dict[type[Command], float]] = {
    UpdateVoiceState: 2.0,
    RequestMembers: 4.0,
    RequestSoundboardSounds: 2.0,
    RequestChannelInfo: 2.0,
    UpdatePresence: 1.0,
}
"""How often each kind of command is drawn, in proportion."""

_NOBODY: Final = 1 << 60
"""Ids from here on belong to nobody, and are longer than any tag."""

_TAGS: Final = 7_700_000_000_000_000
_TAG: Final = re.compile(r"\b77\d{14}\b")


class Listener:
    """Takes everything that the shard receives, and enters it in the books."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._newest = 0
        self._arrived = trio.Event()

    async def run(self, shard: Shard) -> None:
        """Listen until the shard ends."""
        with shard.subscribe() as subscription:
            async for dispatch in subscription:
                if dispatch.sequence is not None:
                    self._ledger.hear(dispatch.session_id, dispatch.sequence)
                if dispatch.name != events.MessageCreate.NAME:
                    continue
                number = number_of(dispatch.decode(events.MessageCreate).content)
                if number is not None:
                    self._ledger.receive(dispatch.session_id, number)
                    self._newest = max(self._newest, number)
                    self._arrived.set()

    async def wait_received(self, number: int) -> None:
        """Wait for the event with this number, or a later one."""
        while self._newest < number:
            self._arrived = trio.Event()
            await self._arrived.wait()


class Senders:
    """Tasks that send commands of all five kinds, one after the other, and take some of them back in time.

    Args:
        shard: what they send through.
        guild_ids: the guilds that the commands are about.
        on_withdrawn: is given the tag of each command that was taken back.
        rest: seconds between two commands of one sender, at most.
        most_ids: ids in one command, at most: 100 of them are some 2 kB.
    """

    def __init__(
        self,
        shard: Shard,
        guild_ids: Iterable[int],
        on_withdrawn: Callable[[int], object],
        *,
        rest: float = REST,
        most_ids: int = 2,
    ) -> None:
        self._shard = shard
        self._guild_ids = tuple(guild_ids)
        self._on_withdrawn = on_withdrawn
        self._rest = rest
        self._most_ids = most_ids
        self._drawn = 0
        self._stopping = trio.Event()

    def stop(self) -> None:
        """Begin no more commands. Those that wait are still waited for."""
        self._stopping.set()

    async def run(self, random: Random) -> None:
        """Be one sender."""
        while not self._stopping.is_set():
            self._drawn += 1
            tag = _TAGS + self._drawn
            command = draw_command(random, self._guild_ids, tag, most_ids=self._most_ids)
            with trio.move_on_after(draw_patience(random, command)) as scope:
                await self._shard.send(command)
            if scope.cancelled_caught:
                self._on_withdrawn(tag)
            with trio.move_on_after(random.uniform(0.0, self._rest)):
                await self._stopping.wait()


def draw_command(random: Random, guild_ids: tuple[int, ...], tag: int, *, most_ids: int = 2) -> Command:
    """Draw a command. The tag goes somewhere into it, by which it is known on the other side."""
    guild_id = random.choice(guild_ids)
    kind = random.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    if kind is UpdatePresence:
        return UpdatePresence(activities=(Activity.watching(f"reconnect {tag}"),))
    if kind is UpdateVoiceState:
        # A leave would have no room for the tag; every join leaves the channel before.
        return UpdateVoiceState(guild_id=guild_id, channel_id=tag, self_mute=random.random() < 0.5)
    if kind is RequestSoundboardSounds:
        return RequestSoundboardSounds(guild_ids=(guild_id, tag, *_draw_ids(random, most_ids - 2)))
    if kind is RequestChannelInfo:
        # This one has no room for a tag at all.
        return RequestChannelInfo(guild_id=guild_id)
    if random.random() < 0.5:
        return RequestMembers(guild_id=guild_id, query="member", limit=random.randint(1, 10), nonce=str(tag))
    return RequestMembers(guild_id=guild_id, user_ids=(tag, *_draw_ids(random, most_ids - 1)), nonce=str(tag))


def _draw_ids(random: Random, most: int) -> list[int]:
    """Draw ids of nobody."""
    return [_NOBODY + random.getrandbits(56) for _ in range(random.randint(0, most))]


def draw_patience(random: Random, command: Command) -> float:
    """Draw the seconds after which the sender takes the command back; mostly never."""
    if isinstance(command, UpdatePresence):
        # Only five of these go out in 20 s. Without a deadline all senders would soon stand in that line.
        return random.uniform(0.1, 1.5)
    return random.uniform(0.0, 0.05) if random.random() < HURRY else math.inf


def tag_of(arrival: Arrival) -> int | None:
    """Return the tag of a command that came to the gateway, or ``None`` if it has none."""
    found = _TAG.search(repr(arrival.data))
    return int(found.group()) if found else None
