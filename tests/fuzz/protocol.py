"""Targets for what has no I/O: codec, machine, events, commands. The inflaters are in `tests.fuzz.inflaters`.

Each is a function of bytes that returns when all is well. An error that is not documented leaves it as it is; a
promise that is not kept is an AssertionError.
"""

from __future__ import annotations

import functools
import json
import math
import re
from typing import Any, Final

import msgspec
from msgspec import inspect

from tests.fuzz.source import MAX_DEPTH, Source
from trioshard.errors import GatewayProtocolError, InvalidCommand
from trioshard.protocol import codec, commands
from trioshard.protocol.events import EVENT_TYPES, Dispatch, RateLimited
from trioshard.protocol.machine import Deliver, Greet, Ignored, Machine, Open, SessionInvalidated
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import HANDSHAKES, Phase
from trioshard.protocol.session import Session

__all__ = ["commands_target", "envelope_target", "event_target", "machine_target"]


# --- codec ---


def envelope_target(data: bytes) -> None:
    """`codec.scan` and `codec.decode_json`, on JSON of every shape. What they read is what json.loads reads."""
    source = Source(data)
    if source.rarely():  # a subscriber decodes what is not in an envelope any more
        _decode(source.json())
    document: bytes | str
    match source.below(4):
        case 0:
            document = source.rest()
        case 1:
            document = source.json()
        case 2:
            document = _envelope_text(source)
        case _:
            document = _envelope_text(source)
            at = source.below(len(document) + 1)
            document = document[:at] + source.chunk(8) + document[at + source.below(4) :]
    if source.rarely():
        document = document.decode("utf-8", "surrogateescape")
    try:
        envelope = codec.scan(document)
    except GatewayProtocolError:
        return
    assert type(envelope.op) is int
    assert envelope.s is None or type(envelope.s) is int
    assert envelope.t is None or type(envelope.t) is str
    decoded = _decode(envelope.d)
    if decoded is not None:
        _compare(document, envelope, decoded[0])


def _decode(raw: msgspec.Raw | bytes) -> tuple[object] | None:
    try:
        return (codec.decode_json(raw),)
    except GatewayProtocolError:
        return None


def _envelope_text(source: Source) -> bytes:
    names = [source.choice(("op", "d", "s", "t", "op", "x")) for _ in range(source.below(5))]
    members = [b'"op":%d' % source.choice((0, 1, 7, 9, 10, 11, 99)), b'"d":' + source.json()]
    members += [json.dumps(name).encode() + b":" + source.json(MAX_DEPTH - 2) for name in names]
    return b"{" + b",".join(members) + b"}"


def _compare(document: bytes | str, envelope: codec.Envelope, value: object) -> None:
    try:
        text = document if isinstance(document, str) else document.decode()
        expected = json.loads(text)
    except (ValueError, RecursionError):  # what is skipped is not looked at closely, and json nests less deeply
        return
    assert (envelope.op, envelope.s, envelope.t) == (expected["op"], expected.get("s"), expected.get("t"))
    assert _same(value, expected.get("d"))


def _same(one: object, other: object) -> bool:
    # By their text: 1 and 1.0 and True are equal, and not the same. Depth costs no recursion of ours.
    try:
        return json.dumps(one) == json.dumps(other)
    except RecursionError:
        return True


# --- machine ---

_ORDER: Final = list(Phase)


def machine_target(data: bytes) -> None:
    """A connection's machine under any sequence of arrivals, writes and endings."""
    source = Source(data)
    known = Session(id="5e55", sequence=source.choice((0, 40, 1 << 64)), resume_url="wss://x/")
    machine = Machine(session=known if source.flag() else None)
    shaken_hands, opened = 0, False
    while source.more:
        phase, sequence = machine.phase, machine.sequence
        match source.below(16):
            case 0:
                machine.connected()
            case 1 if source.rarely():
                machine.close()
            case 2 if source.rarely():
                machine.closed()
            case 3 | 4 | 5:
                opcode = source.choice(tuple(Opcode))
                if machine.admit(opcode):
                    _check_admitted(machine, opcode, opened=opened)
                    machine.goes_out(opcode)
                    shaken_hands += opcode in HANDSHAKES
            case _:
                opened = _arrives(machine, _arrival(source)) or opened
        assert shaken_hands <= 1, "a second Identify or Resume was admitted"
        assert _ORDER.index(machine.phase) >= _ORDER.index(phase), f"{phase} went back to {machine.phase}"
        assert sequence is None or (machine.sequence is not None and machine.sequence >= sequence)
        json.loads(codec.encode_heartbeat(machine.sequence))
        session = machine.current_session()
        if session is not None:
            assert session.sequence == machine.sequence or machine.sequence is None
            assert json.loads(codec.encode_resume(token="t", session=session))["d"]["seq"] == session.sequence


