"""Typed events from what Discord sends: as documented, as it may be left out, and as it must not be."""

from __future__ import annotations

import gc
import json
from typing import Any

import msgspec
import pytest

from trioshard.errors import GatewayProtocolError
from trioshard.protocol import events, objects
from trioshard.protocol.events import EVENT_TYPES, Dispatch, Event

SECRET = "aW50ZXJhY3Rpb24tdG9rZW4"

USER = {
    "id": "80351110224678912",
    "username": "nelly",
    "discriminator": "0",
    "global_name": "Nelly",
    "avatar": "8342729096ea3675442027381ff50dfe",
    "bot": False,
    "public_flags": 64,
}
MEMBER = {
    "nick": None,
    "avatar": None,
    "roles": ["41771983423143936", "41771983423143937"],
    "joined_at": "2015-04-26T06:26:56.936000+00:00",
    "premium_since": None,
    "deaf": False,
    "mute": True,
    "pending": True,
    "flags": 0,
}
VOICE_STATE = {
    "channel_id": "157733188964188161",
    "user_id": "80351110224678912",
    "session_id": "90326bd25d71d39b9ef95b299e3872ff",
    "deaf": False,
    "mute": False,
    "self_deaf": False,
    "self_mute": True,
    "self_stream": True,
    "self_video": False,
    "suppress": False,
    "request_to_speak_timestamp": None,
}
PAYLOADS: dict[str, dict[str, Any]] = {
    "READY": {
        "v": 10,
        "user": USER | {"bot": True, "email": None, "mfa_enabled": True},
        "guilds": [{"id": "41771983423143937", "unavailable": True}],
        "session_id": "7f1c",
        "resume_gateway_url": "wss://gateway-us-east1-b.discord.gg",
        "session_type": "normal",
        "shard": [3, 16],
        "application": {"id": "90", "flags": 565248},
        "_trace": ["gateway"],
    },
    "RESUMED": {"_trace": ["gateway"]},
    "RATE_LIMITED": {"opcode": 8, "retry_after": 12.5, "meta": {"guild_id": "41771983423143937", "nonce": "n1"}},
    "MESSAGE_CREATE": {
        "id": "334385199974967042",
        "channel_id": "290926798999357250",
        "guild_id": "290926798626357999",
        "author": USER,
        "member": MEMBER,
        "content": "Süßes oder Saures 🎃",
        "timestamp": "2017-07-11T17:27:07.299000+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": True,
        "mentions": [USER | {"member": MEMBER}],
        "mention_roles": ["41771983423143936"],
        "attachments": [
            {
                "id": "5",
                "filename": "cat.png",
                "size": 1024,
                "url": "https://cdn.example/cat.png",
                "proxy_url": "https://media.example/cat.png",
                "content_type": "image/png",
                "height": 20,
            }
        ],
        "embeds": [],
        "pinned": False,
        "type": 19,
        "flags": 4,
        "nonce": "1234567890",
        "components": [],
        "channel_type": 0,
    },
    "INTERACTION_CREATE": {
        "id": "846462639134605312",
        "application_id": "845027738276462632",
        "type": 2,
        "data": {"id": "771825006014889984", "name": "cardsearch", "options": [{"name": "cardname", "type": 3}]},
        "guild": {"id": "290926798626357999", "locale": "de", "features": []},
        "guild_id": "290926798626357999",
        "channel": {"id": "645027906669510667", "type": 0},
        "channel_id": "645027906669510667",
        "member": MEMBER | {"user": USER, "permissions": "2147483647"},
        "token": SECRET,
        "version": 1,
        "app_permissions": "442368",
        "locale": "de",
        "guild_locale": "en-US",
        "entitlements": [],
        "authorizing_integration_owners": {"0": "846314253033898028"},
        "context": 0,
        "attachment_size_limit": 10485760,
    },
    "GUILD_CREATE": {
        "id": "41771983423143937",
        "name": "Developers",
        "icon": None,
        "owner_id": "80351110224678912",
        "joined_at": "2015-04-26T06:26:56.936000+00:00",
        "large": True,
        "unavailable": False,
        "member_count": 2500,
        "voice_states": [VOICE_STATE],
        "members": [MEMBER | {"user": USER}],
        "channels": [{"id": "1", "type": 0, "name": "general"}],
        "threads": [{"id": "2", "type": 11, "name": "a thread"}],
        "presences": [],
        "roles": [{"id": "41771983423143937", "name": "@everyone"}],
        "emojis": [],
        "features": ["COMMUNITY"],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    },
    "GUILD_MEMBERS_CHUNK": {
        "guild_id": "41771983423143937",
        "members": [MEMBER | {"user": USER}],
        "chunk_index": 0,
        "chunk_count": 2,
        "not_found": ["80351110224678913", 17],
        "presences": [{"user": {"id": "80351110224678912"}, "status": "idle"}],
        "nonce": "42",
    },
    "VOICE_STATE_UPDATE": VOICE_STATE | {"guild_id": "41771983423143937", "member": MEMBER | {"user": USER}},
    "VOICE_SERVER_UPDATE": {"token": SECRET, "guild_id": "41771983423143937", "endpoint": "sweetwater-12345.vip:2048"},
    "PRESENCE_UPDATE": {
        "user": {"id": "80351110224678912"},
        "guild_id": "41771983423143937",
        "status": "idle",
        "activities": [{"name": "chess", "type": 0, "buttons": ["Watch"]}],
        "client_status": {"desktop": "idle", "vr": "online"},
    },
}

