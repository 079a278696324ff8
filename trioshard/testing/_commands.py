"""Discord's answers to user commands: dispatches to the session that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trioshard.testing import _intents, _payloads
from trioshard.testing._shapes import (
    Body,
    RequestChannelInfo,
    RequestMembers,
    RequestSoundboardSounds,
    Snowflake,
    VoiceState,
)

if TYPE_CHECKING:
    from trioshard.testing._core import Core
    from trioshard.testing._payloads import Guild
    from trioshard.testing._sessions import Session

_MEMBERS_RETURNED = 100
"""Members that a query by prefix or by ids returns at most."""


def answer(core: Core, session: Session, body: Body, now: float) -> None:
    """Answer a command. One that concerns an unknown guild, or one of another shard, gets no answer."""
    match body:
        case RequestMembers():
            _request_members(core, session, body, now)
        case VoiceState():
            _voice_state(core, session, body)
        case RequestSoundboardSounds():
            for guild_id in body.guild_ids:
                if guild := _own_guild(core, session, guild_id):
                    core.dispatch(session, "SOUNDBOARD_SOUNDS", _payloads.soundboard_sounds(guild.id))
        case RequestChannelInfo():
            if guild := _own_guild(core, session, body.guild_id):
                core.dispatch(session, "CHANNEL_INFO", _payloads.channel_info(guild, body.fields, now))
        case _:
            pass


def _own_guild(core: Core, session: Session, guild_id: Snowflake) -> Guild | None:
    guild = core.find_guild(int(guild_id))
    return guild if guild is not None and session.carries(guild.id) else None


def _voice_state(core: Core, session: Session, body: VoiceState) -> None:
    guild = _own_guild(core, session, body.guild_id)
    if guild is None:
        return
    channel_id = None if body.channel_id is None else int(body.channel_id)
    state = _payloads.voice_state(
        guild.id, channel_id, f"{core.rng.getrandbits(128):032x}", self_mute=body.self_mute, self_deaf=body.self_deaf
    )
    core.dispatch(session, "VOICE_STATE_UPDATE", state)
    if channel_id is not None:
        server = _payloads.voice_server(guild.id, f"{core.rng.getrandbits(64):016x}")
        core.dispatch(session, "VOICE_SERVER_UPDATE", server)


def _request_members(core: Core, session: Session, body: RequestMembers, now: float) -> None:
    guild = _own_guild(core, session, body.guild_id)
    if guild is None:
        return
    if body.is_full_list:
        if not session.intents & _intents.GUILD_MEMBERS:
            return
        wait = session.bot.member_list_wait(guild.id, now)
        if wait > 0.0:
            _limit(core, session, guild, body.usable_nonce, wait)
            return
    members, not_found = _find_members(guild, body)
    presences = body.presences and bool(session.intents & _intents.GUILD_PRESENCES)
    for chunk in _payloads.members_chunks(
        guild, members, not_found=not_found, presences=presences, nonce=body.usable_nonce
    ):
        core.dispatch(session, "GUILD_MEMBERS_CHUNK", chunk)


def _limit(core: Core, session: Session, guild: Guild, nonce: str | None, wait: float) -> None:
    meta: dict[str, Any] = {"guild_id": str(guild.id)}
    if nonce is not None:
        meta["nonce"] = nonce
    core.report.member_lists_limited += 1
    core.dispatch(session, "RATE_LIMITED", {"opcode": 8, "retry_after": wait, "meta": meta})


def _find_members(guild: Guild, body: RequestMembers) -> tuple[list[_payloads.JSONObject], list[Any] | None]:
    if isinstance(body.user_ids, str | int | list):
        wanted = body.user_ids if isinstance(body.user_ids, list) else [body.user_ids]
        members: list[_payloads.JSONObject] = []
        not_found: list[Any] = []
        for user_id in wanted[:_MEMBERS_RETURNED]:
            member = guild.find_member(int(user_id))
            if member is not None:
                members.append(member)
            else:
                # What is too short for a snowflake comes back as a number.
                not_found.append(int(user_id) if int(user_id) < 1 << 22 else str(user_id))
        return members, not_found
    if body.is_full_list:
        return guild.find_members("", 0), None
    limit = body.limit if isinstance(body.limit, int) else 0
    query = body.query if isinstance(body.query, str) else ""
    return guild.find_members(query, min(limit or _MEMBERS_RETURNED, _MEMBERS_RETURNED)), None
