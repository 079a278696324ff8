"""Heavy weather: connections that never live long, drawn from a seed."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard.testing import _payloads
from trioshard.testing._steps import Step
from trioshard.testing.faults import (
    After,
    Close,
    DelayHello,
    Drop,
    DropDuringReplay,
    InvalidateSession,
    Publish,
    Reconnect,
    Reset,
    Sleep,
    SlowReplay,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trioshard.testing._steps import Script

DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "reconnect": 4.0,
    "drop": 3.0,
    "reset": 2.0,
    "close": 2.0,
    "invalidate_resumable": 2.0,
    "drop_during_replay": 2.0,
}
"""How often each end of a connection is drawn, in proportion."""

_ENDS: Final[Mapping[str, Step]] = {
    "reconnect": Reconnect(),
    "drop": Drop(),
    "reset": Reset(),
    "invalidate_resumable": InvalidateSession(resumable=True),
    # For a connection that has nothing to replay.
    "drop_during_replay": Drop(),
}
_RESUMABLE_CLOSES: Final = (1011, 1012, 4000, 4900)
"""Closes after which a session can be resumed. None that is a reproach: nobody here has earned one, and a client
that gets the same one twice is right to give its session up."""


class Churn:
    """Makes scripts: each connection ends soon, in a way drawn from the seed.

    Sessions are kept, with one exception: an Invalid Session that is not resumable, at least `op9_false_every`
    seconds apart, because each costs the client an Identify. Messages are dispatched during the replays, between
    them, and so shortly before the end of a connection that they have to be replayed. ::

        open_local_gateway(scenario=Churn(seed=7))
        open_local_gateway(scenario=Scenario([[NoHello()]], then=Churn()))

    `lifetime`: seconds from READY or RESUMED to the end, from and to. `weights`: see `DEFAULT_WEIGHTS`; zero
    leaves a kind out. `slow_hello`, `replay_pause`: seconds at most. `messages`: at most, each time.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        lifetime: tuple[float, float] = (0.05, 0.45),
        weights: Mapping[str, float] = DEFAULT_WEIGHTS,
        op9_false_every: float = 12.0,
        slow_hello: float = 0.3,
        replay_pause: float = 0.005,
        messages: int = 3,
    ) -> None:
        if unknown := set(weights) - set(DEFAULT_WEIGHTS):
            raise ValueError(f"unknown weights: {sorted(unknown)}")
        self._rng = Random(seed)
        self._lifetime = lifetime
        self._kinds = [kind for kind in DEFAULT_WEIGHTS if weights.get(kind, 0.0) > 0.0]
        self._weights = [weights[kind] for kind in self._kinds]
        self._op9_false_every = op9_false_every
        self._slow_hello = slow_hello
        self._replay_pause = replay_pause
        self._messages = messages
        self._message_count = 0
        self._last_op9_false = math.inf

    def script_for(self, number: int) -> Script:
        """The script of the connection with this number, from this churn's own seed."""
        return self(number, self._rng)

    def __call__(self, number: int, rng: Random) -> Script:
        """The script of the connection with this number, for `then` of a :class:`Scenario`."""
        steps: list[Step] = []
        if rng.random() < 0.2:
            steps.append(DelayHello(rng.uniform(0.0, self._slow_hello)))
        if rng.random() < 0.3:
            steps.append(SlowReplay(rng.uniform(0.0, self._replay_pause)))
        kind, end = self._draw_end(rng)
        if kind == "drop_during_replay":
            steps.append(DropDuringReplay(rng.randrange(3)))
        steps += [After("handshake"), *self._draw_messages(rng)]
        steps += [After("session"), Sleep(rng.uniform(*self._lifetime)), *self._draw_messages(rng), end]
        return steps

    def _draw_end(self, rng: Random) -> tuple[str, Step]:
        now = trio.current_time()
        if self._last_op9_false == math.inf:
            # The first session lives as long as every other.
            self._last_op9_false = now
        if now - self._last_op9_false >= self._op9_false_every:
            self._last_op9_false = now
            return "invalidate", InvalidateSession(resumable=False)
        kind = rng.choices(self._kinds, self._weights)[0]
        return kind, _ENDS[kind] if kind in _ENDS else Close(rng.choice(_RESUMABLE_CLOSES))

    def _draw_messages(self, rng: Random) -> list[Step]:
        steps: list[Step] = []
        for _ in range(rng.randint(0, self._messages)):
            self._message_count += 1
            content = f"churn {self._message_count}"
            data = _payloads.message(
                self._message_count, content, channel_id=1, guild_id=None, author=None, now=trio.current_time()
            )
            steps.append(Publish("MESSAGE_CREATE", data))
        return steps
