"""What the demo's weather makes of the scripts that it is given."""

from __future__ import annotations

import pytest
import trio

from trioshard._demo.weather import Weather, heavy_weather
from trioshard.testing import After, DelayHello, Publish, Reconnect, Setting, Sleep


class Connection:
    """Writes down what a script does to it."""

    def __init__(self, *reached: str) -> None:
        self.done: list[str] = []
        self.reached = set(reached)

    async def wait_for(self, moment, count=1):
        if moment not in self.reached:
            await trio.sleep_forever()
        self.done.append(f"after {moment}")

    def reconnect(self):
        self.done.append("reconnect")

    def close(self, code=4000, reason="", *, end_session=None):
        self.done.append(f"close {code}")


async def perform(script, connection) -> bool:
    """Perform a script; whether it came to its end within a virtual hour."""
    with trio.move_on_after(3600) as scope:
        for step in script:
            if not isinstance(step, Setting):
                await step.perform(connection)
    return not scope.cancelled_caught


def weather(*script) -> Weather:
    return Weather(lambda number: script)


async def test_events_are_numbered_ones(autojump_clock):
    connection = Connection()
    rough = weather(Publish("MESSAGE_CREATE", {}), Reconnect())
    rough.publish = lambda: connection.done.append("published")
    assert await perform(rough.script_for(0), connection)
    assert connection.done == ["published", "reconnect"]


async def test_before_there_is_a_gateway_nothing_is_published(autojump_clock):
    assert await perform(weather(Publish("MESSAGE_CREATE", {})).script_for(0), Connection())


@pytest.mark.parametrize("moment", ["resumed", "command"])
async def test_a_session_is_cut_when_the_client_has_shown_that_it_knows_it(moment, autojump_clock):
    script = weather(After("session"), Reconnect()).script_for(0)
    connection = Connection("session", moment)
    assert await perform(script, connection)
    assert connection.done == ["after session", f"after {moment}", "reconnect"]


async def test_a_new_session_that_nobody_has_taken_up_is_not_cut(autojump_clock):
    connection = Connection("session", "ready")
    assert not await perform(weather(After("session"), Reconnect()).script_for(0), connection)
    assert connection.done == ["after session"]


async def test_when_it_is_calm_nothing_happens_any_more(autojump_clock):
    rough, connection = weather(Sleep(5), Reconnect()), Connection()
    before = rough.script_for(0)
    rough.calm = True
    assert rough.script_for(1) == ()
    assert not await perform(before, connection)
    assert connection.done == []


async def test_settings_stay_what_they_are(autojump_clock):
    delay = DelayHello(1)
    assert weather(delay).script_for(0) == [delay]


async def test_the_same_seed_draws_the_same_weather(autojump_clock):
    first, second, other = (heavy_weather(seed) for seed in (1, 1, 2))
    lengths = [[len(drawn.script_for(number)) for number in range(40)] for drawn in (first, second, other)]
    assert lengths[0] == lengths[1] != lengths[2]