REQUIRED = {
    "READY": ["session_id", "resume_gateway_url", "user"],
    "RESUMED": [],
    "RATE_LIMITED": ["opcode", "retry_after"],
    "MESSAGE_CREATE": ["id", "channel_id", "author"],
    "INTERACTION_CREATE": ["id", "application_id", "type", "token"],
    "GUILD_CREATE": ["id"],
    "GUILD_MEMBERS_CHUNK": ["guild_id", "members", "chunk_index", "chunk_count"],
    "VOICE_STATE_UPDATE": ["user_id"],
    "VOICE_SERVER_UPDATE": ["token", "guild_id"],
    "PRESENCE_UPDATE": ["user"],
}

each_event = pytest.mark.parametrize("name", PAYLOADS)


def dispatch(name: str, data: object) -> Dispatch:
    return Dispatch(name, 5, (3, 16), msgspec.Raw(json.dumps(data).encode()), "7f1c")


def decode(name: str, data: object) -> Any:
    return dispatch(name, data).decode(EVENT_TYPES[name])


def changed(name: str, **fields: object) -> Any:
    return decode(name, PAYLOADS[name] | fields)


def without(name: str, *fields: str) -> dict[str, Any]:
    return {field: value for field, value in PAYLOADS[name].items() if field not in fields}


# The set of types


def test_every_typed_event_is_listed_under_its_name():
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)} - {Event}
    assert set(EVENT_TYPES.values()) == kinds
    assert {name: kind.NAME for name, kind in EVENT_TYPES.items()} == {name: name for name in EVENT_TYPES}
    assert {kind.__name__ for kind in kinds} <= set(events.__all__)
    assert all(kind.__doc__ for kind in kinds)


def test_this_file_has_a_sample_of_each():
    assert set(PAYLOADS) == set(REQUIRED) == set(EVENT_TYPES)


# Realistic payloads


def test_ready():
    event = decode("READY", PAYLOADS["READY"])
    assert (event.session_id, event.resume_gateway_url) == ("7f1c", "wss://gateway-us-east1-b.discord.gg")
    assert (event.v, event.shard) == (10, (3, 16))
    assert event.user == objects.User(
        id=80351110224678912,
        username="nelly",
        global_name="Nelly",
        avatar="8342729096ea3675442027381ff50dfe",
        bot=True,
    )
    assert event.guilds == [objects.UnavailableGuild(id=41771983423143937, unavailable=True)]


def test_resumed():
    event = decode("RESUMED", PAYLOADS["RESUMED"])
    assert isinstance(event, events.Resumed)
    assert event.dispatch.sequence == 5


def test_rate_limited():
    event = decode("RATE_LIMITED", PAYLOADS["RATE_LIMITED"])
    assert (event.opcode, event.retry_after) == (8, 12.5)
    assert event.meta == {"guild_id": "41771983423143937", "nonce": "n1"}
    assert changed("RATE_LIMITED", retry_after=3).retry_after == 3.0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf"])
def test_rate_limited_names_a_time_that_comes(seconds):
    with pytest.raises(GatewayProtocolError, match="retry_after"):
        changed("RATE_LIMITED", retry_after=seconds)