def _check_admitted(machine: Machine, opcode: Opcode, *, opened: bool) -> None:
    assert machine.phase not in (Phase.CONNECTING, Phase.AWAITING_HELLO, Phase.CLOSING, Phase.CLOSED)
    if opcode in HANDSHAKES:
        assert not opened
        assert opcode is machine.handshake
    elif opcode is not Opcode.HEARTBEAT:
        assert opened, f"{opcode.name} was admitted before READY or RESUMED"


def _arrives(machine: Machine, envelope: codec.Envelope) -> bool:
    """Let it arrive; return whether it opened the gate."""
    phase, sequence, session = machine.phase, machine.sequence, machine.session
    foretold = machine.moves(envelope)
    assert foretold is not phase
    try:
        effect = machine.receive(envelope)
    except GatewayProtocolError:
        assert (machine.phase, machine.sequence, machine.session) == (phase, sequence, session)
        return False
    assert machine.phase is (foretold or phase), f"foretold was {foretold}, and it came to {machine.phase}"
    match effect:
        case Greet(interval=interval, first=first):
            assert 1 <= interval <= 3600
            assert first is (phase is Phase.AWAITING_HELLO)
        case Open(session=session):
            assert machine.phase is Phase.READY
            assert machine.session is session
        case SessionInvalidated(resumable=resumable):
            assert resumable is (bytes(envelope.d).strip() == b"true")
        case Deliver():
            assert phase in (Phase.RESUMING, Phase.READY)
        case Ignored():
            assert (machine.phase, machine.sequence, machine.session) == (phase, sequence, session)
    return isinstance(effect, Open)


_GOOD_DATA: Final = {
    Opcode.HELLO: b'{"heartbeat_interval":41250}',
    Opcode.INVALID_SESSION: b" true ",
    Opcode.DISPATCH: b'{"session_id":"f","resume_gateway_url":"wss://y/"}',
}


def _arrival(source: Source) -> codec.Envelope:
    op = source.choice((0, 0, 0, 10, 10, 1, 7, 9, 11, 2, 99, -1, 1 << 70))
    name = source.choice((None, "READY", "RESUMED", "MESSAGE_CREATE", "RATE_LIMITED", ""))
    raw = source.json() if source.byte() % 4 == 3 else _GOOD_DATA.get(op, b"null")
    if source.byte() % 4 == 3:  # another value in place of the first
        raw = re.sub(rb":[^,}]*", lambda _: b":" + source.json(MAX_DEPTH), raw, count=1)
    number = source.integer() if source.byte() % 4 else None
    return codec.Envelope(op=op, d=msgspec.Raw(raw), s=number, t=name)


# --- events ---

_TOKEN: Final = b'"a-secret-token"'


def event_target(data: bytes) -> None:
    """Every typed event, made from data that fit it, nearly fit it, or are anything."""
    source = Source(data)
    kind = source.choice(tuple(EVENT_TYPES.values()))
    raw = source.json() if source.rarely() else _fitting(_shape(kind), source, 0)
    dispatch = Dispatch(kind.NAME, 1, (0, 1), raw)
    assert dispatch.raw == raw
    try:
        event = dispatch.decode(kind)
    except GatewayProtocolError:
        return
    assert type(event) is kind
    assert event.dispatch is dispatch
    assert dispatch.decode(kind) is event
    shown = repr(event)
    assert _TOKEN.decode().strip('"') not in shown, "a token is shown"
    if isinstance(event, RateLimited):
        _rate_limited(event)
    try:
        dispatch.json()
    except GatewayProtocolError:
        pass


_shape = functools.cache(inspect.type_info)


def _rate_limited(event: RateLimited) -> None:
    assert math.isfinite(event.retry_after), "who sleeps for that long never wakes, or is told that it is no number"
    try:
        key = commands.limited_key(event)
    except ValueError:
        return
    assert key is None or type(key) is int


