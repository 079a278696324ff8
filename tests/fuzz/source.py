"""Bytes as a stream of decisions: what a target asks for is read from the front, and zeros follow the end.

The same bytes always make the same decisions, and a small change of the bytes is a small change of what they
build. That is what lets a fuzzer learn, and a failing input shrink.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Source"]

T = TypeVar("T")

MAX_DEPTH: Final = 6

_INTEGERS: Final = (
    0, 1, 2, 7, 8, 10, 41250, 45000, 3_600_000, (1 << 31) - 1, 1 << 31, (1 << 53) + 1,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**25, 10**300,
)  # fmt: skip
_NUMBERS: Final = (
    b"-0", b"0.0", b"-1.5", b"1e5", b"1E-5", b"1e308", b"1e309", b"-1e999", b"0.1e-400", b"9" * 400, b"1" * 5000,
    b"00", b"01", b"+1", b".5", b"1.", b"1e", b"-", b"0x10", b"NaN", b"Infinity", b"-Infinity", b"1_0",
)  # fmt: skip
_STRINGS: Final = (
    b'"\\u0000"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\uD8"', b'"\\x41"', b'"\\/\\b\\f\\n"',
    b'"\xc3\xa9"', b'"\xf0\x9f\x98\x80"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\n"',
    b'"\x00"', b'"', b'"\\', b'"\xe2\x80\xae"', b'"nan"', b'"inf"', b'"-inf"', b'"1e999"', b'"' + b"9" * 5000 + b'"',
    b'"\xd9\xa3"', b'" 1 "', b'"1.5"', b'"true"', b'"null"',
)  # fmt: skip
_WORDS: Final = (
    "",
    "a",
    "READY",
    "RESUMED",
    "RATE_LIMITED",
    "MESSAGE_CREATE",
    "GUILD_CREATE",
    "5e55",
    "wss://x/",
    "17",
)
_KEYS: Final = (
    "op", "d", "s", "t", "id", "user", "guild_id", "heartbeat_interval", "session_id", "resume_gateway_url", "meta",
    "opcode", "retry_after", "members", "shard", "trioshard dispatch", "",
)  # fmt: skip
_TEXTS: Final = ("\0", "é", "\u202e", "\ud800", "\udfff", "😀", "\uffff", '"\\', "\x7f", "٣")


class Source:
    """Reads decisions from ``data``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there is anything left to decide by."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        value = self._data[self._at] if self.more else 0
        self._at += 1
        return value

    def below(self, limit: int) -> int:
        """0 to ``limit`` - 1, for limits up to 65,536."""
        value = self.byte() if limit <= 256 else self.byte() << 8 | self.byte()
        return value % limit

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def rarely(self) -> bool:
        """True once in sixteen times; false when there is nothing left."""
        return self.byte() % 16 == 15

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chunk(self, limit: int = 64) -> bytes:
        """Up to ``limit`` bytes."""
        return self._take(self.below(limit + 1))

    def rest(self) -> bytes:
        return self._take(len(self._data))

    def _take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def integer(self) -> int:
        """A small one, one at a border, or any of up to eight bytes."""
        match self.below(4):
            case 0:
                return self.byte()
            case 1:
                return self.choice(_INTEGERS) + self.below(3) - 1
            case 2:
                return -self.choice(_INTEGERS)
            case _:
                return int.from_bytes(self._take(1 + self.below(8)), signed=self.flag())

    def text(self) -> str:
        """A word, an odd character, or whatever the bytes say; lone surrogates too."""
        match self.below(4):
            case 0:
                return self.choice(_WORDS)
            case 1:
                return self.choice(_TEXTS) * (1 + self.below(40))
            case 2:
                return str(self.integer())
            case _:
                return self.chunk().decode("utf-8", "surrogateescape")

    def value(self, depth: int = 0) -> object:
        """Any plain Python object, of a kind that JSON has."""
        kind = self.below(8 if depth < MAX_DEPTH else 6)
        match kind:
            case 0:
                return None
            case 1:
                return self.flag()
            case 2:
                return self.choice((0.0, -1.5, 1e300, float("nan"), float("inf"), float(self.byte())))
            case 3 | 4:
                return self.integer()
            case 5:
                return self.text()
            case 6:
                return [self.value(depth + 1) for _ in range(self.below(5))]
            case _:
                return {self.text(): self.value(depth + 1) for _ in range(self.below(5))}

    def json(self, depth: int = 0) -> bytes:
        """A JSON text, or nearly one: with duplicate keys, numbers of any size, odd Unicode, deep nesting."""
        match self.below(12 if depth < MAX_DEPTH else 8):
            case 0 | 1:
                return self.choice((b"null", b"true", b"false", b"{}", b"[]", b'""'))
            case 2 | 3:
                return b"%d" % self.integer()
            case 4:
                return self.choice(_NUMBERS)
            case 5:
                return self.choice(_STRINGS)
            case 6:
                return json.dumps(self.text()).encode()
            case 7:
                return self.chunk(8)
            case 8 | 9:
                return b"[" + b",".join(self.json(depth + 1) for _ in range(self.below(5))) + b"]"
            case 10:
                members = [self._key() + b":" + self.json(depth + 1) for _ in range(self.below(6))]
                return b"{" + b", ".join(members) + b"}"
            case _:
                return self._nested(self.json(MAX_DEPTH))

    def _key(self) -> bytes:
        return self.choice(_STRINGS) if self.rarely() else json.dumps(self.choice(_KEYS)).encode()

    def _nested(self, inner: bytes) -> bytes:
        levels = self.choice((2, 50, 500, 2000, 20_000))
        before, after = self.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"d":', b"}]"), (b"[", b"")))
        return before * levels + inner + after * levels
