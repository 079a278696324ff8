"""The order in which the queue lets commands go, against a model that knows the rules and not the algorithm.

The rules, from the docstring of `trioshard._queue`:

- A caller's commands go in the order in which he gave them.
- A presence goes only as the newest of those that can go, in the turn of the oldest; with it, all older ones are done.
- A presence can go when nothing of its caller stands before it that has to wait: for a limit, or for a presence.
- Nobody waits for another's limit. Of what may go, the oldest turn comes first.
- While anything waits, the queue says for how long; and then something may go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from trioshard import RequestMembers, UpdatePresence, UpdateVoiceState
from trioshard._queue import CommandQueue, Entry, Receipt
from trioshard.protocol.commands import Command, encode_command
from trioshard.protocol.pacing import BotLimits

PRESENCE, LIST_7, LIST_8, VOICE = "presence", "list of guild 7", "list of guild 8", "voice"
COMMANDS: dict[str, Command] = {
    PRESENCE: UpdatePresence(),
    LIST_7: RequestMembers(guild_id=7, query=""),
    LIST_8: RequestMembers(guild_id=8, query=""),
    VOICE: UpdateVoiceState(guild_id=7),
}
LIMITS = {PRESENCE: (5, 20.5), LIST_7: (1, 30.5), LIST_8: (1, 30.5)}
"""So many in so many seconds: Discord's, and half a second for the way."""

KINDS = st.sampled_from([PRESENCE, PRESENCE, VOICE, VOICE, LIST_7, LIST_8])
OWNERS = st.sampled_from(["ann", "bob", "eve"])


@dataclass(eq=False)
class Given:
    """A command as the model knows it."""

    owner: str
    kind: str
    entry: Entry | None = None


@dataclass
class Model:
    """What waits, in the order in which it came, and when what was written."""

    waiting: list[Given] = field(default_factory=list)
    written: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in LIMITS})
    under_way: str | None = None

    def wait(self, kind: str, now: float) -> float:
        """Seconds until the limit of this kind has room: the first moment of all that are worth a look."""
        if kind not in LIMITS:
            return 0.0
        limit, period = LIMITS[kind]
        held = kind == self.under_way
        for moment in sorted([now, *(time + period for time in self.written[kind] if time + period > now)]):
            if held + sum(moment - period < time for time in self.written[kind]) < limit:
                return moment - now
        return math.inf

    def before(self, command: Given) -> list[Given]:
        """What the same caller gave earlier."""
        earlier = self.waiting[: self.waiting.index(command)]
        return [other for other in earlier if other.owner == command.owner]

    def can_go(self, presence: Given, now: float) -> bool:
        """Whether nothing stands before it that has to wait for a limit, or for a presence."""
        others = [other for other in self.before(presence) if other.kind != PRESENCE]
        return all(
            self.wait(other.kind, now) == 0.0 and not any(first.kind == PRESENCE for first in self.before(other))
            for other in others
        )

    def candidates(self, now: float) -> list[tuple[int, Given]]:
        """What is next in its caller's order, and whose turn it takes; limits of its own left aside."""
        found = []
        able = [one for one in self.waiting if one.kind == PRESENCE and self.can_go(one, now)]
        newest = able[-1] if able else None
        for place, command in enumerate(self.waiting):
            if command.kind != PRESENCE and not self.before(command):
                found.append((place, command))
        if newest is not None and all(other.kind == PRESENCE for other in self.before(newest)):
            oldest = next(one for one in able if all(other.kind == PRESENCE for other in self.before(one)))
            found.append((self.waiting.index(oldest), newest))
        return sorted(found, key=lambda turn: turn[0])

    def due(self, now: float) -> Given | float:
        candidates = self.candidates(now)
        for _, command in candidates:
            if self.wait(command.kind, now) == 0.0:
                return command
        # A limit that is held by a write in flight cannot say when: a second is as good a guess as any.
        waits = (self.wait(command.kind, now) for _, command in candidates)
        return min((1.0 if wait == math.inf else wait for wait in waits), default=math.inf)

    def goes(self, command: Given, now: float) -> list[Given]:
        """Take out what was written, and what it replaces; return the latter."""
        replaced = []
        if command.kind == PRESENCE:
            older = self.waiting[: self.waiting.index(command)]
            replaced = [other for other in older if other.kind == PRESENCE]
        for gone in [command, *replaced]:
            self.waiting.remove(gone)
        if command.kind in LIMITS:
            self.written[command.kind].append(now)
        return replaced


