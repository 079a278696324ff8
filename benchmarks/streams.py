"""What a gateway writes: server frames of a WebSocket, and one compressed stream for a connection."""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "accept_key", "frame", "open_stream", "zstd_module"]

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def accept_key(key: str) -> str:
    """Return the answer to a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def frame(opcode: int, data: bytes) -> bytes:
    """Return one whole, unmasked frame."""
    size = len(data)
    if size < 126:
        return bytes((0x80 | opcode, size)) + data
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + struct.pack(">H", size) + data
    return bytes((0x80 | opcode, 127)) + struct.pack(">Q", size) + data


def zstd_module() -> Any:
    """Return the standard library's zstd, or its backport.

    Raises:
        ImportError: there is none.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def open_stream(compression: str | None) -> Callable[[bytes], bytes]:
    """Return what makes frames of payloads; each compressed payload is flushed, and all share one window.

    Raises:
        ImportError: zstd is asked for, and is not installed.
    """
    if compression is None:
        return lambda payload: frame(TEXT, payload)
    if compression == "zlib-stream":
        deflate = zlib.compressobj()
        return lambda payload: frame(BINARY, deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))
    if compression == "zstd-stream":
        compressor = zstd_module().ZstdCompressor()
        return lambda payload: frame(BINARY, compressor.compress(payload, compressor.FLUSH_BLOCK))
    raise ValueError(f"no such compression: {compression!r}")
