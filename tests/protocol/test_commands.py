"""What a user may send: how it looks on the wire, and what is refused before it is queued."""

from __future__ import annotations

import json

import pytest

from trioshard.errors import InvalidCommand
from trioshard.protocol.codec import MAX_OUTBOUND, encode_identify
from trioshard.protocol.commands import (
    MAX_PRESENCE,
    Activity,
    ActivityType,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
    encode_command,
    limit_key,
    limited_key,
)
from trioshard.protocol.events import RateLimited

PLAYING = Activity.playing("chess")


# On the wire


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        (UpdatePresence(), '{"op":3,"d":{"activities":[],"status":"online","since":null,"afk":false}}'),
        (
            UpdatePresence(activities=[PLAYING], status="idle", since=1700000000000, afk=True),
            '{"op":3,"d":{"activities":[{"name":"chess","type":0}],"status":"idle","since":1700000000000,"afk":true}}',
        ),
        (
            UpdateVoiceState(guild_id=7),
            '{"op":4,"d":{"guild_id":"7","channel_id":null,"self_mute":false,"self_deaf":false}}',
        ),
        (
            UpdateVoiceState(guild_id="7", channel_id=8, self_mute=True, self_deaf=True),
            '{"op":4,"d":{"guild_id":"7","channel_id":"8","self_mute":true,"self_deaf":true}}',
        ),
        (RequestMembers(guild_id=7, query=""), '{"op":8,"d":{"guild_id":"7","query":"","limit":0}}'),
        (RequestMembers(guild_id=7, query="", limit=5000), '{"op":8,"d":{"guild_id":"7","query":"","limit":5000}}'),
        (RequestMembers(guild_id=7, query="ab"), '{"op":8,"d":{"guild_id":"7","query":"ab","limit":100}}'),
        (
            RequestMembers(guild_id=7, query="ü", limit=1, presences=True, nonce="n"),
            '{"op":8,"d":{"guild_id":"7","query":"ü","limit":1,"presences":true,"nonce":"n"}}',
        ),
        (RequestMembers(guild_id=7, user_ids=[1, "2"]), '{"op":8,"d":{"guild_id":"7","user_ids":["1","2"]}}'),
        (RequestSoundboardSounds(guild_ids=[1, "2"]), '{"op":31,"d":{"guild_ids":["1","2"]}}'),
        (RequestChannelInfo(guild_id=7), '{"op":43,"d":{"guild_id":"7","fields":["status","voice_start_time"]}}'),
        (RequestChannelInfo(guild_id=7, fields=["status"]), '{"op":43,"d":{"guild_id":"7","fields":["status"]}}'),
    ],
)
def test_wire(command, wire):
    assert encode_command(command) == wire.encode()


@pytest.mark.parametrize(
    ("activity", "wire"),
    [
        (Activity.playing("chess"), {"name": "chess", "type": 0}),
        (Activity.playing("chess", state="losing"), {"name": "chess", "type": 0, "state": "losing"}),
        (
            Activity.streaming("live", "https://www.twitch.tv/somebody"),
            {"name": "live", "type": 1, "url": "https://www.twitch.tv/somebody"},
        ),
        (Activity.listening("rain", state="loud"), {"name": "rain", "type": 2, "state": "loud"}),
        (Activity.watching("paint dry", state="slow"), {"name": "paint dry", "type": 3, "state": "slow"}),
        (Activity.custom("hi"), {"name": "Custom Status", "type": 4, "state": "hi"}),
        (Activity.competing("a race", state="last"), {"name": "a race", "type": 5, "state": "last"}),
    ],
)
def test_activities_on_the_wire(activity, wire):
    document = json.loads(encode_command(UpdatePresence(activities=[activity])))
    assert document["d"]["activities"] == [wire]


def test_activity_types():
    assert [kind.name for kind in sorted(ActivityType)] == [
        "PLAYING",
        "STREAMING",
        "LISTENING",
        "WATCHING",
        "CUSTOM",
        "COMPETING",
    ]
    assert sorted(ActivityType) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("host", ["twitch.tv", "www.twitch.tv", "youtube.com", "www.youtube.com"])
def test_hosts_for_streaming(host):
    assert Activity.streaming("live", f"https://{host}/x").url == f"https://{host}/x"


