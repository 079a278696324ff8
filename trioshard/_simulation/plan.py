"""What happens to one connection of a history: its line, its script, and where its troubles are made."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import trio

from trioshard._simulation.network import ROOMY, Line

if TYPE_CHECKING:
    from random import Random

    from trioshard import Shard
    from trioshard._simulation.records import Dialled
    from trioshard._simulation.setup import Setup
    from trioshard.testing import Action, Setting

__all__ = ["PLAN", "Plan", "Scene"]

PLAN: ContextVar[Plan | None] = ContextVar("PLAN", default=None)
"""The plan of the line that the current task serves."""


class Scene(Protocol):
    """What the weather knows of the history that it is made for."""

    @property
    def setup(self) -> Setup:
        """What was drawn for it."""
        ...

    @property
    def shard(self) -> Shard | None:
        """The shard, once there is one."""
        ...

    @property
    def current(self) -> Dialled | None:
        """The connection attempt that is the shard's at the moment."""
        ...

    @property
    def wants_commands(self) -> bool:
        """Whether there were enough reconnects, but not enough commands."""
        ...

    def meet(self, kind: str) -> None:
        """Note that a trouble meets the shard now."""
        ...

    def freeze(self, seconds: float) -> None:
        """Stop the process for so long."""
        ...

    def sleep_host(self, seconds: float) -> None:
        """Let the machine sleep."""
        ...

    def end(self, act: str) -> None:
        """End the history early."""
        ...


class Plan:
    """What happens to one connection. It is the `Place` that its troubles are made in."""

    def __init__(self, world: Scene, number: int, random: Random) -> None:
        self.random = random
        self.world = world
        self.dialled: Dialled | None = None
        self.connect_trouble = ""
        self.script: list[Setting | Action] = []
        self.line = self._draw_line(number)

    def _draw_line(self, number: int) -> Line:
        random = self.random
        return Line(
            number,
            capacity=random.choice((300, 700, 4096)) if random.random() < 0.15 else ROOMY,
            latency=random.uniform(0.001, 0.12) if random.random() < 0.24 else 0.0,
            up=random.choice((48, 80, 120)) if random.random() < 0.12 else math.inf,
            down=random.choice((300, 900)) if random.random() < 0.08 else math.inf,
        )

    @property
    def write_timeout(self) -> float:
        """Seconds that the shard gives a write."""
        return self.world.setup.write_timeout

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between the shard's heartbeats."""
        return self.world.setup.heartbeat_interval

    def freeze(self, seconds: float) -> None:
        """Stop the process for so long."""
        self.world.freeze(seconds)

    def sleep_host(self, seconds: float) -> None:
        """Let the machine sleep."""
        self.world.sleep_host(seconds)

    def clog(self) -> None:
        """Let the line take nothing more from the shard."""
        self.line.up.clogged = True

    def meet(self, kind: str) -> None:
        """Note that a trouble meets this connection now, if it still is the shard's."""
        dialled = self.dialled
        if dialled is not None and dialled is self.world.current and dialled.ended is None:
            dialled.troubles.setdefault(kind, trio.current_time())
            self.world.meet(kind)
