"""From WebSocket messages to JSON documents: none, zlib-stream, zstd-stream and payload compression.

One inflater serves one connection: the compression context lives and dies with the WebSocket. `feed` takes one
message, and gives back a whole document, or ``None`` when a document spans several messages and more is needed.

What inflating may produce is capped, so that a few kilobytes from the wire cannot fill the memory.

Source: *Gateway*, encoding and compression.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from trioshard.errors import GatewayProtocolError, MissingDependency

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "TRANSPORT_COMPRESSIONS",
    "Compression",
    "Inflater",
    "TransportCompression",
    "fastest_zlib",
    "open_inflater",
    "require_zstd",
]

TransportCompression = Literal["zlib-stream", "zstd-stream"]
Compression = TransportCompression | Literal["payload"] | None

TRANSPORT_COMPRESSIONS: Final[tuple[TransportCompression, ...]] = ("zlib-stream", "zstd-stream")
"""The kinds that are asked for in the URL. "payload" is asked for in Identify."""

DEFAULT_MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Bytes that one inbound document may have after inflating. Discord documents no limit; READY and
GUILD_CREATE of large guilds have several megabytes."""

_ZLIB_SUFFIX: Final = b"\x00\x00\xff\xff"

_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB, which RFC 8878 asks of every decoder. The sender names the window, and up to 128 MiB would be allocated for it
before a byte of output is counted."""


class Inflater(Protocol):
    """Turns the messages of one connection into documents."""

    def feed(self, message: bytes | str) -> bytes | str | None:
        """Take one WebSocket message; return a whole document, or ``None`` when more is needed.

        Raises:
            GatewayProtocolError: the stream is broken or inflates to more than the cap. The context is
                lost, and with it the connection.
        """
        ...


def open_inflater(compression: Compression, *, max_message: int = DEFAULT_MAX_MESSAGE) -> Inflater:
    """Return a new inflater for one connection.

    Raises:
        MissingDependency: ``zstd-stream`` is asked for, and no zstd binding is installed.
    """
    match compression:
        case "zlib-stream":
            return _ZlibStream(max_message)
        case "zstd-stream":
            return _ZstdStream(max_message)
        case "payload":
            return _ZlibPayloads(max_message)
        case None:
            return _Plain(max_message)


def require_zstd() -> ModuleType:
    """Import a zstd binding: the standard library's, or its backport.

    Raises:
        MissingDependency: there is none.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as exc:
        raise MissingDependency(
            "compress='zstd-stream' needs a zstd binding: pip install 'trioshard[zstd]', or choose 'zlib-stream'"
        ) from exc
    return zstd


def fastest_zlib() -> ModuleType:
    """Return zlib-ng, which comes with ``trioshard[speed]``, or else Python's zlib. They have the same interface."""
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib
    return zlib_ng


_zlib: Final[Any] = fastest_zlib()


def _too_large(max_message: int) -> GatewayProtocolError:
    return GatewayProtocolError(
        f"a message of more than {max_message} bytes arrived; raise max_message_size if that can be right"
    )


class _Plain:
    """No compression: a message is a document. A binary one can only be compressed by mistake."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message

    def feed(self, message: bytes | str) -> bytes | str | None:
        if len(message) > self._max_message:
            raise _too_large(self._max_message)
        return message


class _ZlibPayloads(_Plain):
    """Payload compression: text messages are plain, binary ones are a complete zlib stream each."""

    def feed(self, message: bytes | str) -> bytes | str | None:
        if isinstance(message, str):
            return super().feed(message)
        inflater = _zlib.decompressobj()
        try:
            document: bytes = inflater.decompress(message, self._max_message + 1)
        except _zlib.error as exc:
            raise GatewayProtocolError(f"a compressed payload is broken: {exc}") from exc
        if len(document) > self._max_message:
            raise _too_large(self._max_message)
        if not inflater.eof:
            raise GatewayProtocolError("a compressed payload is cut short")
        if inflater.unused_data:
            raise GatewayProtocolError("something stands behind a compressed payload")
        return document


class _Stream:
    """A context that lives as long as the connection. An error loses it: from then on there are only errors."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._broken = False

    def _check_usable(self, message: bytes | str) -> None:
        if self._broken:
            raise GatewayProtocolError("a message arrived in a compressed stream that is broken")
        if isinstance(message, str):
            raise self._fails("a text message arrived inside a compressed stream")

    def _fails(self, why: str) -> GatewayProtocolError:
        self._broken = True
        return GatewayProtocolError(why)

    def _fails_too_large(self) -> GatewayProtocolError:
        self._broken = True
        return _too_large(self._max_message)


class _ZlibStream(_Stream):
    """One zlib stream for the connection; a document ends where the buffer ends with a sync flush.

    The tail of the *buffer* is tested, not of the last message: a message shorter than the four bytes of the
    suffix may carry its end.
    """

    def __init__(self, max_message: int) -> None:
        super().__init__(max_message)
        self._inflater = _zlib.decompressobj()
        self._buffer = bytearray()

    def feed(self, message: bytes | str) -> bytes | str | None:
        if self._broken or isinstance(message, str):
            self._check_usable(message)
        assert isinstance(message, bytes)
        data: bytes | bytearray = message
        if self._buffer or message[-4:] != _ZLIB_SUFFIX:
            self._buffer += message
            if len(self._buffer) > self._max_message:
                raise self._fails_too_large()
            if not self._buffer.endswith(_ZLIB_SUFFIX):
                return None
            data, self._buffer = self._buffer, bytearray()
        try:
            document: bytes = self._inflater.decompress(data, self._max_message + 1)
        except _zlib.error as exc:
            raise self._fails(f"the zlib stream is broken: {exc}") from exc
        if len(document) > self._max_message:
            raise self._fails_too_large()
        if self._inflater.eof:
            raise self._fails("the zlib stream ended before the connection")
        return document


class _ZstdStream(_Stream):
    """One zstd stream for the connection; one message is one document, and the frame never ends.

    "Frame finished" is therefore no signal: input is fed until all of it is consumed and no output is left.
    """

    def __init__(self, max_message: int) -> None:
        super().__init__(max_message)
        self._zstd = require_zstd()
        options = {self._zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._inflater = self._zstd.ZstdDecompressor(options=options)

    def feed(self, message: bytes | str) -> bytes | str | None:
        if self._broken or isinstance(message, str):
            self._check_usable(message)
        try:
            document: bytes = self._inflater.decompress(message, self._max_message + 1)
        except self._zstd.ZstdError as exc:
            raise self._fails(f"the zstd stream is broken: {exc}") from exc
        if len(document) > self._max_message:
            raise self._fails_too_large()
        if self._inflater.eof:
            raise self._fails("the zstd stream ended before the connection")
        return document