@pytest.mark.parametrize("status", ["online", "dnd", "idle", "invisible", "offline"])
def test_statuses(status):
    assert json.loads(encode_command(UpdatePresence(status=status)))["d"]["status"] == status


# Refused at the border

GUILD = {"guild_id": 1}
MISTAKES = [
    (Activity, {"name": "", "type": 0}, "name"),
    (Activity, {"name": None, "type": 0}, "name"),
    (Activity, {"name": 5, "type": 0}, "name"),
    (Activity, {"name": "a", "type": 6}, "type"),
    (Activity, {"name": "a", "type": -1}, "type"),
    (Activity, {"name": "a", "type": "playing"}, "type"),
    (Activity, {"name": "a", "type": 1.0}, "type"),
    (Activity, {"name": "a", "type": True}, "type"),
    (Activity, {"name": "a", "type": 0, "state": 5}, "state"),
    (Activity, {"name": "a", "type": 1, "url": "http://twitch.tv/a"}, "url"),
    (Activity, {"name": "a", "type": 1, "url": "https://twitch.tv.example/a"}, "url"),
    (Activity, {"name": "a", "type": 1, "url": ""}, "url"),
    (Activity, {"name": "a", "type": 1, "url": 5}, "url"),
    (UpdatePresence, {"activities": ["chess"]}, "activities"),
    (UpdatePresence, {"activities": [{"name": "chess", "type": 0}]}, "activities"),
    (UpdatePresence, {"activities": "chess"}, "activities"),
    (UpdatePresence, {"activities": None}, "activities"),
    (UpdatePresence, {"activities": PLAYING}, "activities"),
    (UpdatePresence, {"status": "away"}, "status"),
    (UpdatePresence, {"status": None}, "status"),
    (UpdatePresence, {"since": -1}, "since"),
    (UpdatePresence, {"since": 1.5}, "since"),
    (UpdatePresence, {"since": True}, "since"),
    (UpdatePresence, {"afk": None}, "afk"),
    (UpdatePresence, {"afk": 1}, "afk"),
    (UpdateVoiceState, {"guild_id": None}, "guild_id"),
    (UpdateVoiceState, {"guild_id": 1, "channel_id": 0}, "channel_id"),
    (UpdateVoiceState, {"guild_id": 1, "self_mute": "yes"}, "self_mute"),
    (UpdateVoiceState, {"guild_id": 1, "self_deaf": 0}, "self_deaf"),
    (RequestMembers, GUILD, "query"),
    (RequestMembers, GUILD | {"query": "a", "user_ids": [1]}, "query"),
    (RequestMembers, GUILD | {"query": "", "user_ids": []}, "query"),
    (RequestMembers, GUILD | {"query": 5}, "query"),
    (RequestMembers, GUILD | {"query": b"a"}, "query"),
    (RequestMembers, GUILD | {"query": "", "limit": -1}, "limit"),
    (RequestMembers, GUILD | {"query": "", "limit": True}, "limit"),
    (RequestMembers, GUILD | {"query": "", "limit": "5"}, "limit"),
    (RequestMembers, GUILD | {"query": "a", "limit": 0}, "limit"),
    (RequestMembers, GUILD | {"query": "a", "limit": 101}, "limit"),
    (RequestMembers, GUILD | {"user_ids": [1], "limit": 1}, "limit"),
    (RequestMembers, GUILD | {"user_ids": []}, "user_ids"),
    (RequestMembers, GUILD | {"user_ids": range(1, 102)}, "user_ids"),
    (RequestMembers, GUILD | {"user_ids": "123"}, "user_ids"),
    (RequestMembers, GUILD | {"user_ids": b"123"}, "user_ids"),
    (RequestMembers, GUILD | {"user_ids": 123}, "user_ids"),
    (RequestMembers, GUILD | {"user_ids": [1, 0]}, "user_ids"),
    (RequestMembers, GUILD | {"query": "", "presences": 1}, "presences"),
    (RequestMembers, GUILD | {"query": "", "nonce": "x" * 33}, "nonce"),
    (RequestMembers, GUILD | {"query": "", "nonce": "ü" * 17}, "nonce"),
    (RequestMembers, GUILD | {"query": "", "nonce": 5}, "nonce"),
    (RequestMembers, GUILD | {"query": "", "nonce": "\ud800"}, "nonce"),
    (RequestSoundboardSounds, {"guild_ids": []}, "guild_ids"),
    (RequestSoundboardSounds, {"guild_ids": "123"}, "guild_ids"),
    (RequestSoundboardSounds, {"guild_ids": b"123"}, "guild_ids"),
    (RequestSoundboardSounds, {"guild_ids": 123}, "guild_ids"),
    (RequestSoundboardSounds, {"guild_ids": [1, None]}, "guild_ids"),
    (RequestChannelInfo, GUILD | {"fields": []}, "fields"),
    (RequestChannelInfo, GUILD | {"fields": "status"}, "fields"),
    (RequestChannelInfo, GUILD | {"fields": ["topic"]}, "fields"),
    (RequestChannelInfo, GUILD | {"fields": [["status"]]}, "fields"),
    (RequestChannelInfo, GUILD | {"fields": 5}, "fields"),
]