class Play:
    """The queue and the model, side by side. Times are eighths of seconds, which floats represent exactly."""

    def __init__(self) -> None:
        self.limits = BotLimits()
        self.queue = CommandQueue(1000, self.limits)
        self.model = Model()
        self.now = 0.0
        self.replaced = self.done = self.taken_back = self.accepted = 0

    def give(self, owner: str, kind: str) -> None:
        command = COMMANDS[kind]
        given = Given(owner, kind, Entry(command, owner=owner, now=self.now))
        self.queue._append(given.entry, command)
        self.queue._slots.acquire_nowait()
        self.model.waiting.append(given)
        self.accepted += 1

    def take_back(self, number: int) -> None:
        given = self.model.waiting.pop(number % len(self.model.waiting))
        self.queue._withdraw(given.entry)
        self.taken_back += 1

    def due(self) -> Given | float:
        """Ask both, and compare."""
        found, expected = self.queue.due(self.now), self.model.due(self.now)
        if isinstance(expected, Given):
            assert found is expected.entry, f"not {expected.owner}'s {expected.kind}"
        else:
            assert found == expected
        return expected

    def write(self, seconds: float = 0.0, arriving: tuple[tuple[str, str], ...] = (), broken: bool = False) -> bool:
        """One step of the sender; return whether there was anything to write."""
        command = self.due()
        if not isinstance(command, Given):
            return False
        entry = command.entry
        assert entry is not None
        self.limits.take(entry.key)
        self.queue.write_begins(entry)
        self.model.under_way = command.kind
        for owner, kind in arriving:
            self.give(owner, kind)
        self.due()
        self.now += seconds
        self.model.under_way = None
        if broken:
            self.limits.give_back(entry.key)
            self.queue.broke(entry)
        else:
            self.limits.commit(entry.key, self.now)
            self.queue.written(entry, receipt(self.now))
            self.replaced += len(self.model.goes(command, self.now))
            self.done += 1
        return True

    def drain(self) -> None:
        """Nothing new comes: everything has to leave, and never later than the limits demand."""
        counts = {kind: sum(one.kind == kind for one in self.model.waiting) for kind in COMMANDS}
        # In the worst case each limit is waited for by itself, one after the other.
        bound = sum(period * (counts[kind] + 1) for kind, (_, period) in LIMITS.items())
        begun = self.now
        for _ in range(1000):
            wait = self.due()
            if isinstance(wait, Given):
                self.write()
            elif wait == math.inf:
                break
            else:
                assert wait > 0.0
                self.now += wait
                assert isinstance(self.due(), Given), "it said how long to wait, and then still refuses"
        assert self.model.waiting == []
        assert self.now - begun <= bound


def receipt(now: float) -> Receipt:
    return Receipt(
        session_id="s", epoch=1, sequence_at_send=None, attempts=1, superseded=False, waited=0.0, written=now
    )


class QueueAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.play = Play()

    @rule(owner=OWNERS, kind=KINDS)
    def give(self, owner: str, kind: str) -> None:
        self.play.give(owner, kind)

    @precondition(lambda self: self.play.model.waiting)
    @rule(number=st.integers(0, 99))
    def take_back(self, number: int) -> None:
        self.play.take_back(number)

    @rule(eighths=st.integers(0, 250))
    def time_passes(self, eighths: int) -> None:
        self.play.now += eighths / 8

    @rule(
        eighths=st.sampled_from([0, 0, 1, 40]),
        arriving=st.lists(st.tuples(OWNERS, KINDS), max_size=2).map(tuple),
        broken=st.sampled_from([False, False, False, True]),
    )
    def write(self, eighths: int, arriving: tuple[tuple[str, str], ...], broken: bool) -> None:
        self.play.write(eighths / 8, arriving, broken)

    @invariant()
    def both_agree(self) -> None:
        self.play.due()
        counts = self.play.queue.statistics()
        assert (counts.pending, counts.written) == (len(self.play.model.waiting), self.play.done)
        assert (counts.superseded, counts.withdrawn) == (self.play.replaced, self.play.taken_back)

    def teardown(self) -> None:
        self.play.drain()


class TestQueueAgainstModel(QueueAgainstModel.TestCase):
    """The queue lets go what the model does, whatever comes and is taken back."""


# The same in whole runs: callers as tasks with their cancellations, a sender, and a virtual clock.

ERRANDS = st.lists(
    st.lists(
        st.tuples(
            KINDS,
            st.sampled_from([None, None, 0.0, 1.0, 25.0, math.inf]),  # patience; None does not wait at all
            st.sampled_from([0.0, 0.0, 1.0, 7.0]),  # a pause before
        ),
        max_size=8,
    ),
    min_size=1,
    max_size=4,
)


def numbered(kind: str, number: int) -> Command:
    """A command that can be told from all others when it is written."""
    if kind == PRESENCE:
        return UpdatePresence(since=number)
    if kind == VOICE:
        return UpdateVoiceState(guild_id=number)
    return RequestMembers(guild_id=7 if kind == LIST_7 else 8, query="", nonce=str(number))


