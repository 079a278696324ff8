"""TLS on a stream, for a client that reads in one task and writes in one at a time.

Trio's own ``SSLStream`` takes a lock before each read, so that any number of tasks may use it in both directions. On a
quiet connection, where every event wakes the reader anew, that lock and its checkpoints cost more than all else that is
done with the event. Here reading awaits nothing but the stream below.

The protocol itself is OpenSSL's, through `ssl.SSLObject`. Like every client of HTTP it takes an end without
close_notify for an end: whether a WebSocket was ended or cut off is told by its close frame.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

import trio

from trioshard._locks import Holding

__all__ = ["TLSStream"]

_RECORD: Final = 16384
"""Bytes of text that one TLS record may hold. More is never read at a time."""

_READ: Final = 65536
"""Bytes that are read at a time where nobody says how many."""


class TLSStream(trio.abc.Stream):
    """The client's end of a TLS connection. Call `do_handshake` first.

    Args:
        stream: what to speak TLS on.
        context: how to verify the peer.
        server_hostname: whom the certificate has to name.
    """

    def __init__(self, stream: trio.abc.Stream, context: ssl.SSLContext, *, server_hostname: str) -> None:
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._writing = trio.Lock()
        self._broken: Exception | None = None
        self._ended = False

    async def do_handshake(self) -> None:
        """Agree on keys, and verify the peer.

        Raises:
            trio.BrokenResourceError: it failed; the `ssl.SSLError` is the cause. Or the connection broke.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill(_READ)
            except ssl.SSLError as exc:
                self._broken = exc
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._flush()  # the alert, which tells the peer why
                raise trio.BrokenResourceError(f"the TLS handshake failed: {exc}") from exc
            else:
                await self._flush()
                return

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes as soon as there are any, at most ``max_bytes``; none at the end.

        One task at a time. When cancelled, nothing is lost.

        Raises:
            trio.BrokenResourceError: the connection broke, or what arrived is no TLS.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        limit = _READ if max_bytes is None else max_bytes
        awaited = False
        while True:
            data = self._read(limit)
            if data is not None:
                if not awaited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            if self._outgoing.pending:  # the answer to a renegotiation, without which nothing more will come
                await self._flush()
            await self._fill(limit)
            awaited = True

    def _read(self, limit: int) -> bytes | None:
        """Return all that can be decrypted, up to ``limit`` bytes: nothing at the end, ``None`` if more is needed."""
        pieces: list[bytes] = []
        try:
            # Asked before OpenSSL is: to be told by an exception that nothing is there costs more than to read it.
            while limit > 0 and not self._ended and self._has_unread():
                piece = self._tls.read(min(limit, _RECORD))
                if not piece:
                    self._ended = True
                pieces.append(piece)
                limit -= len(piece)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        except ssl.SSLError as exc:
            self._broken = exc
        if not any(pieces) and self._broken is not None:
            raise trio.BrokenResourceError(f"TLS failed: {self._broken}") from self._broken
        return b"".join(pieces) if pieces or self._ended else None

    def _has_unread(self) -> bool:
        return bool(self._incoming.pending or self._incoming.eof or self._tls.pending())

    async def _fill(self, max_bytes: int) -> None:
        data = await self._stream.receive_some(max_bytes)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything. When cancelled, part of it may have been written, and nothing may follow it.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        if self._broken is not None:
            raise trio.BrokenResourceError(f"TLS failed: {self._broken}") from self._broken
        if not data:
            await trio.lowlevel.checkpoint()
            return
        async with Holding(self._writing):
            # Under the lock: who is cancelled at its door must not leave a record behind for the next one to send.
            try:
                self._tls.write(data)
            except ssl.SSLError as exc:
                self._broken = exc
                raise trio.BrokenResourceError(f"TLS failed: {exc}") from exc
            await self._write_out()

    async def _flush(self) -> None:
        """Write what OpenSSL has to say by itself."""
        async with Holding(self._writing):
            await self._write_out()

    async def _write_out(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until `send_all` might not block."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream below, without close_notify. See the module's docstring."""
        await self._stream.aclose()
