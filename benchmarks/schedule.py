"""Who runs when: in each round each work, in each work each client once, in an order that rotates."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.arena import ClientFailed, wait_all_ready
from benchmarks.contestants import BARE
from benchmarks.figures import Run, quantile

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.arena import Arena, ClientProcess
    from benchmarks.contestants import Contestant
    from benchmarks.play import Play
    from benchmarks.works import Sizes, Work

__all__ = ["Schedule"]

_START_TIMEOUT: Final = 60.0
"""Seconds that a client may take beyond what its work takes."""

_REAL_INTERVAL: Final = 41_250
"""Milliseconds between heartbeats at Discord."""

_MICRO: Final = 1e6
_MILLI: Final = 1e3
_MIB: Final = 1 << 20


class Schedule:
    """All runs of a benchmark.

    Args:
        arena: where they run.
        works: what is measured.
        contestants: those who are wanted, and can be run, by name.
        sizes: how often.
        show: called with each run when it is over.
    """

    def __init__(
        self,
        arena: Arena,
        works: list[Work],
        contestants: dict[str, Contestant],
        sizes: Sizes,
        show: Callable[[Run], None],
    ) -> None:
        self._arena = arena
        self._alone = [work for work in works if not work.together]
        self._together = [work for work in works if work.together]
        self._contestants = contestants
        self._sizes = sizes
        self._show = show
        self.runs: list[Run] = []

    def _taking_part(self, work: Work) -> list[str]:
        wanted = [name for name in work.clients if name in self._contestants]
        return [name for name in wanted if self._contestants[name].missing(work.compress) is None]

    @property
    def together_rounds(self) -> int:
        """How often the works run that run side by side."""
        return min(self._sizes.rounds, self._sizes.together_rounds) if self._together else 0

    def count(self) -> int:
        """Return how many runs there will be."""
        alone = sum(len(self._taking_part(work)) for work in self._alone) * self._sizes.rounds
        return alone + sum(len(self._taking_part(work)) for work in self._together) * self.together_rounds

    def seconds(self) -> float:
        """Return about how long all will take."""
        alone = sum(len(self._taking_part(work)) * work.seconds for work in self._alone) * self._sizes.rounds
        longest = max((work.window + work.limit for work in self._together), default=0.0)
        return alone + (longest + 20.0) * self.together_rounds

    def play_round(self, number: int) -> None:
        """Run everything that this round has, from 0."""
        for work in self._alone:
            names = self._taking_part(work)
            turn = number % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                self._add(self._run_alone(work, name, number))
        if number < self.together_rounds:
            self._run_together(number)

    def _add(self, run: Run) -> None:
        self.runs.append(run)
        self._show(run)

    def _run_alone(self, work: Work, name: str, number: int) -> Run:
        run = Run(work.name, name, number)
        # Encoded before the client waits for it.
        if work.kind == "stream":
            self._arena.record(work)
        client = self._arena.start(self._contestants[name], work, work.play)
        try:
            told = client.wait(work.seconds + _START_TIMEOUT)
        except ClientFailed as exc:
            run.error = str(exc)
            told = None
        seen = client.stop()
        if told is not None:
            _note_oddities(run, told, seen, work)
            if work.kind == "stream":
                mode = "raw" if name == BARE else work.mode
                run.figures = _stream_figures(told, self._arena.marks(work, mode)["events"])
                if work.saturated and run.figures["busy"] < 0.9:
                    busy = f"{run.figures['busy']:.0%} of the time was CPU time"
                    run.notes.append(f"not saturated in round {number + 1}: only {busy}")
            else:
                run.figures = _send_figures(seen, run)
        return run

    # --- side by side ---

    def _run_together(self, number: int) -> None:
        """Start all of it; idle clients tell their figures, the others are stopped when the gateway has seen enough."""
        idle: list[tuple[Work, str, ClientProcess]] = []
        for work in self._together:
            if work.kind == "idle":
                idle += [(work, name, self._start(work, name)) for name in self._taking_part(work)]
        wait_all_ready([(client, work.shards) for work, _, client in idle], _START_TIMEOUT)
        recovering = [
            (work, name, [self._start(work, name, play) for play in (work.play, *work.more_plays)])
            for work in self._together
            if work.kind == "recovery"
            for name in self._taking_part(work)
        ]
        self._wait_recovered([(work, client) for work, _, clients in recovering for client in clients])
        for work, name, clients in recovering:
            self._add(_finish_recovery(Run(work.name, name, number), clients))
        for work, name, client in idle:
            self._add(_finish_idle(Run(work.name, name, number), work, client))

    def _start(self, work: Work, name: str, play: Play | None = None) -> ClientProcess:
        return self._arena.start(self._contestants[name], work, play or work.play)

    def _wait_recovered(self, clients: list[tuple[Work, ClientProcess]]) -> None:
        began = time.monotonic()
        while clients:
            time.sleep(0.2)
            elapsed = time.monotonic() - began
            clients = [
                (work, client)
                for work, client in clients
                if elapsed < work.limit and not client.has_ended and client.look()["left"]
            ]


def _finish_idle(run: Run, work: Work, client: ClientProcess) -> Run:
    try:
        told = client.wait(work.window + _START_TIMEOUT)
    except ClientFailed as exc:
        run.error = str(exc)
        client.stop()
        return run
    _note_oddities(run, told, client.stop(), work)
    # As many heartbeats as at Discord, whatever the interval is.
    minutes = told["wall"] / 60 * _REAL_INTERVAL / work.play.interval
    run.figures = {"cpu_ms": told["cpu"] * _MILLI / minutes / work.shards}
    run.figures |= {name: told[name] / _MIB for name in ("rss", "uss") if name in told}
    return run


def _finish_recovery(run: Run, clients: list[ClientProcess]) -> Run:
    recoveries: list[tuple[str, float]] = []
    identifies = left = 0
    for client in clients:
        try:
            client.complain_if_ended()
        except ClientFailed as exc:
            run.error = str(exc)
        seen = client.stop()
        recoveries += seen["recoveries"]
        identifies += seen["identifies"] - 1
        left += seen["left"]
    if recoveries:
        times = [seconds * _MILLI for _, seconds in recoveries]
        run.figures = {"median_ms": median(times), "worst_ms": max(times), "count": len(times)}
    if left:
        run.notes.append(f"{len(recoveries)} of {len(recoveries) + left} disconnects fitted into the time")
    if identifies:
        run.notes.append(f"began {identifies} new session{'s' * (identifies > 1)} instead of resuming")
    return run


def _stream_figures(told: dict[str, Any], events: int) -> dict[str, float]:
    # CPU time counts from the pause before the first event, wall time from its end.
    return {"us": told["cpu"] / events * _MICRO, "busy": min(1.0, told["cpu"] / told["wall"])}


def _send_figures(seen: dict[str, Any], run: Run) -> dict[str, float]:
    latencies = [seconds * _MICRO for seconds in seen["send_latencies"]]
    if not latencies:
        run.error = "no command arrived"
        return {}
    return {"median_us": median(latencies), "p90_us": quantile(latencies, 0.9), "count": len(latencies)}


def _note_oddities(run: Run, told: dict[str, Any], seen: dict[str, Any], work: Work) -> None:
    if told["warnings"]:
        run.notes.append(f"logged {told['warnings']} warnings or errors during the measurement")
    wanted = work.compress or "none"
    if seen["compressions"] != [wanted]:
        run.notes.append(f"negotiated {', '.join(seen['compressions'])} instead of {wanted}")
