"""The sending half of a connection: one queue of urgent frames, one walk along a session's log, one task."""

from __future__ import annotations

import enum
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard.testing._sessions import Dispatch, Session
    from trioshard.testing._steps import Conduct
    from trioshard.testing._wire import Compressor, Wire

_BATCH: Final = 65_536
"""Bytes that are gathered before they are written."""
_PAYLOAD_COMPRESSION_FROM: Final = 1_024
"""Bytes from which dispatches are compressed when the client asked for payload compression."""


class Halt(enum.Enum):
    """Why a feed has nothing to give."""

    NOTHING = enum.auto()
    """There is nothing now; look again when woken, or at `not_before`."""
    DROP = enum.auto()
    """The script wants the connection gone, right after what was given so far."""


class Feed:
    """A walk along a session's log: READY, or a replay and RESUMED, and then whatever comes."""

    def __init__(self, session: Session, conduct: Conduct, *, cursor: int, opening: int, now: float) -> None:
        self.session = session
        self.opening = opening
        """The sequence number of READY or RESUMED."""
        self.is_resume = opening > 1
        pause = conduct.replay_pause if self.is_resume else conduct.ready_delay
        self.not_before = now + pause
        """When the next dispatch may leave, at the earliest."""
        self._conduct = conduct
        self._cursor = cursor
        self._replayed = 0
        self._resumed_delayed = False

    def next(self, now: float) -> Dispatch | Halt:
        """The next dispatch that may leave at `now`."""
        if now < self.not_before:
            return Halt.NOTHING
        dispatch = self.session.after(self._cursor)
        while dispatch is not None and dispatch.sequence < self.opening and dispatch.name == "RESUMED":
            # The end of an earlier replay: not an event, nothing to repeat.
            self._cursor = dispatch.sequence
            dispatch = self.session.after(self._cursor)
        if dispatch is None:
            return Halt.NOTHING
        if self.is_resume and dispatch.sequence <= self.opening:
            halt = self._hold_back(dispatch, now)
            if halt is not None:
                return halt
        self._cursor = dispatch.sequence
        return dispatch

    def _hold_back(self, dispatch: Dispatch, now: float) -> Halt | None:
        """What the script wants to happen before this part of the replay."""
        conduct = self._conduct
        is_last = dispatch.sequence == self.opening
        if conduct.replay_drop_after is not None and (is_last or self._replayed >= conduct.replay_drop_after):
            return Halt.DROP
        if not is_last:
            self._replayed += 1
            self.not_before = now + conduct.replay_pause
        elif conduct.resumed_delay and not self._resumed_delayed:
            self._resumed_delayed = True
            self.not_before = now + conduct.resumed_delay
            return Halt.NOTHING
        return None


class Sender(Protocol):
    """The connection that an outbox works for."""

    def about_to_dispatch(self, dispatch: Dispatch, feed: Feed) -> None:
        """The dispatch leaves now."""

    def drop(self) -> None:
        """End the stream."""

    def reset(self) -> None:
        """Break the stream."""


