"""Check and write as one step: the heart of the promise.

Everything that any task of a connection writes goes through `Wire.write`. It takes the state lock, asks the machine,
encodes, and writes, and awaits nothing else while it holds the lock. Everything that arrives and moves the phase
goes through `Wire.receive`, which takes the same lock. So between "this may be sent now" and the last byte on
the socket the phase cannot change, and the gap in which other libraries are closed with 4003 does not exist.

Two things keep the lock from becoming a trap. A write has a deadline; past it the connection is given up. And
whoever gives the connection up (op 7, op 9, a close, a zombie) first lets a bar fall, which only ever falls, and
interrupts the write in flight, whose connection is dead anyway; and then takes the lock. So the reader is never
stuck behind a stalled write, and nobody who stood in line before it writes after the end was announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trioshard._locks import Holding
from trioshard.errors import ConnectionLost
from trioshard.protocol.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard._transport import Transport
    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.machine import Effect, Machine
    from trioshard.protocol.opcodes import Opcode

__all__ = ["Wire", "WriteStalled"]


class WriteStalled(ConnectionLost):
    """A write did not get through in time, or was interrupted: its frame may be cut in half."""


class Wire:
    """One connection's socket and machine, behind one lock.

    Args:
        transport: the open WebSocket.
        machine: the protocol state. Nobody else moves its phase while the wire exists.
        write_timeout: seconds that a single write may take.
    """

    def __init__(self, transport: Transport, machine: Machine, *, write_timeout: float) -> None:
        self._transport = transport
        self._machine = machine
        self._write_timeout = write_timeout
        self._lock = trio.Lock()
        self._in_flight: trio.CancelScope | None = None
        self._condemned = False

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        """Write a payload if the phase admits it, whole.

        Args:
            opcode: what it is; this is what the machine is asked about.
            document: makes the bytes, once it is certain that they may go; ``None`` if they are not wanted any more.

        Returns:
            Whether it was written. If not, not a byte of it was.

        Raises:
            WriteStalled: it took longer than the write timeout, or was interrupted.
            ConnectionLost: the connection broke under it.

        When cancelled during the write, a frame may be cut in half: only ever cancel together with the connection.
        """
        async with Holding(self._lock):
            if self._condemned or not self._machine.admit(opcode):
                return False
            data = document()
            if data is None:
                return False
            self._machine.goes_out(opcode)
            try:
                await self._send(data)
            except BaseException:
                # Nothing may follow a frame that may be cut, not even from whoever is next in line.
                self._condemned = True
                raise
            return True

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(self._write_timeout) as scope:
            self._in_flight = scope
            try:
                await self._transport.send(data)
            finally:
                self._in_flight = None
        if scope.cancelled_caught:
            stalled = trio.current_time() >= scope.deadline
            why = f"did not get through within {self._write_timeout:g} s" if stalled else "was interrupted"
            raise WriteStalled(f"a write of {len(data)} bytes {why}")

    async def receive(self, envelope: Envelope) -> Effect:
        """Hand a payload that moves the phase to the machine, under the lock.

        Raises:
            GatewayProtocolError: its data cannot be right.
        """
        if self._machine.moves(envelope) is Phase.CLOSING:
            self._condemn()
        async with Holding(self._lock):
            return self._machine.receive(envelope)

    async def close(self) -> None:
        """Give the connection up: from the return on, nothing is written to it any more."""
        self._condemn()
        async with Holding(self._lock):
            self._machine.close()

    async def leave(self) -> None:
        """As `close`, but the write in flight may finish."""
        async with Holding(self._lock):
            self._machine.close()

    def _condemn(self) -> None:
        # Those who stand in line for the lock come before us: they must not write on a connection whose
        # end has been announced. So the bar falls at once, and the phase follows under the lock.
        self._condemned = True
        if self._in_flight is not None:
            self._in_flight.cancel()
