"""What a client wrote to a line, read back from the bare bytes: which frames are whole, and what is in them.

Neither of the WebSocket libraries is asked; this is a third opinion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["Frame", "Transcript", "read_client", "read_frame"]

TEXT: Final = 1
CLOSE: Final = 8

_TAG: Final = re.compile(rb"\b77\d{14}\b")


@dataclass(frozen=True, slots=True)
class Frame:
    """One text frame of a client.

    Attributes:
        opcode: of the payload in it; ``None`` if it is no JSON object with an ``op``, or not whole.
        tag: the number of the command in it, if there is one.
        sequence: what a heartbeat carries.
        session_id: what a Resume carries.
        presence: the number of the presence in an Identify, if there is one.
        whole: whether its last byte was written.
    """

    opcode: int | None
    tag: int | None = None
    sequence: int | None = None
    session_id: str | None = None
    presence: int | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything that a client wrote to one line.

    Attributes:
        frames: its text frames, the last one perhaps cut.
        close_code: of its close frame; ``None`` without one, 1005 for one without a code.
        after_close: whether anything follows the close frame.
        cut: whether the bytes end inside a frame.
        strange: what a client must not write, in words.
    """

    frames: tuple[Frame, ...] = ()
    close_code: int | None = None
    after_close: bool = False
    cut: bool = False
    strange: str = ""


class _Payload(msgspec.Struct):
    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")


class _Resume(msgspec.Struct):
    session_id: str


_payload = msgspec.json.Decoder(_Payload)
_resume = msgspec.json.Decoder(_Resume)


def read_client(written: bytes | bytearray) -> Transcript:
    """Read what a client wrote, from its HTTP request on."""
    at = written.find(b"\r\n\r\n") + 4
    frames: list[Frame] = []
    close_code: int | None = None
    end = len(written)
    if at < 4:
        return Transcript(cut=bool(written))
    while at < end:
        if close_code is not None:
            return Transcript(tuple(frames), close_code, after_close=True)
        body = at + 2
        if body > end:
            return Transcript(tuple(frames), cut=True)
        first, length = written[at], written[at + 1] & 0x7F
        if not written[at + 1] & 0x80:
            return Transcript(tuple(frames), strange="a frame without a mask")
        if first & 0x70 or not first & 0x80:
            return Transcript(tuple(frames), strange="a fragment, or a reserved bit")
        if length == 126:
            length, body = int.from_bytes(written[body : body + 2]), body + 2
        elif length == 127:
            length, body = int.from_bytes(written[body : body + 8]), body + 8
        at = body + 4 + length
        kind = first & 0x0F
        if at > end:
            if kind == TEXT:
                frames.append(Frame(None, whole=False))
            return Transcript(tuple(frames), cut=True)
        if kind == TEXT:
            frames.append(read_frame(_unmask(written[body : body + 4], written[body + 4 : at])))
        elif kind == CLOSE:
            data = _unmask(written[body : body + 4], written[body + 4 : at])
            if len(data) == 1:
                return Transcript(tuple(frames), strange="a close frame with half a code")
            close_code = int.from_bytes(data[:2]) if data else 1005
        elif kind not in (9, 10):
            return Transcript(tuple(frames), strange=f"a frame of kind {kind}")
    return Transcript(tuple(frames), close_code)


def _unmask(mask: bytes | bytearray, data: bytes | bytearray) -> bytes:
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)


def read_frame(document: bytes) -> Frame:
    """Read the payload of a frame."""
    try:
        payload = _payload.decode(document)
        if payload.op == 1:
            return Frame(1, sequence=msgspec.json.decode(payload.d, type=int | None))
        if payload.op == 6:
            return Frame(6, session_id=_resume.decode(payload.d).session_id)
    except msgspec.DecodeError:
        return Frame(None)
    found = _TAG.search(payload.d)
    number = int(found.group()) if found else None
    return Frame(2, presence=number) if payload.op == 2 else Frame(payload.op, tag=number)
