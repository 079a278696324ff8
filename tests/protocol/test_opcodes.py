"""The numbers of the protocol against Discord's own tables, copied here as text."""

from __future__ import annotations

import pytest

from trioshard import errors
from trioshard.protocol.opcodes import (
    API_VERSION,
    CLOSE_POLICIES,
    LEAVE_FOR_GOOD,
    LEAVE_RESUMABLY,
    CloseAction,
    CloseCode,
    Intents,
    Opcode,
    close_policy,
)

OPCODES = """
0  Dispatch
1  Heartbeat
2  Identify
3  Presence Update
4  Voice State Update
6  Resume
7  Reconnect
8  Request Guild Members
9  Invalid Session
10 Hello
11 Heartbeat ACK
31 Request Soundboard Sounds
43 Request Channel Info
"""

INTENTS = """
0  1        GUILDS
1  2        GUILD_MEMBERS                 privileged
2  4        GUILD_MODERATION
3  8        GUILD_EXPRESSIONS
4  16       GUILD_INTEGRATIONS
5  32       GUILD_WEBHOOKS
6  64       GUILD_INVITES
7  128      GUILD_VOICE_STATES
8  256      GUILD_PRESENCES               privileged
9  512      GUILD_MESSAGES
10 1024     GUILD_MESSAGE_REACTIONS
11 2048     GUILD_MESSAGE_TYPING
12 4096     DIRECT_MESSAGES
13 8192     DIRECT_MESSAGE_REACTIONS
14 16384    DIRECT_MESSAGE_TYPING
15 32768    MESSAGE_CONTENT               privileged
16 65536    GUILD_SCHEDULED_EVENTS
20 1048576  AUTO_MODERATION_CONFIGURATION
21 2097152  AUTO_MODERATION_EXECUTION
24 16777216 GUILD_MESSAGE_POLLS
25 33554432 DIRECT_MESSAGE_POLLS
"""

# Number, what it asks of the client, Discord's name.
CLOSE_CODES = """
4000 resume   Unknown error
4001 once     Unknown opcode
4002 resume   Decode error
4003 identify Not authenticated
4004 fatal    Authentication failed
4005 once     Already authenticated
4007 identify Invalid seq
4008 resume   Rate limited
4009 identify Session timed out
4010 fatal    Invalid shard
4011 fatal    Sharding required
4012 fatal    Invalid API version
4013 fatal    Invalid intents
4014 fatal    Disallowed intents
"""

ACTIONS = {
    "resume": CloseAction.RESUME,
    "once": CloseAction.RESUME_ONCE,
    "identify": CloseAction.IDENTIFY,
    "fatal": CloseAction.FATAL,
}

FATAL_ERRORS = {
    4004: errors.AuthenticationFailed,
    4010: errors.InvalidShard,
    4011: errors.ShardingRequired,
    4012: errors.InvalidVersion,
    4013: errors.InvalidIntents,
    4014: errors.DisallowedIntents,
}


def rows(table: str, columns: int) -> list[list[str]]:
    return [line.split(maxsplit=columns - 1) for line in table.strip().splitlines()]


def constant(name: str) -> str:
    return name.upper().replace(" ", "_")


def test_opcodes():
    assert {member.name: member.value for member in Opcode} == {
        constant(name): int(number) for number, name in rows(OPCODES, 2)
    }


def test_each_intent_has_its_bit():
    documented = {}
    for bit, value, name, *_ in rows(INTENTS, 4):
        assert 1 << int(bit) == int(value)
        documented[name] = int(value)
    assert {member.name: member.value for member in Intents} == documented


def test_sums_of_intents():
    privileged = {name for _, _, name, *mark in rows(INTENTS, 4) if mark}
    assert {member.name for member in Intents.PRIVILEGED} == privileged
    assert len(Intents) == 21
    assert (Intents.ALL, Intents.PRIVILEGED, Intents.UNPRIVILEGED) == (53608447, 33026, 53575421)
    assert Intents.NONE == 0


def test_close_codes():
    assert {member.name: member.value for member in CloseCode} == {
        constant(name): int(number) for number, _, name in rows(CLOSE_CODES, 3)
    }


@pytest.mark.parametrize(("code", "action"), [(int(code), action) for code, action, _ in rows(CLOSE_CODES, 3)])
def test_what_a_close_code_asks_for(code, action):
    policy = close_policy(code)
    assert policy.action is ACTIONS[action]
    assert policy.meaning


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_normal_close_by_discord_is_resumed_once(code):
    assert close_policy(code).action is CloseAction.RESUME_ONCE


@pytest.mark.parametrize("code", [None, 1002, 1005, 1006, 1011, 1012, 3000, 4006, 4015, 4900, 4999, 0, -1])
def test_any_other_code_and_no_code_resume(code):
    assert close_policy(code).action is CloseAction.RESUME
    assert close_policy(code).meaning


def test_no_code_is_not_called_an_unknown_code():
    assert close_policy(None).meaning != close_policy(4999).meaning


def test_nothing_else_has_a_policy_of_its_own():
    assert set(CLOSE_POLICIES) == {1000, 1001, *CloseCode}


@pytest.mark.parametrize("code", FATAL_ERRORS)
def test_each_fatal_code_has_its_own_error_and_advice(code):
    policy = close_policy(code)
    assert policy.error is FATAL_ERRORS[code]
    assert policy.error.__mro__[1] is errors.ShardFailed
    assert policy.advice


def test_six_codes_are_fatal():
    assert {code for code, policy in CLOSE_POLICIES.items() if policy.action is CloseAction.FATAL} == set(FATAL_ERRORS)


def test_how_we_leave():
    assert LEAVE_FOR_GOOD == 1000
    assert 4000 <= LEAVE_RESUMABLY <= 4999
    assert LEAVE_RESUMABLY not in set(CloseCode)
    assert API_VERSION == 10
