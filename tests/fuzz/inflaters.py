"""Targets for the inflaters: an honest compressor, and what may happen to its messages on the way."""

from __future__ import annotations

import tracemalloc
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.fuzz.source import Source
from trioshard.errors import GatewayProtocolError
from trioshard.protocol.compression import Compression, Inflater, open_inflater, require_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["compression_target"]

CAPS: Final = (64, 1000, 4096, 65536)
ZSTD_WINDOW_LOG: Final = 23
_SLACK: Final = 256 * 1024
"""Bytes that an inflater may take whatever its cap: the window of a stream, and the smallest output buffers."""


def compression_target(kind: Compression) -> Callable[[bytes], None]:
    """An inflater fed by an honest compressor whose messages are damaged, split and joined on the way."""

    def target(data: bytes) -> None:
        source = Source(data)
        cap = source.choice(CAPS)
        inflater = open_inflater(kind, max_message=cap)
        compress, moderate = _compressor(kind, source)
        honest = first = True
        while source.more:
            document = _document(source)
            pieces, damaged = _on_the_way(source, compress(document), splits=kind == "zlib-stream")
            honest = honest and not damaged
            if not _feed(inflater, pieces, cap, document if honest and moderate else None):
                if kind in ("zlib-stream", "zstd-stream"):
                    _only_errors(inflater, source, cap)
                return
            assert moderate or damaged or not first, "a window of more than 8 MiB was accepted"
            first = False

    return target


def _compressor(kind: Compression, source: Source) -> tuple[Callable[[bytes], bytes], bool]:
    """Return the server's side, and whether it keeps to what a decoder has to take."""
    match kind:
        case "zlib-stream":
            stream = zlib.compressobj(source.below(10))
            return lambda document: stream.compress(document) + stream.flush(zlib.Z_SYNC_FLUSH), True
        case "zstd-stream":
            zstd = require_zstd()
            parameter = zstd.CompressionParameter
            window = source.choice((10, 17, 20, 23, 24, 27))
            options = {parameter.compression_level: source.choice((1, 3, 9)), parameter.window_log: window}
            if window > 20:  # as large, and built without as much memory on this side
                options |= {parameter.hash_log: 12, parameter.chain_log: 12, parameter.strategy: 1}
            frame = zstd.ZstdCompressor(options=options)
            return lambda document: bytes(frame.compress(document, frame.FLUSH_BLOCK)), window <= ZSTD_WINDOW_LOG
        case "payload":
            level = source.below(10)
            return lambda document: zlib.compress(document, level), True
        case None:
            return lambda document: document, True


def _document(source: Source) -> bytes:
    if source.rarely():
        return b"0" + source.chunk(16) * source.choice((100, 1000, 10_000, 50_000))
    # Never empty: no JSON is, and zstd takes no more than a few empty messages in a row.
    return b"0" + source.chunk(64) + source.choice((b"", b"\x00\x00\xff\xff", b"a" * 60, bytes(range(256)) * 4))


def _on_the_way(source: Source, message: bytes, *, splits: bool) -> tuple[list[bytes | str], bool]:
    """Return what arrives of a message, and whether that is more or less than what was sent."""
    match source.below(12):
        case 0 | 1 | 2 | 3 | 4:
            return [message], False
        case 5 | 6:
            at = source.below(len(message) + 1) if len(message) < 65536 else source.below(65536)
            parts: list[bytes | str] = [message[:at], message[at:]]
            # A split behind what looks like an end is one: the protocol has no other.
            return parts, not splits or message[:at].endswith(b"\x00\x00\xff\xff") or at == len(message)
        case 7 if message:
            at = source.below(min(len(message), 65536))
            return [message[:at] + bytes([source.byte()]) + message[at + 1 :]], True
        case 8:
            return [message[: source.below(65536)], message], True
        case 9:
            return [message + source.chunk(), message], True
        case 10:
            return [source.chunk()], True
        case _:
            return [source.chunk().decode("latin-1") if source.flag() else message + message], True


def _feed(inflater: Inflater, pieces: list[bytes | str], cap: int, expected: bytes | None) -> bool:
    """Feed the pieces; return False when one was refused. ``expected`` is what they are, if nothing was damaged."""
    documents: list[bytes | str] = []
    for piece in pieces:
        with _memory_bounded(cap, len(piece)):
            try:
                document = inflater.feed(piece)
            except GatewayProtocolError:
                too_large = expected is None or max(len(expected), sum(map(len, pieces))) > cap
                assert too_large, "an honest message within the cap was refused"
                return False
        if document is not None:
            assert len(document) <= cap, f"{len(document)} bytes came out, and the cap is {cap}"
            documents.append(document)
    assert expected is None or documents == [expected], "an honest message came out as another, or in parts"
    return True


def _only_errors(inflater: Inflater, source: Source, cap: int) -> None:
    for message in (b"", b"\x00\x00\xff\xff", source.chunk(), b"x" * cap):
        try:
            document = inflater.feed(message)
        except GatewayProtocolError:
            continue
        raise AssertionError(f"after an error, {message[:20]!r} gave {document!r:.40}")


@contextmanager
def _memory_bounded(cap: int, size: int) -> Generator[None]:
    # What zstd allocates is not traced: the growth of the whole process, which the runner bounds, covers it. Tracing
    # stays on, for each new start of it costs the process some memory for good.
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    yield
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= 4 * (cap + size) + _SLACK, f"{peak} bytes were allocated for a cap of {cap}"
