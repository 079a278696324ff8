"""Eyes inside the shard: they note what passes between wire and transport, and change nothing.

An observed wire is a `Wire` in every respect. It notes when the end of a connection is read or decided, and hands its
transport on in a wrapper that notes when each payload begins to leave, in which phase, and when it has left.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from trioshard import _connection, _wire
from trioshard._simulation.records import Opening, Records, Write
from trioshard._simulation.wiretap import read_frame
from trioshard.protocol.machine import Greet, Open
from trioshard.protocol.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from trioshard._simulation.records import Dialled
    from trioshard._transport import Transport
    from trioshard.errors import ConnectionClosed
    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.machine import Effect, Machine

__all__ = ["observed"]


class _Watch:
    """What is known of one connection."""

    def __init__(self, records: Records, dialled: Dialled, machine: Machine) -> None:
        self.records = records
        self.dialled = dialled
        self.machine = machine
        self.over = False

    def end(self) -> None:
        if not self.over:
            self.over = True
            self.dialled.ended = trio.current_time()


class _WatchedTransport:
    """A transport that notes what is sent through it."""

    def __init__(self, transport: Transport, watch: _Watch) -> None:
        self._transport = transport
        self._watch = watch

    async def send(self, document: bytes) -> None:
        watch = self._watch
        line, payload = watch.dialled.line, read_frame(document)
        assert payload.opcode is not None
        before = watch.machine.sequence
        write = Write(
            line=-1 if line is None else line.number,
            opcode=payload.opcode,
            begun=trio.current_time(),
            # `goes_out` has moved it on already: for a handshake that is the phase that follows.
            phase=watch.machine.phase,
            after_end=watch.over,
            tag=payload.tag,
            sequences=(before, before),
        )
        watch.records.writes.append(write)
        try:
            await self._transport.send(document)
        except trio.Cancelled:
            if not watch.over:
                write.interrupted = trio.current_time()
            raise
        write.finished = trio.current_time()
        write.sequences = before, watch.machine.sequence

    @property
    def is_resting(self) -> bool:
        return self._transport.is_resting

    async def receive_batch(self) -> list[bytes | str]:
        return await self._transport.receive_batch()

    def close_seen(self) -> ConnectionClosed | None:
        return self._transport.close_seen()

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        await self._transport.aclose(code, wait=wait)


@contextmanager
def observed(records: Records, current: Callable[[], Dialled], life: Callable[[], int]) -> Generator[None]:
    """While this lasts, each new connection of a shard is watched.

    Args:
        records: where the notes go.
        current: the connection attempt that is being made.
        life: which shard makes it.
    """
    module: Any = _connection
    # Whatever stands there: it may be broken on purpose.
    plain: type[_wire.Wire] = module.Wire

    class ObservedWire(plain):  # type: ignore[valid-type, misc]  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, transport: Transport, machine: Machine, *, write_timeout: float) -> None:
            self._watch = _Watch(records, current(), machine)
            super().__init__(_WatchedTransport(transport, self._watch), machine, write_timeout=write_timeout)

        async def receive(self, envelope: Envelope) -> Effect:
            watch = self._watch
            if watch.machine.moves(envelope) is Phase.CLOSING:
                watch.end()
            effect: Effect = await super().receive(envelope)
            now = trio.current_time()
            if isinstance(effect, Open):
                watch.dialled.opened = now
                watch.dialled.resumed = effect.resumed
                records.openings.append(
                    Opening(now, life(), effect.resumed, effect.session.id, effect.session.sequence)
                )
                records.tell("shard reads %s", "RESUMED" if effect.resumed else "READY")
            elif isinstance(effect, Greet) and effect.first:
                watch.dialled.hello = now
                watch.dialled.interval = effect.interval
            return effect

        async def close(self) -> None:
            self._watch.end()
            await super().close()

        async def leave(self) -> None:
            await super().leave()
            self._watch.end()

    module.Wire = ObservedWire
    handler = _Listener(records)
    logger = logging.getLogger("trioshard")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    if before[0] != logging.INFO:
        # Each change makes every logger of the process look again.
        logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        module.Wire = plain
        logger.removeHandler(handler)
        if before[0] != logging.INFO:
            logger.setLevel(before[0])
        logger.propagate = before[1]


class _Listener(logging.Handler):
    """Takes what the shard logs into the timeline. A token in it would be found there."""

    def __init__(self, records: Records) -> None:
        super().__init__(logging.INFO)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.tell("log: %s", record.getMessage())