def test_message_create():
    event = decode("MESSAGE_CREATE", PAYLOADS["MESSAGE_CREATE"])
    assert (event.id, event.channel_id, event.guild_id) == (334385199974967042, 290926798999357250, 290926798626357999)
    assert (event.author.username, event.author.mention) == ("nelly", "<@80351110224678912>")
    assert event.content == "Süßes oder Saures 🎃"
    assert event.timestamp == "2017-07-11T17:27:07.299000+00:00"
    assert (event.type, event.flags, event.tts, event.pinned, event.mention_everyone) == (19, 4, False, False, True)
    assert event.member == objects.Member(
        roles=[41771983423143936, 41771983423143937],
        joined_at="2015-04-26T06:26:56.936000+00:00",
        mute=True,
        pending=True,
    )
    assert [user.id for user in event.mentions] == [80351110224678912]
    assert event.mention_roles == [41771983423143936]
    assert event.attachments == [
        objects.Attachment(
            id=5, filename="cat.png", size=1024, url="https://cdn.example/cat.png", content_type="image/png"
        )
    ]


@pytest.mark.parametrize("nonce", ["1234567890", 1234567890, "null", "", None])
def test_a_nonce_comes_back_as_it_was_sent(nonce):
    received = changed("MESSAGE_CREATE", nonce=nonce).nonce
    assert (type(received), received) == (type(nonce), nonce)


def test_a_message_by_a_webhook():
    author = {"id": "8", "username": "CI", "avatar": None}
    event = decode(
        "MESSAGE_CREATE", without("MESSAGE_CREATE", "member", "guild_id") | {"author": author, "webhook_id": "8"}
    )
    assert (event.author.username, event.webhook_id, event.member, event.guild_id) == ("CI", 8, None, None)


def test_interaction_create():
    event = decode("INTERACTION_CREATE", PAYLOADS["INTERACTION_CREATE"])
    assert (event.id, event.application_id, event.type) == (846462639134605312, 845027738276462632, 2)
    assert (event.guild_id, event.channel_id) == (290926798626357999, 645027906669510667)
    assert event.guild == objects.Guild(id=290926798626357999, locale="de")
    assert (event.locale, event.guild_locale, event.app_permissions, event.context) == ("de", "en-US", "442368", 0)
    assert event.data["options"][0]["name"] == "cardname"
    assert event.member.user.username == "nelly"
    assert event.token == SECRET


def test_an_interaction_in_a_direct_message():
    data = without("INTERACTION_CREATE", "guild", "guild_id", "member", "guild_locale") | {"user": USER, "context": 1}
    event = decode("INTERACTION_CREATE", data)
    assert (event.guild_id, event.member, event.user.id, event.context) == (None, None, 80351110224678912, 1)


def test_guild_create():
    event = decode("GUILD_CREATE", PAYLOADS["GUILD_CREATE"])
    assert (event.id, event.name, event.owner_id) == (41771983423143937, "Developers", 80351110224678912)
    assert (event.unavailable, event.large, event.member_count) == (False, True, 2500)
    assert event.members[0].user.id == event.voice_states[0].user_id == 80351110224678912
    assert event.voice_states[0].channel_id == 157733188964188161
    assert [event.channels[0]["name"], event.threads[0]["name"], event.roles[0]["name"]] == [
        "general",
        "a thread",
        "@everyone",
    ]


def test_a_guild_in_an_outage():
    event = decode("GUILD_CREATE", {"id": "41771983423143937", "unavailable": True})
    assert (event.id, event.unavailable, event.name, event.members) == (41771983423143937, True, "", [])


def test_guild_members_chunk():
    event = decode("GUILD_MEMBERS_CHUNK", PAYLOADS["GUILD_MEMBERS_CHUNK"])
    assert (event.guild_id, event.chunk_index, event.chunk_count) == (41771983423143937, 0, 2)
    assert event.members[0].user.username == "nelly"
    assert event.not_found == ["80351110224678913", 17]
    assert (event.nonce, event.presences[0]["status"]) == ("42", "idle")


def test_voice_state_update():
    event = decode("VOICE_STATE_UPDATE", PAYLOADS["VOICE_STATE_UPDATE"])
    assert (event.guild_id, event.channel_id, event.user_id) == (
        41771983423143937,
        157733188964188161,
        80351110224678912,
    )
    assert event.session_id == "90326bd25d71d39b9ef95b299e3872ff"
    assert (event.self_mute, event.self_stream, event.deaf, event.suppress) == (True, True, False, False)
    assert changed("VOICE_STATE_UPDATE", channel_id=None).channel_id is None
    assert changed("VOICE_STATE_UPDATE", member=MEMBER | {"joined_at": None}).member.joined_at is None


