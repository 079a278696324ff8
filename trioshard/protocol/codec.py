"""Bytes to payloads, and payloads to bytes.

Inbound, only the envelope is read: ``op``, ``s``, ``t``. The data ``d`` stays as it came, and is decoded when,
and only when, somebody asks for it. Outbound, the size limit is checked here and nowhere else.

Source: *Gateway Events*, payload structure; *Gateway*, sending events (4096 bytes, close 4002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from trioshard.errors import GatewayProtocolError, InvalidCommand
from trioshard.protocol.opcodes import Opcode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trioshard.protocol.session import Session

__all__ = [
    "MAX_OUTBOUND",
    "Envelope",
    "decode_json",
    "encode",
    "encode_heartbeat",
    "encode_identify",
    "encode_resume",
    "scan",
]

MAX_OUTBOUND: Final = 4096
"""Bytes that a payload may have when we send it."""


class Envelope(msgspec.Struct, gc=False):
    """The outer object of every payload. ``d`` is left undecoded.

    Discord sometimes leaves ``s``, ``t`` and even ``d`` out: absent means null.
    """

    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")
    s: int | None = None
    t: str | None = None


_decoder: Final = msgspec.json.Decoder(Envelope)
_encoder: Final = msgspec.json.Encoder()


def scan(document: bytes | str) -> Envelope:
    """Read the envelope of one payload.

    Raises:
        GatewayProtocolError: it is not exactly one JSON object with an integer ``op``.
    """
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise GatewayProtocolError(f"an undecodable message of {len(document)} bytes arrived: {exc}") from exc


def decode_json(raw: msgspec.Raw | bytes) -> Any:
    """Decode raw JSON to plain Python objects.

    Raises:
        GatewayProtocolError: it cannot be decoded.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise GatewayProtocolError(f"the data of a payload cannot be decoded: {exc}") from exc


def encode(opcode: Opcode, data: object) -> bytes:
    """Encode one payload as compact UTF-8 JSON.

    Raises:
        InvalidCommand: it cannot be encoded, or has more than 4096 bytes, which Discord would answer with
            close code 4002.
    """
    try:
        document = _encoder.encode({"op": opcode.value, "d": data})
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidCommand(f"{opcode.name} cannot be encoded as JSON: {exc}") from exc
    if len(document) > MAX_OUTBOUND:
        raise InvalidCommand(
            f"{opcode.name} takes {len(document)} bytes as JSON, and Discord accepts {MAX_OUTBOUND}."
            " It was not sent; shorten it or split it."
        )
    return document


def encode_heartbeat(sequence: int | None) -> bytes:
    """Encode op 1: ``d`` is the last sequence received, or null."""
    return b'{"op":1,"d":%d}' % sequence if sequence is not None else b'{"op":1,"d":null}'


def encode_identify(
    *,
    token: str,
    intents: int,
    shard: tuple[int, int],
    properties: Mapping[str, str],
    presence: object | None,
    large_threshold: int | None,
    payload_compression: bool,
) -> bytes:
    """Encode op 2. Raises `InvalidCommand` when the presence makes it longer than 4096 bytes."""
    data: dict[str, object] = {
        "token": token,
        "intents": intents,
        "properties": dict(properties),
        "shard": shard,
    }
    if payload_compression:
        data["compress"] = True
    if large_threshold is not None:
        data["large_threshold"] = large_threshold
    if presence is not None:
        data["presence"] = presence
    return encode(Opcode.IDENTIFY, data)


def encode_resume(*, token: str, session: Session) -> bytes:
    """Encode op 6."""
    return encode(Opcode.RESUME, {"token": token, "session_id": session.id, "seq": session.sequence})
