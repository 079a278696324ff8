"""What the gateway saw: counters, arrivals and violations. No token ever enters here."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Final

_SESSIONS_KEPT: Final = 1_000
"""Sessions whose statistics are kept; the oldest make room for new ones."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One user command that reached the gateway."""

    time: float
    """Seconds on Trio's clock."""
    connection_id: int
    session_id: str | None
    op: int
    data: Any
    """The decoded `d` of the payload."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that a client must not do, and did."""

    time: float
    """Seconds on Trio's clock."""
    connection_id: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class IdentifyAttempt:
    """One Identify with a right token, in the order of arrival."""

    time: float
    """Seconds on Trio's clock."""
    connection_id: int
    shard: tuple[int, int]
    rate_limit_key: int
    """``shard_id % max_concurrency``: one Identify per key and window."""
    accepted: bool


@dataclass(frozen=True, slots=True)
class InteractionCallback:
    """One answer to an interaction, given over HTTP."""

    time: float
    """Seconds on Trio's clock."""
    interaction_id: str
    type: int
    data: Any


@dataclass(slots=True)
class SessionStatistics:
    """What happened to one session so far."""

    session_id: str
    shard: tuple[int, int]
    started: float
    """Seconds on Trio's clock."""
    dispatches_sent: int = 0
    """Distinct dispatches, READY and RESUMED included."""
    replays: int = 0
    """Dispatches that were sent once more."""
    last_sequence: int = 0
    """The newest sequence number that was sent."""
    resumes: int = 0
    resumed_at: list[int] = field(default_factory=list[int])
    """The sequence numbers that RESUMED took, sent or not. An older one is not repeated by a later replay."""
    commands: int = 0
    ended: str | None = None
    """Why the session is over; None while it lives or can be resumed."""


@dataclass(frozen=True, slots=True)
class ReportSnapshot:
    """The counters of a :class:`Report` at one moment."""

    connections: int
    hellos: int
    identifies: int
    readies: int
    resumes: int
    resumes_refused: int
    resumes_on_wrong_url: int
    invalid_sessions: int
    heartbeats: int
    acks: int
    commands: dict[int, int]
    crossing: int
    dispatches_sent: int
    replays: int
    member_lists_limited: int
    http_requests: dict[str, int]
    violations: dict[str, int]
    closes_sent: dict[int, int]
    closes_received: dict[int, int]


@dataclass(slots=True, eq=False, repr=False)
class Report:
    """A live account of everything that a test may want to know. Lists are bounded, counters are exact."""

    limit: int = 100_000
    """Entries kept in each list; the oldest make room for new ones."""
    connections: int = 0
    """WebSocket connections accepted."""
    hellos: int = 0
    identifies: int = 0
    """Identify payloads that were legal in their phase."""
    readies: int = 0
    resumes: int = 0
    """Successful ones: RESUMED was sent."""
    resumes_refused: int = 0
    """Answered by Invalid Session or a close."""
    resumes_on_wrong_url: int = 0
    """Resumes that did not come to the `resume_gateway_url` of READY. Allowed, but slower at Discord."""
    invalid_sessions: int = 0
    """Invalid Session (op 9) payloads sent."""
    heartbeats: int = 0
    acks: int = 0
    crossing: int = 0
    """Payloads that crossed an Invalid Session or a close of the gateway on the wire. Nobody's fault."""
    dispatches_sent: int = 0
    """Distinct dispatches, replays not counted."""
    replays: int = 0
    member_lists_limited: int = 0
    """Full member lists answered by RATE_LIMITED."""
    commands_by_op: Counter[int] = field(default_factory=Counter[int])
    violations: Counter[str] = field(default_factory=Counter[str])
    http_requests: Counter[str] = field(default_factory=Counter[str])
    """By method and route, such as ``"GET /gateway/bot"``."""
    closes_sent: Counter[int] = field(default_factory=Counter[int])
    closes_received: Counter[int] = field(default_factory=Counter[int])
    """Close codes that clients left with; 1005 stands for a close frame without code."""
    commands: deque[Arrival] = field(init=False)
    """User commands that arrived when they were legal."""
    crossings: deque[Arrival] = field(init=False)
    """The payloads counted by `crossing`, as far as they were readable."""
    violation_list: deque[Violation] = field(init=False)
    identify_attempts: deque[IdentifyAttempt] = field(init=False)
    interactions: deque[InteractionCallback] = field(init=False)
    sessions: OrderedDict[str, SessionStatistics] = field(default_factory=OrderedDict[str, SessionStatistics])
    """By session id, oldest first."""

    def __post_init__(self) -> None:
        self.commands = deque(maxlen=self.limit)
        self.crossings = deque(maxlen=self.limit)
        self.violation_list = deque(maxlen=self.limit)
        self.identify_attempts = deque(maxlen=self.limit)
        self.interactions = deque(maxlen=self.limit)

    def __repr__(self) -> str:
        return f"<Report {self.snapshot()}>"

    def add_command(self, arrival: Arrival) -> None:
        """Note a user command that came when it was legal."""
        self.commands.append(arrival)
        self.commands_by_op[arrival.op] += 1

    def add_crossing(self, arrival: Arrival | None) -> None:
        """Note a payload that crossed; None when it was not readable."""
        self.crossing += 1
        if arrival is not None:
            self.crossings.append(arrival)

    def add_violation(self, violation: Violation) -> None:
        """Note that a client broke a rule."""
        self.violations[violation.kind] += 1
        self.violation_list.append(violation)

    def open_session(self, statistics: SessionStatistics) -> None:
        """Begin the statistics of a session."""
        self.sessions[statistics.session_id] = statistics
        if len(self.sessions) > _SESSIONS_KEPT:
            self.sessions.popitem(last=False)

    def snapshot(self) -> ReportSnapshot:
        """The counters as they are now."""
        return ReportSnapshot(
            connections=self.connections,
            hellos=self.hellos,
            identifies=self.identifies,
            readies=self.readies,
            resumes=self.resumes,
            resumes_refused=self.resumes_refused,
            resumes_on_wrong_url=self.resumes_on_wrong_url,
            invalid_sessions=self.invalid_sessions,
            heartbeats=self.heartbeats,
            acks=self.acks,
            commands=dict(self.commands_by_op),
            crossing=self.crossing,
            dispatches_sent=self.dispatches_sent,
            replays=self.replays,
            member_lists_limited=self.member_lists_limited,
            http_requests=dict(self.http_requests),
            violations=dict(self.violations),
            closes_sent=dict(self.closes_sent),
            closes_received=dict(self.closes_received),
        )