@pytest.mark.parametrize("endpoint", ["sweetwater-12345.vip:2048", None])
def test_voice_server_update(endpoint):
    event = changed("VOICE_SERVER_UPDATE", endpoint=endpoint)
    assert (event.token, event.guild_id, event.endpoint) == (SECRET, 41771983423143937, endpoint)


def test_presence_update():
    event = decode("PRESENCE_UPDATE", PAYLOADS["PRESENCE_UPDATE"])
    assert (event.user.id, event.status) == (80351110224678912, "idle")
    assert event.activities[0]["buttons"] == ["Watch"]
    assert event.client_status == {"desktop": "idle", "vr": "online"}


@pytest.mark.parametrize("garbage", [None, 5, "x", [], {}, [[{"id": None}]], {"id": 5}, 1.5, True])
@pytest.mark.parametrize("field", ["guild_id", "status", "activities", "client_status"])
def test_nothing_in_a_presence_is_relied_on(field, garbage):
    assert getattr(changed("PRESENCE_UPDATE", **{field: garbage}), field) == garbage


@pytest.mark.parametrize("garbage", [None, 5, "x", [], {}])
@pytest.mark.parametrize("field", ["username", "discriminator", "avatar", "bot", "something_new"])
def test_nor_in_its_user_but_the_id(field, garbage):
    event = changed("PRESENCE_UPDATE", user={"id": "7", field: garbage})
    assert event.user.id == 7


# What holds for all of them


@each_event
def test_optional_fields_may_be_missing(name):
    event = decode(name, {field: PAYLOADS[name][field] for field in REQUIRED[name]})
    assert isinstance(event, EVENT_TYPES[name])


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in REQUIRED.items() for field in fields])
def test_required_fields_may_not(name, field):
    with pytest.raises(GatewayProtocolError, match=f"{name} does not fit .*{field}"):
        decode(name, without(name, field))


@each_event
def test_unknown_fields_are_ignored_and_still_there(name):
    event = changed(name, something_new={"deep": [1]})
    assert event.dispatch.json()["something_new"] == {"deep": [1]}


@each_event
@pytest.mark.parametrize("data", [None, [], "text", 5, True])
def test_data_that_are_no_object_do_not_fit(name, data):
    with pytest.raises(GatewayProtocolError, match=name):
        decode(name, data)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b'{"_trace":"\xff","a":', b'{"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["empty", "cut", "cut text", "deep"],
)
def test_data_that_are_no_json_do_not_fit(raw):
    with pytest.raises(GatewayProtocolError, match="RESUMED does not fit Resumed"):
        Dispatch("RESUMED", 1, (0, 1), raw).decode(events.Resumed)


def test_text_that_is_not_utf_8_does_not_fit():
    raw = b'{"token":"\xff","guild_id":"1"}'
    with pytest.raises(GatewayProtocolError):
        Dispatch("VOICE_SERVER_UPDATE", 1, (0, 1), raw).decode(events.VoiceServerUpdate)


def numbers_for_ids(value: Any) -> Any:
    """The same data as an encoding would give them that sends ids as numbers."""
    if isinstance(value, dict):
        return {key: as_number(key, item) for key, item in value.items()}
    return [numbers_for_ids(item) for item in value] if isinstance(value, list) else value


def as_number(key: str, value: Any) -> Any:
    if key in ("roles", "mention_roles") and value and isinstance(value[0], str):
        return [int(item) for item in value]
    is_id = key == "id" or (key.endswith("_id") and key != "session_id")
    return int(value) if is_id and isinstance(value, str) else numbers_for_ids(value)


UNTYPED = {"dispatch", "data", "meta", "channels", "threads", "presences"}


@each_event
def test_ids_may_be_numbers(name):
    untyped = UNTYPED | ({"roles", "guild_id"} if name in ("GUILD_CREATE", "PRESENCE_UPDATE") else set())
    from_text, from_numbers = decode(name, PAYLOADS[name]), decode(name, numbers_for_ids(PAYLOADS[name]))
    for field in set(from_text.__struct_fields__) - untyped:
        assert getattr(from_text, field) == getattr(from_numbers, field)


@each_event
def test_events_cannot_be_changed(name):
    event = decode(name, PAYLOADS[name])
    with pytest.raises(AttributeError):
        event.dispatch = None