class Outbox:
    """What a connection has still to send, and the task that sends it.

    The order of precedence is the order of the code in `_collect`: urgent frames first, then dispatches.
    """

    def __init__(
        self, sender: Sender, stream: trio.abc.Stream, wire: Wire, conduct: Conduct, compressor: Compressor | None
    ) -> None:
        self.feed: Feed | None = None
        self.compress_payloads = False
        self.stalled_until = 0.0
        self._sender = sender
        self._stream = stream
        self._wire = wire
        self._conduct = conduct
        self._compressor = compressor
        self._urgent: deque[Callable[[], bytes]] = deque()
        self._wake = trio.Event()
        self._finishing = False
        self._finished = trio.Event()
        self._flushed: trio.Event | None = None
        """Set, and forgotten, when there is nothing left to send; made by whoever waits for that."""

    def wake(self) -> None:
        """Look again: there is something to send."""
        self._wake.set()

    def put_payload(self, payload: bytes, on_send: Callable[[], None] | None = None) -> None:
        """Send a gateway payload that is no dispatch. `on_send` is called when its first byte is about to leave."""

        def frames() -> bytes:
            if on_send is not None:
                on_send()
            return self._frames(payload)

        self._put(frames)

    def put_message(self, message: str | bytes) -> None:
        """Send a WebSocket message as it is."""
        self._put(lambda: self._wire.message(message))

    def put_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._put(lambda: data)

    def put_close(self, code: int, reason: str) -> None:
        """Send a close frame, and nothing but raw bytes afterwards."""
        self.feed = None
        self._put(lambda: self._wire.close(code, reason))

    async def finish(self) -> None:
        """Write what is urgent, then stop."""
        self._finishing = True
        self._wake.set()
        await self._finished.wait()

    async def wait_flushed(self) -> None:
        """Return when there is nothing to send at the moment, or never will be."""
        if self._finished.is_set():
            return
        if self._flushed is None:
            self._flushed = trio.Event()
            # What has nothing to do may have come to rest before anybody asked.
            self._wake.set()
        await self._flushed.wait()

    async def run(self) -> None:
        """Send until told to finish."""
        try:
            await self._run()
        finally:
            self._finished.set()
            self._set_flushed()

    async def _run(self) -> None:
        while True:
            now = trio.current_time()
            if now < self.stalled_until:
                await trio.sleep_until(self.stalled_until)
                continue
            data = self._collect(now)
            if data:
                await self._write(data)
            elif self._finishing:
                return
            else:
                self._set_flushed()
                await self._wait(now)

    async def _wait(self, now: float) -> None:
        deadline = self.feed.not_before if self.feed is not None else now
        if deadline > now:
            with trio.move_on_at(deadline):
                await self._wake.wait()
        else:
            await self._wake.wait()
        self._wake = trio.Event()

    def _set_flushed(self) -> None:
        if self._flushed is not None:
            self._flushed.set()
            self._flushed = None

    def _put(self, frames: Callable[[], bytes]) -> None:
        self._urgent.append(frames)
        self._wake.set()

    def _collect(self, now: float) -> bytes:
        if self._conduct.silent:
            self._urgent.clear()
            return b""
        data = bytearray()
        while len(data) < _BATCH:
            if self._urgent:
                data += self._urgent.popleft()()
                continue
            if self.feed is None or self._finishing:
                break
            dispatch = self.feed.next(now)
            if dispatch is Halt.DROP:
                if not data:
                    self._sender.drop()
                break
            if dispatch is Halt.NOTHING:
                break
            self._sender.about_to_dispatch(dispatch, self.feed)
            data += self._frames(dispatch.encode())
        return bytes(data)

    def _frames(self, payload: bytes) -> bytes:
        """A payload as WebSocket frames."""
        conduct = self._conduct
        message: str | bytes
        if self._compressor is not None:
            message = self._compressor(payload)
        elif self.compress_payloads and len(payload) >= _PAYLOAD_COMPRESSION_FROM:
            message = zlib.compress(payload)
        else:
            message = payload.decode()
        if conduct.truncate_next:
            conduct.truncate_next = False
            message = message[: len(message) // 2]
        # Only a zlib stream marks the end of a payload, so that it may take several messages.
        if conduct.separate_messages and self._compressor is not None and message[-4:] == b"\x00\x00\xff\xff":
            step = max(1, -(-len(message) // conduct.fragments))
            return b"".join(self._wire.message(message[i : i + step]) for i in range(0, len(message), step))
        return self._wire.message(message, conduct.fragments)

    async def _write(self, data: bytes) -> None:
        budget = self._conduct.cut_after
        if budget is None:
            await self._stream.send_all(data)
        elif len(data) < budget:
            self._conduct.cut_after = budget - len(data)
            await self._stream.send_all(data)
        else:
            await self._stream.send_all(data[:budget])
            if self._conduct.cut_resets:
                self._sender.reset()
            else:
                self._sender.drop()
            await trio.sleep_forever()