class Run:
    """Tasks that send, and one that writes and keeps the books."""

    def __init__(self, write_time: float, capacity: int) -> None:
        self.write_time = write_time
        self.limits = BotLimits()
        self.queue = CommandQueue(capacity, self.limits)
        self.given: dict[int, tuple[int, str]] = {}
        self.documents: dict[bytes, int] = {}
        self.written: list[tuple[int, float]] = []
        self.receipts: dict[int, Receipt] = {}
        self.withdrawn: set[int] = set()

    async def caller(self, who: int, errands: list[tuple[str, float | None, float]]) -> None:
        for kind, patience, pause in errands:
            await trio.sleep(pause)
            number = len(self.given) + 1
            command = numbered(kind, number)
            self.given[number] = (who, kind)
            self.documents[encode_command(command)] = number
            if patience is None:
                self.queue.send_nowait(command)
                continue
            with trio.move_on_after(patience):
                self.receipts[number] = await self.queue.send(command)
            if number not in self.receipts:
                self.withdrawn.add(number)

    async def sender(self) -> None:
        while True:
            due = self.queue.due(trio.current_time())
            if not isinstance(due, Entry):
                with trio.move_on_after(due):
                    await self.queue.wait_changed()
                continue
            self.limits.take(due.key)
            self.queue.write_begins(due)
            try:
                await trio.sleep(self.write_time)
            except trio.Cancelled:
                self.limits.give_back(due.key)
                self.queue.broke(due)
                raise
            now = trio.current_time()
            self.limits.commit(due.key, now)
            self.queue.written(due, receipt(now))
            self.written.append((self.documents[due.document], now))

    async def play(self, errands: list[list[tuple[str, float | None, float]]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sender)
            async with trio.open_nursery() as callers:
                for who, list_of_one in enumerate(errands):
                    callers.start_soon(self.caller, who, list_of_one)
            while self.queue.statistics().pending:
                # More than all limits together can ask for: whoever still waits then, starves.
                assert trio.current_time() < 2000.0
                await trio.sleep(10.0)
            nursery.cancel_scope.cancel()


@given(errands=ERRANDS, write_time=st.sampled_from([0.0, 0.0, 0.5, 3.0]))
def test_every_command_ends_and_every_caller_keeps_his_order(errands, write_time):
    run = Run(write_time, capacity=40)
    trio.run(run.play, errands, clock=MockClock(autojump_threshold=0))
    numbers = [number for number, _ in run.written]
    assert len(set(numbers)) == len(numbers)
    for who in range(len(errands)):
        own = [number for number in numbers if run.given[number][0] == who]
        assert own == sorted(own), "a caller's commands changed places"
    assert not run.withdrawn & set(numbers), "what was taken back was written all the same"
    for number, (_, kind) in run.given.items():
        replaced = number not in numbers and number not in run.withdrawn
        assert not replaced or kind == PRESENCE
        if number in run.receipts:
            assert run.receipts[number].superseded is replaced
    counts = run.queue.statistics()
    assert (counts.accepted, counts.pending) == (counts.written + counts.superseded + counts.withdrawn, 0)
    for kind, (limit, period) in LIMITS.items():
        times = [moment for number, moment in run.written if run.given[number][1] == kind]
        assert all(last - first >= period for first, last in zip(times, times[limit:], strict=False))


# What the model found, and what it is for, as single cases.


def played(*commands: tuple[str, str]) -> list[str]:
    """Give all of these, then write what goes without waiting."""
    play = Play()
    for owner, kind in commands:
        play.give(owner, kind)
    order = []
    while isinstance(command := play.due(), Given):
        order.append(f"{command.owner}'s {command.kind}")
        play.write()
    return order


def test_a_presence_behind_a_command_behind_a_presence_holds_up_nobody():
    assert played(("ann", PRESENCE), ("ann", VOICE), ("ann", PRESENCE)) == [
        "ann's presence",
        "ann's voice",
        "ann's presence",
    ]


def test_two_callers_in_this_position_do_not_wait_for_each_other():
    commands = [(who, kind) for kind in (PRESENCE, VOICE, PRESENCE) for who in ("ann", "bob")]
    assert played(*commands) == ["bob's presence", "ann's voice", "bob's voice", "bob's presence"]


def test_the_newest_presence_waits_for_its_callers_command_and_the_old_one_for_it():
    assert played(("ann", PRESENCE), ("ann", VOICE), ("bob", VOICE), ("bob", PRESENCE)) == [
        "bob's voice",
        "bob's presence",
        "ann's voice",
    ]


def test_a_list_that_has_to_wait_keeps_back_its_caller_and_nobody_else():
    commands = [("ann", LIST_7), ("ann", LIST_7), ("ann", VOICE), ("bob", LIST_7), ("eve", LIST_8), ("bob", VOICE)]
    assert played(*commands) == ["ann's list of guild 7", "eve's list of guild 8"]


@pytest.mark.parametrize("callers", [1, 2, 10])
async def test_callers_who_never_stop_do_not_starve_one_who_asks_once(callers, autojump_clock):
    run = Run(write_time=0.1, capacity=20)

    async def greedy(who: int) -> None:
        while True:
            await run.caller(who, [(PRESENCE, math.inf, 0.0), (VOICE, math.inf, 0.0)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.sender)
        for who in range(callers):
            nursery.start_soon(greedy, who)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await run.caller(99, [(VOICE, math.inf, 0.0)])
        # Each of the others is before it once at most.
        assert trio.current_time() - begun <= 0.1 * (callers + 2)
        begun = trio.current_time()
        await run.caller(99, [(PRESENCE, math.inf, 0.0)])
        assert trio.current_time() - begun <= 20.5 + 0.1 * (callers + 2)
        nursery.cancel_scope.cancel()