# Dispatches


@each_event
def test_a_dispatch_is_decoded_once(name):
    whole = dispatch(name, PAYLOADS[name])
    event = whole.decode(EVENT_TYPES[name])
    assert whole.decode(EVENT_TYPES[name]) is event
    assert event.dispatch is whole


def test_a_dispatch_as_it_came():
    whole = dispatch("SOMETHING_NEW", {"a": 1})
    assert (whole.name, whole.sequence, whole.shard, whole.session_id) == ("SOMETHING_NEW", 5, (3, 16), "7f1c")
    assert whole.raw == b'{"a": 1}'
    assert whole.json() == {"a": 1}
    assert whole.json() is not whole.json()
    assert repr(whole) == "<Dispatch SOMETHING_NEW s=5 shard=(3, 16)>"


def test_a_dispatch_that_cannot_be_read():
    with pytest.raises(GatewayProtocolError):
        Dispatch("X", 1, (0, 1), b"{").json()


def test_an_event_without_a_dispatch_belongs_to_none():
    assert events.Resumed().dispatch.name == ""


# Types of one's own


class TypingStart(Event, frozen=True, kw_only=True):
    NAME = "TYPING_START"

    channel_id: int
    user_id: int
    timestamp: int
    guild_id: int | None = None


def test_an_event_of_ones_own():
    whole = dispatch("TYPING_START", {"channel_id": "1", "user_id": 2, "timestamp": 1700000000, "member": {}})
    event = whole.decode(TypingStart)
    assert (event.channel_id, event.user_id, event.guild_id, event.dispatch) == (1, 2, None, whole)
    assert whole.decode(TypingStart) is event
    assert TypingStart.decoder() is TypingStart.decoder()


class Wanted(Event, frozen=True, kw_only=True):
    NAME = "MESSAGE_CREATE"

    embeds: list[dict[str, Any]]


def test_another_type_for_the_same_event():
    whole = dispatch("MESSAGE_CREATE", PAYLOADS["MESSAGE_CREATE"])
    assert whole.decode(events.MessageCreate).content
    assert whole.decode(Wanted).embeds == []
    assert whole.decode(events.MessageCreate).content


# What must not end up in a log


def rich(event: msgspec.Struct) -> str:
    return repr(list(event.__rich_repr__())) if hasattr(event, "__rich_repr__") else ""


@pytest.mark.parametrize("render", [repr, str, "{}".format, rich, lambda event: repr([event])])
@pytest.mark.parametrize("name", ["INTERACTION_CREATE", "VOICE_SERVER_UPDATE"])
def test_no_token_is_shown(name, render):
    event = decode(name, PAYLOADS[name])
    assert SECRET not in render(event)
    assert SECRET not in repr(event.dispatch)


@pytest.mark.parametrize("name", ["INTERACTION_CREATE", "VOICE_SERVER_UPDATE"])
def test_no_token_is_in_the_error_either(name):
    with pytest.raises(GatewayProtocolError) as failure:
        changed(name, guild_id=[])
    assert SECRET not in str(failure.value)


def test_what_is_shown_instead():
    assert repr(decode("INTERACTION_CREATE", PAYLOADS["INTERACTION_CREATE"])) == (
        "<InteractionCreate 846462639134605312 type=2 from <Dispatch INTERACTION_CREATE s=5 shard=(3, 16)>>"
    )
    assert repr(decode("VOICE_SERVER_UPDATE", PAYLOADS["VOICE_SERVER_UPDATE"])) == (
        "<VoiceServerUpdate guild_id=41771983423143937 endpoint='sweetwater-12345.vip:2048'>"
    )


class Tiny(events.Event, frozen=True, kw_only=True):
    """Holds nothing that the collector would look at."""

    NAME = "TINY"

    number: int


@pytest.mark.parametrize(
    ("kind", "raw"),
    [(Tiny, b'{"number":1}'), (events.Resumed, b"{}"), (events.VoiceServerUpdate, b'{"token":"t","guild_id":"1"}')],
)
def test_an_event_that_several_subscribers_got_is_let_go(kind, raw):
    """Dispatch and event hold each other: the collector has to know of both."""
    for _ in range(50):
        dispatch = Dispatch(kind.NAME, 1, (0, 1), msgspec.Raw(raw))
        assert dispatch.decode(kind) is dispatch.decode(kind)
    del dispatch
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is kind]