def _fitting(info: inspect.Type, source: Source, depth: int) -> bytes:
    """Write JSON that fits a type, and now and then something else in its place."""
    if source.rarely():
        return source.json(MAX_DEPTH - 2)
    match info:
        case inspect.IntType():
            number = b"%d" % source.integer()
            return b'"' + number + b'"' if source.flag() else number
        case inspect.StrType():
            return source.choice((b'"x"', b'"abcdefghijkl"', json.dumps(source.text()).encode()))
        case inspect.BoolType():
            return source.choice((b"true", b"false"))
        case inspect.FloatType():
            return source.choice((b"1.5", b"-3", b'"nan"', b'"inf"', b"1e308"))
        case inspect.UnionType(types=types):
            return _fitting(source.choice(types), source, depth + 1)
        case inspect.ListType(item_type=item):
            return b"[" + b",".join(_fitting(item, source, depth + 1) for _ in range(source.below(3))) + b"]"
        case inspect.TupleType(item_types=items):
            return b"[" + b",".join(_fitting(item, source, depth + 1) for item in items) + b"]"
        case inspect.StructType(fields=fields):
            wanted = [field for field in fields if not source.rarely() and (field.required or source.flag())]
            members = [_member(field.encode_name, _field(field, source, depth + 1)) for field in wanted]
            return b"{" + b",".join(members) + b"}"
        case inspect.DictType():
            return b"{" + _member(source.choice(("guild_id", "nonce")), source.json(MAX_DEPTH - 1)) + b"}"
        case inspect.NoneType():
            return b"null"
        case _:
            return source.json(MAX_DEPTH - 2)


def _field(field: inspect.Field, source: Source, depth: int) -> bytes:
    telling = {"token": _TOKEN, "opcode": b"8"}.get(field.encode_name)
    return _fitting(field.type, source, depth) if telling is None or source.rarely() else telling


def _member(name: str, value: bytes) -> bytes:
    return json.dumps(name).encode() + b":" + value


# --- commands ---

_COMMANDS: Final[tuple[type[Any], ...]] = (
    commands.UpdatePresence,
    commands.UpdateVoiceState,
    commands.RequestMembers,
    commands.RequestSoundboardSounds,
    commands.RequestChannelInfo,
)


def commands_target(data: bytes) -> None:
    """Every command from arguments of any kind: refused, or a document that says what was given."""
    source = Source(data)
    kind = source.choice(_COMMANDS)
    names = [name for name in kind.__struct_fields__ if source.byte() % 4]
    try:
        arguments = {name: _argument(name, source) for name in names}
        command = kind(**arguments)
    except (InvalidCommand, TypeError) as exc:
        missing = isinstance(exc, TypeError) and "Missing required argument" in str(exc)
        assert isinstance(exc, InvalidCommand) or missing, f"an undocumented error: {exc!r}"
        return
    key = commands.limit_key(command)
    assert key is None or key == "presence" or (type(key) is int and 0 < key < 1 << 64)
    try:
        document = commands.encode_command(command)
    except InvalidCommand:
        return
    assert len(document) <= (commands.MAX_PRESENCE if kind is commands.UpdatePresence else codec.MAX_OUTBOUND)
    sent = json.loads(document)
    assert sent["op"] == kind.opcode
    for name, given in arguments.items():
        _check_said(name, given, sent["d"])


def _argument(name: str, source: Source) -> object:
    if source.rarely():
        return source.value()
    match name:
        case "guild_ids" | "user_ids":
            ids: list[object] = [_argument("id", source) for _ in range(source.below(4))]
            return ids * source.choice((1, 1, 30, 100, 300))
        case "fields":
            return source.choice((["status"], ("voice_start_time", "status"), [], ["x"], "status"))
        case "activities":
            return [_activity(source) for _ in range(source.below(4))] * source.choice((1, 1, 20))
        case "status":
            return source.choice(("online", "idle", "away", "", None))
        case "query" | "nonce":
            return source.choice((None, "", source.text(), source.text() * 40))
        case "limit" | "since":
            return source.choice((None, source.integer()))
        case _ if name.endswith("id"):
            return source.choice((source.integer(), str(source.integer()), source.text()))
        case _:
            return source.choice((True, False))


def _activity(source: Source) -> object:
    url = source.choice((None, "https://twitch.tv/x", source.text()))
    name = source.text() * source.choice((1, 1, 100))
    return commands.Activity(name=name, type=source.below(7), state=source.choice((None, source.text())), url=url)


def _check_said(name: str, given: Any, said: dict[str, Any]) -> None:
    match name:
        case "guild_id" | "channel_id":
            expected: Any = None if given is None else str(given)
        case "guild_ids" | "user_ids":
            expected = None if given is None else [str(value) for value in given]
        case "fields":
            expected = list(given)
        case "activities":
            expected = json.loads(msgspec.json.encode(list(given)))
        case "presences":
            expected = True if given else None
        case "limit" if given is None:
            return  # chosen by the command
        case _:
            expected = given
    if name.endswith(("_id", "_ids")) and expected is not None:
        for written in expected if isinstance(expected, list) else [expected]:
            assert re.fullmatch(r"[0-9]{1,20}", written), f"{written!r} was sent as an id"
    assert name != "limit" or (type(given) is int and given >= 0), f"{given!r} was sent as a limit"
    assert said.get(name) == expected, f"{name} was given as {given!r:.80}, and said as {said.get(name)!r:.80}"
