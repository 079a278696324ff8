"""Snapshots of a shard for monitoring and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trioshard._queue import QueueStatistics
    from trioshard.protocol.phases import Phase

__all__ = ["ShardStatistics"]


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Where a shard stands, as of the moment of asking. Times are seconds.

    Attributes:
        shard: ``(shard_id, num_shards)``.
        phase: the phase of the current connection; CLOSED between two connections.
        epoch: the number of the current connection, or of the last one.
        connections: WebSockets that were opened.
        identifies: sessions that were started (READY).
        resumes: sessions that were resumed (RESUMED).
        failures: attempts in a row that have not led to a stable connection, as of the last one that ended.
        last_ending: why the last connection ended, in words; empty if none has.
        session_id: the current session, or ``None``.
        sequence_received: the last sequence received in it.
        sequence_processed: the last sequence that every subscriber has finished.
        latency: between the last acknowledged heartbeat and its ACK; ``None`` before the first.
        commands: counts of commands.
        budget_left: payloads that could be sent right now; ``None`` while there is no connection that has said Hello.
        events: events that arrived, whether or not anybody subscribes to them.
        events_dropped: events that ``overflow="drop_oldest"`` has dropped.
        events_undecodable: events that did not fit the type they were asked for as.
        outboxes: how many events wait for each subscriber.
        recovery_times: from the end of a connection to the next READY or RESUMED, for the last 1,024 of them.
    """

    shard: tuple[int, int]
    phase: Phase
    epoch: int
    connections: int
    identifies: int
    resumes: int
    failures: int
    last_ending: str
    session_id: str | None
    sequence_received: int | None
    sequence_processed: int | None
    latency: float | None
    commands: QueueStatistics
    budget_left: int | None
    events: int
    events_dropped: int
    events_undecodable: int
    outboxes: tuple[int, ...]
    recovery_times: tuple[float, ...]
