from __future__ import annotations

import msgspec
import pytest

from trioshard.protocol.session import Session

from .samples import SESSION


def test_a_session_is_a_value():
    assert msgspec.structs.replace(SESSION) == SESSION
    with pytest.raises(AttributeError):
        SESSION.sequence = 1


def test_another_sequence_makes_another_session():
    later = SESSION.at(99)
    assert (later.sequence, SESSION.sequence) == (99, 40)
    assert later.at(40) == SESSION


def test_what_is_not_given_is_the_plain_case():
    session = Session(id="a", sequence=1, resume_url="wss://b")
    assert (session.shard, session.encoding, session.compress) == ((0, 1), "json", None)


def test_a_session_can_be_stored_and_read_back():
    stored = msgspec.json.encode(SESSION)
    assert msgspec.json.decode(stored, type=Session) == SESSION


def test_a_stored_session_of_a_later_version_can_be_read():
    stored = msgspec.json.encode({**msgspec.to_builtins(SESSION), "something_new": 1})
    assert msgspec.json.decode(stored, type=Session) == SESSION
