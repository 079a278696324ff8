"""The plumbing of a connection: its tasks, its stream, and the trouble that can be made on that level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from trioshard.testing._endings import Ending, end_stream
from trioshard.testing._milestones import Milestones
from trioshard.testing._outbox import Outbox
from trioshard.testing._rules import Op
from trioshard.testing._steps import Conduct, Moment, Script, Setting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trioshard.testing._core import Core
    from trioshard.testing._outbox import Feed
    from trioshard.testing._sessions import Dispatch
    from trioshard.testing._wire import Compressor, Incoming, Wire

CLOSE_LINGER: Final = 5.0
"""Seconds that a client has for answering a close frame, before its stream is closed."""


class Link(ABC):
    """Three tasks (read, write, play the script) in one nursery, and an end in one of several ways.

    Whatever acts on a connection that is closing or gone raises :exc:`trio.ClosedResourceError`.
    """

    def __init__(
        self,
        core: Core,
        stream: trio.abc.Stream,
        wire: Wire,
        *,
        number: int,
        conduct: Conduct,
        script: Script,
        compressor: Compressor | None,
    ) -> None:
        self.id = number
        """0-based, in order of arrival."""
        self.milestones = Milestones()
        self._core = core
        self._stream = stream
        self._wire = wire
        self._conduct = conduct
        self._script = script
        self._outbox = Outbox(self, stream, wire, conduct, compressor)
        self._scope = trio.CancelScope()
        self._read_scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._ending = Ending.CLOSE
        self._gone = False
        self._stalled_until = -math.inf

    # What a connection has to add.

    @property
    @abstractmethod
    def _is_closing(self) -> bool:
        """Whether a close frame is on its way."""

    @abstractmethod
    def about_to_dispatch(self, dispatch: Dispatch, feed: Feed) -> None:
        """A dispatch leaves now: from here on the client may know it."""

    @abstractmethod
    async def _greet(self) -> None:
        """Say the first word."""

    @abstractmethod
    def _take(self, incoming: Incoming) -> bool:
        """Handle what came; False when nothing more will."""

    @abstractmethod
    def _let_go(self) -> None:
        """Let go of everything that outlives the connection."""

    @abstractmethod
    def publish(self, name: str, data: object) -> bool:
        """Dispatch to this connection's session only; False when there is none."""

    @abstractmethod
    def reconnect(self) -> None:
        """Send Reconnect (op 7)."""

    @abstractmethod
    def invalidate(self, resumable: bool = False) -> None:
        """Send Invalid Session (op 9)."""

    @abstractmethod
    def close(self, code: int = 4000, reason: str = "", *, end_session: bool | None = None) -> None:
        """Close with a close frame."""

    # Powers of tests and scripts.

    async def wait_for(self, moment: Moment, count: int = 1) -> None:
        """Wait until `moment` has come `count` times on this connection."""
        await self.milestones.wait(moment, count)

    async def wait_flushed(self) -> None:
        """Wait until everything that can be sent now has been sent, or the connection is gone."""
        await self._outbox.wait_flushed()

    def drop(self) -> None:
        """End the stream without a close frame: the client sees EOF."""
        self._end(Ending.DROP)

    def reset(self) -> None:
        """Break the stream: RST on TCP, an error on both sides in memory."""
        self._end(Ending.RESET)

    def stall(self, seconds: float) -> None:
        """Neither read nor write for so long."""
        self._check_open()
        self._stalled_until = self._outbox.stalled_until = trio.current_time() + seconds
        self._read_scope.cancel()
        self._outbox.wake()

    def request_heartbeat(self) -> None:
        """Ask for a heartbeat at once (op 1)."""
        self._check_open()
        self._send(Op.HEARTBEAT, None)

    def send_payload(self, payload: object) -> None:
        """Send a payload as it is, compressed like every other one."""
        self._check_open()
        self._outbox.put_payload(msgspec.json.encode(payload))

    def send_text(self, text: str) -> None:
        """Send a text message as it is: not compressed, not checked."""
        self._check_open()
        self._outbox.put_message(text)

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message as it is: not compressed, not checked."""
        self._check_open()
        self._outbox.put_message(data)

    def send_raw(self, data: bytes) -> None:
        """Send bytes under the WebSocket layer."""
        self._check_open()
        self._outbox.put_raw(data)

    # The life of the connection.

    async def run(self) -> None:
        """Serve the connection to its end. The stream is closed afterwards."""
        self._reach("connect")
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._start_soon(self._write)
                    self._start_soon(self._greet_quietly)
                    self._start_soon(self._play)
                    await self._read()
                    self._nursery.cancel_scope.cancel()
        finally:
            self._gone = True
            self._let_go()
            await end_stream(self._stream, self._ending)

    async def _write(self) -> None:
        try:
            await self._outbox.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    async def _greet_quietly(self) -> None:
        # It may be gone before the first word.
        with suppress(trio.ClosedResourceError):
            await self._greet()

    async def _play(self) -> None:
        try:
            for step in self._script:
                if isinstance(step, Setting):
                    step.apply(self._conduct)
                else:
                    await step.perform(self)
        except trio.ClosedResourceError:
            pass  # There is nothing left to make trouble on.

    async def _read(self) -> None:
        while not self._gone:
            if trio.current_time() < self._stalled_until:
                await trio.sleep_until(self._stalled_until)
                continue
            with trio.CancelScope() as self._read_scope:
                try:
                    batch = await self._wire.receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                for incoming in batch:
                    if self._gone:
                        # Cut off while these bytes waited for us: whoever wrote them is nobody's client any more.
                        return
                    if not self._take(incoming):
                        self._gone = True
                        # The answer to a close frame still has to leave.
                        await self._finish()
                        return

    async def _finish(self) -> None:
        with trio.move_on_after(CLOSE_LINGER):
            await self._outbox.finish()

    # Small things.

    def _send(self, op: Op, data: object) -> None:
        self._outbox.put_payload(msgspec.json.encode({"t": None, "s": None, "op": op, "d": data}))

    def _reach(self, moment: Moment) -> None:
        self.milestones.reach(moment)
        self._core.milestones.reach(moment)

    def _check_open(self) -> None:
        if self._gone or self._is_closing:
            raise trio.ClosedResourceError("this connection is closed")

    def _end(self, ending: Ending) -> None:
        if self._gone:
            raise trio.ClosedResourceError("this connection is closed")
        self._gone = True
        self._ending = ending
        self._let_go()
        self._scope.cancel()

    def _start_soon(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *args)
