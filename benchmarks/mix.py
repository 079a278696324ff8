"""The events that the clients are fed: seeded, as documented by Discord, like the day of a busy bot with presences.

Event number *n* is the same in every run. Sizes are what the fields come to; nothing is padded.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.world import (
    FOUNDED,
    GUILD_ID,
    ROLE_IDS,
    TEXT_CHANNELS,
    USERS,
    VOICE_CHANNELS,
    JSONObject,
    snowflake,
    timestamp,
)

__all__ = ["SHARES", "Mix", "encode_payload"]

SHARES: Final = {
    "PRESENCE_UPDATE": 30,
    "MESSAGE_CREATE": 30,
    "TYPING_START": 15,
    "GUILD_MEMBER_UPDATE": 10,
    "MESSAGE_UPDATE": 5,
    "MESSAGE_REACTION_ADD": 5,
    "VOICE_STATE_UPDATE": 5,
}
"""How many of a hundred events are of which kind."""

_SEED: Final = 20260
_NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
_TALK: Final = """
    the a to and of you it that in is for on was be this have not with so what are just like but they can all do if
    get we my no one at up know or there out me about when think really because would people good some time want
    right from then should still actually maybe going never something another server update tonight question
    probably already channel everyone together anything weekend screenshot literally basically definitely
