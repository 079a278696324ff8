"""What happens to each connection of a history: drawn from its seed, aimed at a phase.

Each connection gets one line, and one end that is aimed at a phase: before Hello, between Hello and handshake, between
handshake and READY or RESUMED, or after that. Aims are as fine as a turn of the scheduler. On the way there may be
interludes.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard import Phase
from trioshard._simulation.network import Line
from trioshard._simulation.plan import PLAN, Plan
from trioshard._simulation.troubles import ENDS, FATAL_CODES, INTERLUDES, Do, Turns
from trioshard.testing import (
    Action,
    After,
    CloseOnIdentify,
    CloseOnResume,
    DelayHello,
    DelayReady,
    DelayResumed,
    Drop,
    DropDuringReplay,
    Fragment,
    HelloInterval,
    NoHello,
    Reconnect,
    RefuseIdentify,
    RefuseResume,
    RejectUpgrade,
    Setting,
    Sleep,
    SlowReplay,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trioshard._simulation.plan import Scene
    from trioshard._simulation.troubles import Steps
    from trioshard.testing import Moment, Powers

__all__ = ["ANSWERS", "CONNECTS", "GREETINGS", "Weather"]

CONNECTS: Final = ("connection refused", "connection hangs", "upgrade refused")
"""Troubles before there is a connection."""

ANSWERS: Final = ("handshake refused", "handshake closed", "no answer", "drop in the replay")
"""Troubles that are the gateway's answer to a handshake."""

GREETINGS: Final = ("no Hello", "absurd Hello")
"""Troubles in place of a greeting."""

FLOOD: Final = 66.0
"""Seconds that the connection lives on which more commands are sent than Discord's limit allows."""

GRACE: Final = 30.0
"""Seconds after which a connection is dropped that has lived through its end, such as an op 9 before Hello."""

_EARLY = (Phase.CONNECTING, Phase.AWAITING_HELLO, Phase.GREETED, Phase.RESUMING)
_EARLY_WEIGHTS = (0.6, 1.0, 1.6, 2.6)


