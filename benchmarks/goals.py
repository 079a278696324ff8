"""What trioshard is held to, and whether the figures say that it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.contestants import BARE, DISCORD_PY, HIKARI, PEERS, TRIOSHARD, TRIOSHARD_TW

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Results

__all__ = ["GOALS", "Goal", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What came of a goal.

    Attributes:
        figure: in words; empty if it was not measured.
        met: ``None`` if it was not measured.
    """

    figure: str
    met: bool | None


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals."""

    text: str
    bound: str
    judge: Callable[[Results], Verdict]


_NOT_MEASURED: Final = Verdict("", None)


def _at_most(figure: float | None, bound: float, unit: str) -> Verdict:
    if figure is None:
        return _NOT_MEASURED
    return Verdict(f"{figure:.2f}{unit}", figure <= bound)


def _ratio(text: str, work: str, figure: str, client: str, other: str, bound: float) -> Goal:
    def judge(results: Results) -> Verdict:
        return _at_most(results.ratio(work, figure, client, other), bound, " ×")

    return Goal(f"{text}: {client} to {other}", f"≤ {bound:g} ×", judge)


def _between_works(text: str, figure: str, work: str, other_work: str, bound: float) -> Goal:
    def judge(results: Results) -> Verdict:
        return _at_most(results.ratio(work, figure, TRIOSHARD, TRIOSHARD, other_work=other_work), bound, " ×")

    return Goal(text, f"≤ {bound:g} ×", judge)


def _to_best_peer(text: str, work: str, figure: str, peers: tuple[str, ...], bound: float) -> Goal:
    def judge(results: Results) -> Verdict:
        ratios = {peer: results.ratio(work, figure, TRIOSHARD, peer) for peer in peers}
        known = {peer: ratio for peer, ratio in ratios.items() if ratio is not None}
        if not known:
            return _NOT_MEASURED
        best = max(known, key=lambda peer: known[peer])
        return Verdict(f"{known[best]:.2f} × {best}", known[best] <= bound)

    return Goal(text, "best of all" if bound == 1.0 else f"≤ {bound:g} × the best library", judge)


def _idle_cpu(results: Results) -> Verdict:
    return _at_most(results.value("idle-64", TRIOSHARD, "cpu_ms"), 1.0, " ms")


def _idle_memory(results: Results) -> Verdict:
    one, many = (results.value(work, TRIOSHARD, "rss") for work in ("idle-1", "idle-64"))
    if one is None or many is None:
        return _NOT_MEASURED
    return _at_most((many - one) * 1024 / 63, 64.0, " KiB")


GOALS: Final = (
    _ratio("Burst, raw", "burst-raw", "us", TRIOSHARD, BARE, 0.85),
    _ratio("Burst, raw", "burst-raw", "us", TRIOSHARD, HIKARI, 0.35),
    _ratio("Burst, raw", "burst-raw", "us", TRIOSHARD, DISCORD_PY, 0.25),
    _ratio("Burst, typed", "burst-typed", "us", TRIOSHARD, BARE, 1.1),
    _ratio("Burst, raw", "burst-raw", "us", TRIOSHARD_TW, HIKARI, 0.8),
    _ratio("Paced, TLS", "paced-tls", "us", TRIOSHARD, HIKARI, 1.0),
    _ratio("Paced, TLS", "paced-tls", "us", TRIOSHARD, DISCORD_PY, 1.0),
    _to_best_peer("64 idle shards: resident memory", "idle-64", "rss", PEERS, 1.0),
    Goal("64 idle shards: CPU for a shard and minute", "≤ 1 ms", _idle_cpu),
    Goal("An idle shard beyond the first: resident memory", "≤ 64 KiB", _idle_memory),
    _to_best_peer("From a disconnect to Resume, again and again: median", "churn", "median_ms", PEERS, 1.0),
    _to_best_peer("A command on an idle connection: median", "send", "median_us", PEERS, 1.2),
    _between_works("64 shards to 1: CPU for an event", "us", "shards-64", "shards-1", 1.25),
)
"""All of CPU time for an event unless they say otherwise; ratios within the round, the median over the rounds."""