def name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else ascii(value)[:60]


@pytest.mark.parametrize(("kind", "arguments", "field"), MISTAKES, ids=name_of)
def test_mistakes_are_refused_with_the_name_of_the_field(kind, arguments, field):
    with pytest.raises(InvalidCommand) as refusal:
        kind(**arguments)
    assert refusal.value.field == field


NO_IDS = [
    None,
    0,
    -1,
    1 << 64,
    True,
    1.0,
    "",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1.0",
    "0x1",
    "0",
    "\u0661",
    "\u00b2",
    "9" * 5000,
    b"1",
]


@pytest.mark.parametrize("value", NO_IDS, ids=name_of)
@pytest.mark.parametrize(
    ("kind", "field", "arguments"),
    [
        (UpdateVoiceState, "guild_id", lambda value: {"guild_id": value}),
        (RequestMembers, "guild_id", lambda value: {"guild_id": value, "query": ""}),
        (RequestMembers, "user_ids", lambda value: {"guild_id": 1, "user_ids": [value]}),
        (RequestSoundboardSounds, "guild_ids", lambda value: {"guild_ids": [1, value]}),
        (RequestChannelInfo, "guild_id", lambda value: {"guild_id": value}),
    ],
)
def test_what_is_no_id(kind, field, arguments, value):
    with pytest.raises(InvalidCommand) as refusal:
        kind(**arguments(value))
    assert refusal.value.field == field


@pytest.mark.parametrize("value", [1, "1", (1 << 64) - 1, str((1 << 64) - 1), 81384788765712384])
def test_what_is_an_id(value):
    wire = json.loads(encode_command(UpdateVoiceState(guild_id=value, channel_id=value)))
    assert wire["d"]["guild_id"] == wire["d"]["channel_id"] == str(value)


@pytest.mark.parametrize("nonce", ["", "x" * 32, "ü" * 16])
def test_a_nonce_of_up_to_32_bytes(nonce):
    wire = json.loads(encode_command(RequestMembers(guild_id=1, query="", nonce=nonce)))
    assert wire["d"]["nonce"] == nonce


@pytest.mark.parametrize("thing", [None, "x", {"op": 3}, UpdatePresence, PLAYING, b'{"op":2}'])
def test_nothing_but_commands_can_be_sent(thing):
    with pytest.raises(InvalidCommand, match="only commands"):
        encode_command(thing)


# 4096 bytes


def presence_of(size: int, character: str = "a") -> UpdatePresence:
    """A presence whose JSON has exactly so many bytes."""
    room = size - len(encode_command(UpdatePresence(activities=[Activity.custom("")])))
    room -= len('"state":"",') - len('"state":"",')
    filler, rest = divmod(room, len(character.encode()))
    return UpdatePresence(activities=[Activity.custom(character * filler + "a" * rest)])


@pytest.mark.parametrize("character", ["a", "ü", "語", "🦊"])
def test_a_presence_leaves_room_for_the_identify_that_repeats_it(character):
    assert len(encode_command(presence_of(MAX_PRESENCE, character))) == 3584
    with pytest.raises(InvalidCommand, match="3585 bytes"):
        encode_command(presence_of(MAX_PRESENCE + 1, character))
    with pytest.raises(InvalidCommand, match="4097 bytes"):
        encode_command(presence_of(MAX_OUTBOUND + 1, character))
    identify = encode_identify(
        token="t" * 200,
        intents=53608447,
        shard=(10_000, 20_000),
        properties={"os": "a long name of one", "browser": "trioshard", "device": "trioshard"},
        presence=presence_of(MAX_PRESENCE, character).data(),
        large_threshold=250,
        payload_compression=True,
    )
    assert len(identify) <= MAX_OUTBOUND


