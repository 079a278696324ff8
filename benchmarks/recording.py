"""A session as it goes over the wire, encoded before anybody connects: Hello, READY, one guild, then the mix."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.mix import Mix, encode_payload
from benchmarks.streams import open_stream
from benchmarks.world import guild_create, ready

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GREETINGS", "LONG_INTERVAL", "Marks", "Recording", "hello", "make_recording"]

GREETINGS: Final = 2
"""How many dispatches come before the mix: READY and GUILD_CREATE."""

LONG_INTERVAL: Final = 240_000
"""Milliseconds. While events pour in, nobody is to be busy with heartbeats."""


_NOWHERE: Final = "ws://127.0.0.1:9"
"""The resume URL: nobody resumes a recording."""


def hello(interval: int) -> bytes:
    """Return Hello."""
    return json.dumps({"t": None, "s": None, "op": 10, "d": {"heartbeat_interval": interval, "_trace": []}}).encode()


@dataclass(frozen=True)
class Marks:
    """Between which calls of a hook to measure, counted from the first call.

    Attributes:
        start: the measurement begins with the end of this call, before which everything has been read.
        stop: it ends with this one.
        events: how many events of the mix lie between, whether the hook was called for them or not.
    """

    start: int
    stop: int
    events: int


@dataclass(frozen=True)
class Recording:
    """A session's frames.

    Attributes:
        hello: the first frame.
        greeting: READY and GUILD_CREATE, sent after Identify.
        frames: the mix, a frame each.
        messages: which of the mix, counted from 0, are MESSAGE_CREATE.
        raw_bytes: of the mix before compression.
    """

    hello: bytes
    greeting: bytes
    frames: Sequence[bytes]
    messages: Sequence[int]
    raw_bytes: int

    def message_marks(self, warmup: int, events: int) -> Marks:
        """Return where to measure when the hook is called for MESSAGE_CREATE only.

        From the last message among the ``warmup`` events to the last one among the ``events`` that follow.
        """
        before = [index for index in self.messages if index < warmup]
        until = [index for index in self.messages if index < warmup + events]
        return Marks(len(before), len(until), until[-1] - before[-1])


_recordings: Final[dict[str | None, Recording]] = {}
_recording: Final = threading.Lock()


def make_recording(compression: str | None, events: int) -> Recording:
    """Return a session with at least so many events. It is kept: the same one is played to every client."""
    with _recording:
        found = _recordings.get(compression)
        if found is None or len(found.frames) < events:
            found = _recordings[compression] = _record(compression, events)
        return found


def _record(compression: str | None, events: int) -> Recording:
    encode = open_stream(compression)
    mix = Mix()
    greeted = encode(hello(LONG_INTERVAL))
    greeting = encode(encode_payload("READY", 1, ready(_NOWHERE)))
    greeting += encode(encode_payload("GUILD_CREATE", 2, guild_create()))
    frames: list[bytes] = []
    messages: list[int] = []
    raw_bytes = 0
    for index in range(events):
        name, data = mix.next_event()
        payload = encode_payload(name, index + GREETINGS + 1, data)
        raw_bytes += len(payload)
        frames.append(encode(payload))
        if name == "MESSAGE_CREATE":
            messages.append(index)
    return Recording(greeted, greeting, frames, messages, raw_bytes)
