"""What can be told of a WebSocket frame from its first bytes: how long it is, and that it is a whole message.

Nearly all that a gateway sends are messages of one plain frame. Those are cut out here, at a tenth of what it costs to
have each parsed by a library; anything else (control frames, fragments, large frames, and whatever may be a
mistake) is left to the library, which stays the only judge of what is right.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MALFORMED", "frame_length", "skim"]

MALFORMED: Final = 0
"""Stands for the length of a frame that no server may send. There is nothing to wait for."""

_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
"""The first byte of a message that is one frame, without extensions."""

_CONTROL: Final = 0x08
"""The bit of the first byte that control frames have."""

_LEN16, _LEN64 = 126, 127
"""What stands for a length of two and of eight bytes that follow. Above is the mask bit, which servers do not set."""


def skim(data: bytes, position: int, batch: list[bytes | str], limit: int) -> int:
    """Append the messages that lie in ``data`` from ``position`` on to ``batch``, as long as they are plain and whole.

    Returns where it stopped: at the end, or at the first frame that is for the library: not whole, not plain, or
    of more than ``limit`` bytes. ``position`` has to be where a frame begins, and no message may be unfinished.
    """
    end = len(data)
    while end - position >= 4 and ((kind := data[position]) == _WHOLE_BINARY or kind == _WHOLE_TEXT):
        size = data[position + 1]
        start = position + 2
        if size == _LEN16:
            size = data[start] << 8 | data[start + 1]
            start += 2
        elif size > _LEN16:
            break
        stop = start + size
        if stop > end or size > limit:
            break
        if kind == _WHOLE_BINARY:
            batch.append(data[start:stop])
        else:
            try:
                batch.append(data[start:stop].decode())
            except UnicodeDecodeError:
                break
        position = stop
    return position


def frame_length(data: bytes, position: int) -> int:
    """Return how many bytes the frame at ``position`` has, or at least has if its header is not whole yet.

    `MALFORMED` if no server may send it.
    """
    available = len(data) - position
    if available < 2:
        return 2
    size = data[position + 1]
    if size < _LEN16:
        return 2 + size
    if size > _LEN64 or data[position] & _CONTROL:
        return MALFORMED
    header = 4 if size == _LEN16 else 10
    if available < header:
        return header
    return header + int.from_bytes(data[position + 2 : position + header])