def test_the_largest_request_for_members_fits():
    ids = range(10**19, 10**19 + 100)
    document = encode_command(RequestMembers(guild_id=10**19, user_ids=ids, nonce="n" * 32))
    assert len(document) < 2500


@pytest.mark.parametrize(("digits", "count"), [(19, 184), (20, 176)])
def test_how_many_guilds_fit_into_a_request_for_sounds(digits, count):
    first = 10 ** (digits - 1)
    encode_command(RequestSoundboardSounds(guild_ids=range(first, first + count)))
    with pytest.raises(InvalidCommand, match="4096"):
        encode_command(RequestSoundboardSounds(guild_ids=range(first, first + count + 1)))


def test_text_that_is_no_text_is_refused_when_encoding():
    with pytest.raises(InvalidCommand, match="cannot be encoded"):
        encode_command(RequestMembers(guild_id=1, query="\ud800"))


# What was checked stays as it was


each_list = pytest.mark.parametrize(
    ("build", "field", "values"),
    [
        (lambda values: UpdatePresence(activities=values), "activities", [PLAYING]),
        (lambda values: RequestMembers(guild_id=1, user_ids=values), "user_ids", [1, 2]),
        (lambda values: RequestSoundboardSounds(guild_ids=values), "guild_ids", [1, 2]),
        (lambda values: RequestChannelInfo(guild_id=1, fields=values), "fields", ["status"]),
    ],
    ids=["activities", "user_ids", "guild_ids", "fields"],
)


@each_list
def test_lists_become_tuples(build, field, values):
    values = list(values)
    command = build(values)
    before = encode_command(command)
    values.clear()
    assert isinstance(getattr(command, field), tuple)
    assert encode_command(command) == before


@each_list
def test_nothing_is_lost_from_an_iterator(build, field, values):
    assert getattr(build(iter(values)), field) == tuple(values)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (PLAYING, "name"),
        (UpdatePresence(), "status"),
        (UpdateVoiceState(guild_id=1), "channel_id"),
        (RequestMembers(guild_id=1, query=""), "query"),
        (RequestSoundboardSounds(guild_ids=[1]), "guild_ids"),
        (RequestChannelInfo(guild_id=1), "fields"),
    ],
)
def test_commands_cannot_be_changed(command, field):
    with pytest.raises(AttributeError):
        setattr(command, field, "other")


# Bot-wide limits


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (UpdatePresence(), "presence"),
        (UpdateVoiceState(guild_id=1), None),
        (RequestMembers(guild_id=7, query=""), 7),
        (RequestMembers(guild_id="7", query="", limit=0, nonce="x"), 7),
        (RequestMembers(guild_id=7, query="", limit=1), None),
        (RequestMembers(guild_id=7, query="a"), None),
        (RequestMembers(guild_id=7, user_ids=[1]), None),
        (RequestSoundboardSounds(guild_ids=[1]), None),
        (RequestChannelInfo(guild_id=1), None),
    ],
)
def test_which_limit_a_command_falls_under(command, key):
    assert limit_key(command) == key


@pytest.mark.parametrize(
    ("opcode", "meta", "key"),
    [
        (8, {"guild_id": "7"}, 7),
        (8, {"guild_id": 7, "nonce": "x"}, 7),
        (8, {}, None),
        (3, {"guild_id": "7"}, None),
    ],
)
def test_which_limit_a_rate_limited_event_is_about(opcode, meta, key):
    assert limited_key(RateLimited(opcode=opcode, retry_after=1.0, meta=meta)) == key


@pytest.mark.parametrize("guild_id", [None, [7], {}, 7.5, "seven", "9" * 5000])
def test_a_rate_limited_event_about_no_guild(guild_id):
    with pytest.raises(ValueError):
        limited_key(RateLimited(opcode=8, retry_after=1.0, meta={"guild_id": guild_id}))
