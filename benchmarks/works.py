"""What is measured: each work with the load it puts on a client, in full and in quick size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from benchmarks.contestants import BARE, CONTESTANTS, DISCORD_PY, HIKARI, TRIOSHARD, TRIOSHARD_TW
from benchmarks.play import CALM, CLOSE, RECONNECT, RESET, Play

__all__ = ["FULL", "QUICK", "Sizes", "Work", "make_works"]

_ALL: Final = tuple(CONTESTANTS)
_LIBRARIES: Final = (TRIOSHARD, TRIOSHARD_TW, DISCORD_PY, HIKARI)
_KINDS: Final = (CLOSE, RECONNECT, RESET)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything. Times in seconds.

    Attributes:
        rounds: how often everything is measured.
        together_rounds: how often at most the works are that run side by side.
        warmup: events before the measurement, over all connections.
        events: events that are measured in a burst.
        many: events over all shards, where these are many.
        paced: seconds of paced events.
        interval: between the heartbeats of idle shards.
        window: for which idle shards are watched.
        sends: commands for each run.
        churn: disconnects for each run.
        churn_limit: after which a run of disconnects ends, wherever it is.
        calm: whether calm disconnects are measured, which takes a minute.
    """

    rounds: int
    together_rounds: int
    warmup: int
    events: int
    many: int
    paced: float
    interval: float
    window: float
    sends: int
    churn: int
    churn_limit: float
    calm: bool


FULL: Final = Sizes(
    rounds=5,
    together_rounds=2,
    warmup=2_000,
    events=20_000,
    many=64_000,
    paced=6.0,
    interval=41.25,
    window=82.5,
    sends=40,
    churn=20,
    churn_limit=80.0,
    calm=True,
)
"""A window holds two heartbeats of each idle shard, at Discord's interval."""

QUICK: Final = replace(
    FULL,
    rounds=2,
    together_rounds=1,
    warmup=500,
    events=4_000,
    many=16_000,
    paced=1.0,
    interval=2.0,
    window=4.0,
    sends=10,
    churn=3,
    churn_limit=12.0,
    calm=False,
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One thing that is measured.

    Attributes:
        name: on the command line.
        title: in the report.
        kind: ``"stream"``, ``"idle"``, ``"send"`` or ``"recovery"``: which figures come of it.
        mode: of the client.
        clients: who takes part.
        play: what the gateway does.
        more_plays: for further processes of the same client that run along; their figures are put together.
        compress: which compression the clients ask for.
        shards: how many in the process.
        subscribers: of each shard.
        tls: whether the gateway is reached by TLS.
        together: whether all clients run at the same time, for they have nearly nothing to do.
        saturated: whether the client should have no moment of rest.
        sends: how many commands the client sends.
        window: seconds for which it is watched.
        limit: seconds after which the run is over, if the gateway decides when it is.
        seconds: what one run takes, about.
    """

    name: str
    title: str
    kind: str
    mode: str
    clients: tuple[str, ...]
    play: Play
    more_plays: tuple[Play, ...] = ()
    compress: str | None = "zlib-stream"
    shards: int = 1
    subscribers: int = 1
    tls: bool = False
    together: bool = False
    saturated: bool = False
    sends: int = 0
    window: float = 0.0
    limit: float = 0.0
    seconds: float = 1.5


def make_works(sizes: Sizes) -> list[Work]:
    """Return all works in the order of the report."""
    burst = _burst(sizes)
    return [
        replace(burst, name="burst-raw", title="Burst, every event, raw, zlib-stream"),
        replace(burst, name="burst-typed", title="Burst, typed MESSAGE_CREATE, zlib-stream", mode="typed"),
        replace(
            burst,
            name="burst-none",
            title="Burst, every event, raw, no compression",
            compress=None,
            clients=(TRIOSHARD, TRIOSHARD_TW, BARE),
        ),
        replace(burst, name="burst-zstd", title="Burst, every event, raw, zstd-stream", compress="zstd-stream"),
        _paced(sizes),
        *(_shards(sizes, count) for count in (1, 8, 64)),
        *(
            replace(
                burst,
                name=f"subscribers-{count}",
                title=f"Burst, raw, {count} subscriber{'s' * (count > 1)}",
                clients=(TRIOSHARD,),
                subscribers=count,
            )
            for count in (1, 4, 16)
        ),
        _send(sizes),
        *(_idle(sizes, count) for count in (1, 16, 64)),
        _churn(sizes),
        *([_calm()] if sizes.calm else []),
    ]


def _burst(sizes: Sizes) -> Work:
    return Work(
        name="burst",
        title="",
        kind="stream",
        mode="raw",
        clients=_ALL,
        play=Play(warmup=sizes.warmup, events=sizes.events),
        saturated=True,
    )


def _paced(sizes: Sizes) -> Work:
    rate = 200
    return Work(
        name="paced-tls",
        title="200 events a second, one by one, raw, zlib-stream, TLS",
        kind="stream",
        mode="raw",
        clients=_ALL,
        play=Play(warmup=rate // 2, events=int(rate * sizes.paced), rate=rate),
        tls=True,
        seconds=sizes.paced + 2.5,
    )


def _shards(sizes: Sizes, count: int) -> Work:
    return Work(
        name=f"shards-{count}",
        title=f"Burst, raw, the same events over {count} shard{'s' * (count > 1)}",
        kind="stream",
        mode="raw",
        clients=(TRIOSHARD,),
        play=Play(connections=count, warmup=sizes.warmup // count, events=sizes.many // count),
        shards=count,
        saturated=True,
        seconds=2.0,
    )


def _send(sizes: Sizes) -> Work:
    return Work(
        name="send",
        title="A command on a ready and idle connection, from the call to its arrival",
        kind="send",
        mode="send",
        clients=_ALL,
        play=Play(live=True),
        sends=sizes.sends,
        seconds=sizes.sends / 10 + 4.5,
    )


def _idle(sizes: Sizes, count: int) -> Work:
    return Work(
        name=f"idle-{count}",
        title=f"{count} idle shard{'s' * (count > 1)} in one process",
        kind="idle",
        mode="idle",
        clients=_ALL,
        play=Play(live=True, connections=count, interval=round(sizes.interval * 1000), with_guild=False),
        shards=count,
        window=sizes.window,
        together=True,
    )


def _churn(sizes: Sizes) -> Work:
    disconnects = tuple(_KINDS[n % len(_KINDS)] for n in range(sizes.churn))
    return Work(
        name="churn",
        title="From a disconnect to Resume, again and again, 1.5 s after each RESUMED",
        kind="recovery",
        mode="hold",
        clients=_LIBRARIES,
        play=Play(live=True, disconnects=disconnects),
        together=True,
        limit=sizes.churn_limit,
    )


def _calm() -> Work:
    first, *others = (Play(live=True, disconnects=(kind,), pause=CALM) for kind in _KINDS)
    return Work(
        name="calm",
        title="From a disconnect to Resume, after a calm minute",
        kind="recovery",
        mode="hold",
        clients=_LIBRARIES,
        play=first,
        more_plays=tuple(others),
        together=True,
        limit=CALM + 18.0,
    )