"""
_WORDS: Final = tuple(_TALK.split())
_EMOJI: Final = ("😂", "🔥", "👍", "❤️", "🎉", "😭", "👀", "✨")
_GAMES: Final = ("Chess", "Minecraft", "Factorio", "Hollow Knight", "Elden Ring", "Stardew Valley", "Dota 2", "Rust")


def encode_payload(name: str, sequence: int, data: JSONObject) -> bytes:
    """Return a dispatch as JSON, with the fields in the order in which Discord writes them."""
    payload = {"t": name, "s": sequence, "op": 0, "d": data}
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


class Mix:
    """An endless series of events."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)
        self._number = 0
        self._users = [self._make_user(n) for n in range(USERS)]
        self._members = [self._make_member() for _ in range(USERS)]
        self._names = tuple(SHARES)
        self._weights = tuple(SHARES.values())
        self._makers = {
            "PRESENCE_UPDATE": self._presence,
            "MESSAGE_CREATE": self._message_create,
            "TYPING_START": self._typing,
            "GUILD_MEMBER_UPDATE": self._member_update,
            "MESSAGE_UPDATE": self._message_update,
            "MESSAGE_REACTION_ADD": self._reaction,
            "VOICE_STATE_UPDATE": self._voice_state,
        }

    def next_event(self) -> tuple[str, JSONObject]:
        """Return name and data of the next event."""
        self._number += 1
        name = self._random.choices(self._names, self._weights)[0]
        return name, self._makers[name]()

    # --- people ---

    def _hash(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _make_user(self, number: int) -> JSONObject:
        made = datetime(2016, 1, 1, tzinfo=UTC) + timedelta(minutes=2_500 * number, seconds=self._random.random())
        name = f"{self._random.choice(_WORDS)}_{self._random.choice(_WORDS)}{number}"
        chance = self._random.random()
        decoration = {"asset": f"a_{self._hash()}", "sku_id": snowflake(FOUNDED, number), "expires_at": None}
        tag = {"identity_guild_id": GUILD_ID, "identity_enabled": True, "tag": "CHAT", "badge": self._hash()}
        return {
            "username": name,
            "public_flags": self._random.choice((0, 0, 64, 128, 4194304)),
            "primary_guild": tag if chance < 0.3 else None,
            "id": snowflake(made, number),
            "global_name": name.replace("_", " ").title(),
            "display_name_styles": None,
            "discriminator": "0",
            "collectibles": None,
            "clan": tag if chance < 0.3 else None,
            "avatar_decoration_data": decoration if chance > 0.8 else None,
            "avatar": self._hash(),
        }

    def _make_member(self) -> JSONObject:
        """Return what a message says of its author as a member."""
        joined = FOUNDED + timedelta(days=2_000 * self._random.random())
        return {
            "roles": self._random.sample(ROLE_IDS, self._random.randint(2, 12)),
            "premium_since": timestamp(joined + timedelta(days=30)) if self._random.random() < 0.1 else None,
            "pending": False,
            "nick": self._random.choice((None, "Night Owl", "moderator on duty", "✨ stargazer ✨")),
            "mute": False,
            "joined_at": timestamp(joined),
            "flags": self._random.choice((0, 0, 2, 10)),
            "deaf": False,
            "communication_disabled_until": None,
            "banner": None,
            "avatar": None,
        }

    def _somebody(self) -> int:
        # A few talk most of the time.
        return int(USERS * self._random.random() ** 3)

    def _whole_member(self, number: int) -> JSONObject:
        return {**self._members[number], "user": self._users[number]}

    # --- messages ---

    def _moment(self) -> datetime:
        return _NOW + timedelta(milliseconds=5 * self._number)

    def _text(self, least: int, most: int) -> str:
        wanted = self._random.randint(least, most)
        words: list[str] = []
        length = 0
        while length < wanted:
            words.append(self._random.choice(_EMOJI if self._random.random() < 0.03 else _WORDS))
            length += len(words[-1]) + 1
        return " ".join(words)

    def _message(self, least: int = 50, most: int = 400) -> JSONObject:
        chance = self._random.random()
        return {
            "type": 0,
            "tts": False,
            "timestamp": timestamp(self._moment()),
            "pinned": False,
            "mentions": [],
            "mention_roles": [self._random.choice(ROLE_IDS)] if chance > 0.97 else [],
            "mention_everyone": False,
            "id": snowflake(self._moment(), self._number % 4096),
            "flags": 0,
            "embeds": [self._embed()] if chance < 0.15 else [],
            "edited_timestamp": None,
            "content": self._text(least, most),
            "components": [],
            "channel_id": self._random.choice(TEXT_CHANNELS),
            "author": self._users[self._somebody()],
            "attachments": [self._attachment()] if chance > 0.9 else [],
        }

    def _message_create(self) -> JSONObject:
        message = self._message()
        if self._random.random() < 0.35:
            self._make_reply(message)
        elif self._random.random() < 0.15:
            mentioned = self._somebody()
            message["mentions"] = [{**self._users[mentioned], "member": self._members[mentioned]}]
            message["content"] = f"<@{self._users[mentioned]['id']}> {message['content']}"
        message |= {
            "nonce": snowflake(self._moment(), 0),
            "member": self._members[self._index_of(message["author"])],
            "channel_type": 0,
            "guild_id": GUILD_ID,
        }
        return message

    def _index_of(self, user: JSONObject) -> int:
        return int(user["id"]) & 0x3FFFFF

    def _make_reply(self, message: JSONObject) -> None:
        original = self._message()
        original["channel_id"] = message["channel_id"]
        other = original["author"]
        message |= {
            "type": 19,
            "referenced_message": original,
            "message_reference": {
                "type": 0,
                "message_id": original["id"],
                "guild_id": GUILD_ID,
                "channel_id": original["channel_id"],
            },
            "mentions": [{**other, "member": self._members[self._index_of(other)]}],
        }

    def _message_update(self) -> JSONObject:
        message = self._message()
        message |= {
            "edited_timestamp": timestamp(self._moment()),
            "member": self._members[self._index_of(message["author"])],
            "channel_type": 0,
            "guild_id": GUILD_ID,
        }
        return message

    def _embed(self) -> JSONObject:
        video = "".join(self._random.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=11))
        thumbnail = f"https://i.ytimg.com/vi/{video}/maxresdefault.jpg"
        return {
            "type": "video",
            "url": f"https://www.youtube.com/watch?v={video}",
            "title": self._text(30, 70),
            "description": self._text(80, 200),
            "color": 16711680,
            "author": {"name": self._text(10, 20), "url": f"https://www.youtube.com/channel/{self._hash()}"},
            "provider": {"name": "YouTube", "url": "https://www.youtube.com"},
            "thumbnail": {
                "url": thumbnail,
                "proxy_url": f"https://images-ext-1.discordapp.net/external/{self._hash()}/{thumbnail[8:]}",
                "width": 1280,
                "height": 720,
                "flags": 0,
            },
            "video": {"url": f"https://www.youtube.com/embed/{video}", "width": 1280, "height": 720, "flags": 0},
        }

    def _attachment(self) -> JSONObject:
        place = f"{self._random.choice(TEXT_CHANNELS)}/{snowflake(self._moment(), 3)}/image.png"
        signed = f"{place}?ex=6a1d8f2a&is=6a1c3daa&hm={self._hash()}{self._hash()}&"
        return {
            "id": snowflake(self._moment(), 3),
            "filename": "image.png",
            "size": self._random.randint(20_000, 4_000_000),
            "url": f"https://cdn.discordapp.com/attachments/{signed}",
            "proxy_url": f"https://media.discordapp.net/attachments/{signed}",
            "width": 1920,
            "height": 1080,
            "content_type": "image/png",
            "content_scan_version": 2,
            "placeholder": "fvcFDYJ2eIaHeIiIeHiHd4d4BnB3",
            "placeholder_version": 1,
        }

    # --- the rest ---

    def _presence(self) -> JSONObject:
        number = self._somebody()
        status = self._random.choice(("online", "online", "idle", "dnd", "offline"))
        activities: list[JSONObject] = []
        if status != "offline":
            if self._random.random() < 0.5:
                activities.append(self._custom_status())
            if self._random.random() < 0.75:
                activities.append(self._game())
            if self._random.random() < 0.5:
                activities.append(self._song())
        devices = self._random.choice(({"desktop": status}, {"mobile": status}, {"desktop": status, "web": status}))
        return {
            "user": {"id": self._users[number]["id"]},
            "status": status,
            "guild_id": GUILD_ID,
            "client_status": {} if status == "offline" else devices,
            "activities": activities,
            "processed_at_timestamp": self._milliseconds(),
        }

    def _milliseconds(self) -> int:
        return int(self._moment().timestamp() * 1000)

    def _custom_status(self) -> JSONObject:
        return {
            "type": 4,
            "state": self._text(20, 80),
            "name": "Custom Status",
            "id": "custom",
            "emoji": {"name": self._random.choice(_EMOJI)},
            "created_at": self._milliseconds(),
        }

    def _game(self) -> JSONObject:
        return {
            "type": 0,
            "timestamps": {"start": self._milliseconds() - self._random.randint(60_000, 9_000_000)},
            "state": self._text(15, 40),
            "name": self._random.choice(_GAMES),
            "id": f"{self._random.getrandbits(60):x}",
            "details": self._text(20, 60),
            "created_at": self._milliseconds(),
            "assets": {
                "small_text": self._text(10, 30),
                "small_image": snowflake(FOUNDED, self._random.randint(0, 4095)),
                "large_text": self._text(10, 40),
                "large_image": f"mp:external/{self._hash()}/https/cdn.example.com/cover/{self._hash()}.png",
            },
            "application_id": snowflake(FOUNDED, self._random.randint(0, 4095)),
            "party": {"id": self._hash(), "size": [self._random.randint(1, 4), 4]},
            "session_id": self._hash(),
            "buttons": ["Ask to join", "Profile"],
        }

    def _song(self) -> JSONObject:
        begin = self._milliseconds()
        track = self._hash()[:22]
        return {
            "type": 2,
            "timestamps": {"start": begin, "end": begin + self._random.randint(120_000, 300_000)},
            "sync_id": track,
            "state": self._text(10, 40),
            "session_id": self._hash(),
            "party": {"id": f"spotify:{self._users[self._somebody()]['id']}"},
            "name": "Spotify",
            "id": "spotify:1",
            "flags": 48,
            "details": self._text(10, 40),
            "created_at": begin,
            "assets": {
                "large_text": self._text(10, 40),
                "large_image": f"spotify:ab67616d0000b273{self._hash()[:24]}",
            },
        }

    def _typing(self) -> JSONObject:
        number = self._somebody()
        return {
            "user_id": self._users[number]["id"],
            "timestamp": int(self._moment().timestamp()),
            "member": self._whole_member(number),
            "channel_id": self._random.choice(TEXT_CHANNELS),
            "guild_id": GUILD_ID,
        }

    def _member_update(self) -> JSONObject:
        number = self._somebody()
        self._members[number] = {**self._members[number], "roles": self._random.sample(ROLE_IDS, 6)}
        return {
            **self._whole_member(number),
            "guild_id": GUILD_ID,
            "unusual_dm_activity_until": None,
        }

    def _reaction(self) -> JSONObject:
        number = self._somebody()
        return {
            "user_id": self._users[number]["id"],
            "type": 0,
            "message_id": snowflake(self._moment() - timedelta(minutes=3), 77),
            "message_author_id": self._users[self._somebody()]["id"],
            "member": self._whole_member(number),
            "emoji": {"name": self._random.choice(_EMOJI), "id": None},
            "channel_id": self._random.choice(TEXT_CHANNELS),
            "burst": False,
            "guild_id": GUILD_ID,
        }

    def _voice_state(self) -> JSONObject:
        number = self._somebody()
        return {
            "member": self._whole_member(number),
            "user_id": self._users[number]["id"],
            "suppress": False,
            "session_id": self._hash(),
            "self_video": False,
            "self_mute": self._random.random() < 0.4,
            "self_deaf": False,
            "request_to_speak_timestamp": None,
            "mute": False,
            "guild_id": GUILD_ID,
            "deaf": False,
            "channel_id": self._random.choice([*VOICE_CHANNELS, None]),
        }