class Weather:
    """Makes the plans, and hands the gateway its scripts.

    Attributes:
        calm: nothing goes wrong any more.
        last_act: how the next connection ends the history; empty for not yet.
        line_of: the number of the line below each connection of the gateway.
    """

    def __init__(self, world: Scene, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._number = 0
        self._early = 0
        self.calm = False
        self.last_act = ""
        self.line_of: dict[int, int] = {}

    def next_plan(self) -> Plan:
        """Draw what happens to the next connection."""
        number, self._number = self._number, self._number + 1
        random = Random(f"{self._seed}/{number}")
        plan = Plan(self._world, number, random)
        if self.calm:
            plan.line = Line(number)
            return plan
        if self.last_act:
            plan.line = Line(number, latency=random.choice((0.0, 0.02)))
            plan.script = self._draw_last_act(plan)
            return plan
        if number == self._world.setup.flood:
            # Long enough for a window of 60 s, and busy enough to fill it.
            plan.line = Line(number)
            plan.script = [After("session"), Sleep(FLOOD), *ENDS["op 7"].steps(plan)]
            return plan
        phase = self._draw_phase(random, number)
        if phase is Phase.CONNECTING:
            plan.connect_trouble = random.choice(CONNECTS)
        plan.script = list(self._draw_script(plan, phase))
        return plan

    def script_for(self, number: int) -> Sequence[Setting | Action]:
        """Give the script of the line that is served by the current task."""
        plan = PLAN.get()
        assert plan is not None
        self.line_of[number] = plan.line.number
        return plan.script

    def _draw_phase(self, random: Random, number: int) -> Phase:
        if self._world.wants_commands:
            return Phase.READY
        early = number > 0 and self._early < self._world.setup.early_in_a_row and random.random() < 0.45
        self._early = self._early + 1 if early else 0
        if not early:
            return Phase.READY
        shard = self._world.shard
        if shard is not None and shard.session is None and random.random() < 0.7:
            # Identifies are rare. What may happen between one and its READY is to be seen as well.
            return Phase.RESUMING
        return random.choices(_EARLY, _EARLY_WEIGHTS)[0]

    # --- scripts ---

    def _draw_script(self, plan: Plan, phase: Phase) -> Steps:
        random = plan.random
        steps: list[Setting | Action] = []
        if plan.connect_trouble == "upgrade refused":
            return [RejectUpgrade(random.choice((408, 429, 500, 503)))]
        if random.random() < 0.1:
            steps.append(Fragment(random.randint(2, 5), messages=random.random() < 0.5))
        if phase is Phase.AWAITING_HELLO:
            steps += self._before_hello(plan)
        elif phase is Phase.GREETED:
            steps += [After("hello"), _InPhase(plan, Phase.GREETED), Turns(random.randrange(3))]
        elif phase is Phase.RESUMING:
            steps += self._in_the_handshake(plan)
        elif phase is Phase.READY:
            steps += self._ready(plan)
        return [_UntilCalm(self, step) if isinstance(step, Action) else step for step in [*steps, *self._end(plan)]]

    def _draw_last_act(self, plan: Plan) -> list[Setting | Action]:
        """Draw the connection that ends the history, in the phase that was drawn for it."""
        random, phase = plan.random, self._world.setup.last_phase
        last = _LastAct(plan, self, phase, random.choice(FATAL_CODES))
        late = random.uniform(0.3, 2.0)
        # Whoever leaves may have a write under way that nobody takes any more.
        clog = [Do(plan.clog), Sleep(random.uniform(0.0, 2.0))] if random.random() < 0.6 else []
        # A session that is refused makes the next connection one that identifies.
        refusal = [RefuseResume(False)] if phase is Phase.IDENTIFYING else []
        moments: dict[Phase, Steps] = {
            Phase.AWAITING_HELLO: [DelayHello(late), Sleep(random.uniform(0.0, late))],
            Phase.GREETED: [After("hello")],
            Phase.IDENTIFYING: [DelayReady(late), After("handshake"), Turns(random.randrange(6))],
            Phase.RESUMING: [DelayReady(late), DelayResumed(late), After("handshake"), Turns(random.randrange(6))],
            Phase.READY: [After("session"), Sleep(random.uniform(0.0, 3.0)), *clog, Turns(random.randrange(6))],
        }
        return [*refusal, *moments[phase], last, After("session"), Sleep(random.uniform(0.0, 1.0)), Reconnect()]

    def _before_hello(self, plan: Plan) -> Steps:
        random = plan.random
        draw = random.random()
        if draw < 0.15:
            return [NoHello(), After("connect"), _Meet(plan, "no Hello"), Sleep(60.0)]
        if draw < 0.25:
            absurd = random.choice((0, -5, None, "fast", 1e300, True, 10**20))
            return [HelloInterval(absurd), After("hello"), _Meet(plan, "absurd Hello"), Sleep(60.0)]
        late = random.uniform(0.2, 2.0)
        return [
            DelayHello(late),
            *self._interlude(plan, 0.3, Phase.AWAITING_HELLO),
            Sleep(random.uniform(0.0, late)),
        ]

    def _in_the_handshake(self, plan: Plan) -> Steps:
        random = plan.random
        draw = random.random()
        if draw < 0.16:
            resumable = random.random() < 0.6
            return [
                *(RefuseResume(resumable), RefuseIdentify(random.random() < 0.2), After("handshake")),
                *(_Meet(plan, "handshake refused"), Sleep(20.0)),
            ]
        if draw < 0.26:
            code = random.choice((4000, 4003, 4007, 4008, 4009))
            return [
                *(CloseOnResume(code), CloseOnIdentify(code), After("handshake")),
                *(_Meet(plan, "handshake closed"), Sleep(20.0)),
            ]
        if draw < 0.29:
            return [
                *(DelayReady(math.inf), DelayResumed(math.inf), After("handshake")),
                *(_Meet(plan, "no answer"), Sleep(1500.0)),
            ]
        if draw < 0.36:
            return [
                *(DropDuringReplay(random.randrange(4)), SlowReplay(random.uniform(0.0, 0.1))),
                *(_AtMoment("resume", 1, 8.0), _Meet(plan, "drop in the replay", Phase.RESUMING), Sleep(8.0)),
            ]
        late = random.uniform(0.1, 2.0)
        steps: list[Setting | Action] = [DelayReady(late), DelayResumed(late), SlowReplay(random.uniform(0.0, 0.05))]
        if random.random() < 0.25:
            return [*steps, _AtMoment("replay", random.randint(1, 4), late), *self._soon(random, 0.01)]
        return [*steps, After("handshake"), *self._interlude(plan, 0.4), *self._soon(random, late)]

    def _ready(self, plan: Plan) -> Steps:
        random = plan.random
        steps: list[Setting | Action] = []
        if random.random() < 0.25:
            steps += [SlowReplay(random.uniform(0.0, 0.02)), DelayResumed(random.uniform(0.0, 0.5))]
        if random.random() < 0.12:
            steps += [After("hello"), *self._interlude(plan, 1.0)]
        if random.random() < 0.12:
            steps += [DelayReady(0.4), DelayResumed(0.4), After("handshake"), *self._interlude(plan, 1.0)]
        steps += [After("session"), *self._interlude(plan, 0.35)]
        if self._world.wants_commands:
            steps.append(Sleep(10.0))
        draw = random.random()
        if draw < 0.35:
            steps += [_AtMoment("command", random.randint(1, 8), 4.0), *self._soon(random, 0.05)]
        elif draw < 0.5:
            steps += [_AtMoment("dispatch", random.randint(1, 12), 4.0), *self._soon(random, 0.05)]
        elif draw < 0.6:
            steps += self._soon(random, 0.0)
        else:
            steps.append(Sleep(random.uniform(0.0, 4.5)))
        return steps

    def _soon(self, random: Random, seconds: float) -> Steps:
        if seconds and random.random() < 0.4:
            return [Sleep(random.uniform(0.0, seconds))]
        return [Turns(random.randrange(9))]

    def _interlude(self, plan: Plan, probability: float, phase: Phase = Phase.READY) -> Steps:
        random = plan.random
        if random.random() >= probability:
            return []
        possible = {name: trouble.weight for name, trouble in INTERLUDES.items() if phase in trouble.phases}
        (name,) = random.choices(list(possible), list(possible.values()))
        return [*self._soon(random, 0.2), _Meet(plan, name), *INTERLUDES[name].steps(plan), *self._soon(random, 0.1)]

    def _end(self, plan: Plan) -> Steps:
        random = plan.random
        (name,) = random.choices(list(ENDS), [trouble.weight for trouble in ENDS.values()])
        trouble = ENDS[name]
        steps: Steps = trouble.steps(plan)
        if not trouble.noted:
            steps = [_Meet(plan, name), *steps]
        return [*steps, Sleep(GRACE), Drop()]


class _Meet(Action):
    """Note that a trouble meets the connection now, or only if it does so in a certain phase."""

    def __init__(self, plan: Plan, kind: str, only_in: Phase | None = None) -> None:
        self._plan = plan
        self._kind = kind
        self._only_in = only_in

    async def perform(self, connection: Powers) -> None:
        """Note it."""
        shard = self._plan.world.shard
        if self._only_in is None or (shard is not None and shard.phase is self._only_in):
            self._plan.meet(self._kind)


class _AtMoment(Action):
    """Wait for a moment, but not for ever."""

    def __init__(self, moment: Moment, count: int, seconds: float) -> None:
        self._after = After(moment, count)
        self._seconds = seconds

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        with trio.move_on_after(self._seconds):
            await self._after.perform(connection)


class _InPhase(Action):
    """Wait some turns for the shard to come to a phase."""

    TURNS: Final = 20

    def __init__(self, plan: Plan, phase: Phase) -> None:
        self._plan = plan
        self._phase = phase

    @property
    def is_there(self) -> bool:
        """Whether the shard is in that phase, on this connection."""
        world = self._plan.world
        return self._plan.dialled is world.current and world.shard is not None and world.shard.phase is self._phase

    async def perform(self, connection: Powers) -> None:
        """Wait."""
        for _ in range(self.TURNS):
            if self.is_there:
                return
            await trio.lowlevel.checkpoint()


class _LastAct(_InPhase):
    """End the history, if the shard is where it shall end; otherwise the next connection has another try."""

    def __init__(self, plan: Plan, weather: Weather, phase: Phase, code: int) -> None:
        super().__init__(plan, phase)
        self._weather = weather
        self._code = code

    async def perform(self, connection: Powers) -> None:
        """End it, or go on."""
        await super().perform(connection)
        if not self.is_there:
            return
        act = self._weather.last_act
        self._plan.meet(act)
        self._plan.world.end(act)
        if act == "fatal close":
            connection.close(self._code)
        await trio.sleep_forever()


class _UntilCalm(Action):
    """Take a step unless it is calm; then there is nothing more to come."""

    def __init__(self, weather: Weather, step: Action) -> None:
        self._weather = weather
        self._step = step

    async def perform(self, connection: Powers) -> None:
        """Take it, or wait for ever."""
        if self._weather.calm:
            await trio.sleep_forever()
        await self._step.perform(connection)
