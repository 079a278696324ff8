"""What the demo's bot sends, and how its listener hears."""

from __future__ import annotations

import math
from random import Random

import msgspec
import trio

from trioshard import RequestChannelInfo, RequestMembers, UpdatePresence
from trioshard._demo.bot import Listener, draw_command, draw_patience, tag_of
from trioshard._demo.ledger import Ledger
from trioshard._demo.weather import Publisher, number_of
from trioshard.testing import Arrival, open_local_gateway

TAG = 7_700_000_000_000_042


def test_all_kinds_of_commands_are_drawn_and_found_again_by_their_tag():
    random = Random(1)
    drawn = [draw_command(random, (10, 20), TAG) for _ in range(200)]
    assert {command.opcode for command in drawn} == {3, 4, 8, 31, 43}
    assert {command.user_ids is None for command in drawn if isinstance(command, RequestMembers)} == {True, False}
    for command in drawn:
        data = msgspec.json.decode(msgspec.json.encode(command.data()))
        tag = tag_of(Arrival(0.0, 0, "a", int(command.opcode), data))
        assert tag == (None if isinstance(command, RequestChannelInfo) else TAG)


def test_large_commands_have_many_ids_that_are_no_tags():
    random = Random(1)
    drawn = [draw_command(random, (10, 20), TAG, most_ids=100) for _ in range(300)]
    sizes = [len(msgspec.json.encode(command.data())) for command in drawn]
    assert 1_500 < max(sizes) < 4_000
    for command in drawn:
        data = msgspec.json.decode(msgspec.json.encode(command.data()))
        tag = tag_of(Arrival(0.0, 0, "a", int(command.opcode), data))
        assert tag == (None if isinstance(command, RequestChannelInfo) else TAG)


def test_the_same_seed_draws_the_same_commands():
    first, second = ([draw_command(Random(seed), (1, 2), TAG) for _ in range(9)] for seed in (3, 3))
    assert first == second


def test_presences_always_have_a_deadline_and_others_sometimes():
    random = Random(1)
    presence, other = UpdatePresence(), RequestChannelInfo(guild_id=1)
    assert all(draw_patience(random, presence) < math.inf for _ in range(50))
    others = [draw_patience(random, other) for _ in range(400)]
    assert 50 < sum(patience < math.inf for patience in others) < 150


def test_numbers_of_messages():
    assert number_of("event 12") == 12
    assert number_of("churn 12") is None


async def test_the_publisher_enters_which_sessions_were_given_an_event(autojump_clock):
    ledger = Ledger()
    async with open_local_gateway(port=None) as gateway:
        publisher = Publisher(gateway, ledger)
        assert publisher.publish() == 1
        assert publisher.publish() == 2
    assert (ledger.sent, ledger.without_session) == (0, 2)


async def test_waiting_for_an_event_that_is_there_already_or_comes_later(autojump_clock):
    listener = Listener(Ledger())
    await listener.wait_received(0)
    with trio.move_on_after(1) as scope:
        await listener.wait_received(1)
    assert scope.cancelled_caught
