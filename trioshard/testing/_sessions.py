"""Sessions and their replay buffers, and the limits that belong to a bot rather than to a connection.

Pure: no I/O; `now` comes in.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from trioshard.testing._intents import ALL_INTENTS, wanted_by
from trioshard.testing._report import SessionStatistics
from trioshard.testing._rules import JITTER, SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from trioshard.testing._settings import Settings
    from trioshard.testing._shapes import Identify, Resume

DAY: Final = 86_400.0
"""Seconds after which the session starts are counted afresh."""
PRESENCE_LIMIT: Final = 5
PRESENCE_WINDOW: Final = 20.0
"""Seconds."""
MEMBER_LIST_WINDOW: Final = 30.0
"""Seconds between two full member lists of one guild."""
GUILDS_PER_SHARD: Final = 2_500


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One event in a session's log."""

    sequence: int
    name: str
    data: bytes
    """`d`, encoded."""

    def encode(self) -> bytes:
        """The whole payload."""
        return b'{"t":"%b","s":%d,"op":0,"d":%b}' % (self.name.encode(), self.sequence, self.data)


class Owner(Protocol):
    """The connection that a session is attached to."""

    def wake(self) -> None:
        """There is something to send."""

    def superseded(self) -> None:
        """Another connection has resumed the session."""

    def token_reset(self) -> None:
        """The token of the session's bot is void."""

    def overrun(self) -> None:
        """The log has dropped a dispatch that this connection had not sent yet."""


class Session:
    """One session: a log of dispatches, and how much of it was sent.

    The log is the only queue of dispatches there is. A connection walks along it; one that cannot keep up with
    its bounded length loses the connection, as it would at Discord.
    """

    __slots__ = (
        "_limit",
        "_log",
        "_next_sequence",
        "bot",
        "detached_at",
        "id",
        "intents",
        "owner",
        "sent_through",
        "shard",
        "statistics",
    )

    def __init__(
        self, bot: Bot, shard: tuple[int, int], intents: int, *, session_id: str, limit: int, now: float
    ) -> None:
        self.id = session_id
        self.bot = bot
        self.shard = shard
        self.intents = intents
        self.owner: Owner | None = None
        self.detached_at = now
        self.sent_through = 0
        """The newest sequence number of which a byte may have left."""
        self.statistics = SessionStatistics(session_id, shard, now)
        self._log: deque[Dispatch] = deque()
        self._limit = limit
        self._next_sequence = 1

    def carries(self, guild_id: int | None) -> bool:
        """Whether events of this guild belong to the session's shard; those of no guild go to shard 0."""
        shard_id, count = self.shard
        return shard_id == (0 if guild_id is None else (guild_id >> 22) % count)

    def append(self, name: str, data: bytes) -> Dispatch:
        """Dispatch an event."""
        dispatch = Dispatch(self._next_sequence, name, data)
        self._next_sequence += 1
        self._log.append(dispatch)
        if len(self._log) > self._limit:
            lost = self._log.popleft()
            if self.owner is not None and lost.sequence > self.sent_through:
                self.owner.overrun()
        if self.owner is not None:
            self.owner.wake()
        return dispatch

    def after(self, sequence: int) -> Dispatch | None:
        """The dispatch that follows `sequence`, if there is one already."""
        if not self._log:
            return None
        index = sequence + 1 - self._log[0].sequence
        return self._log[index] if 0 <= index < len(self._log) else None

    def can_replay_from(self, sequence: int) -> bool:
        """Whether nothing after `sequence` has left the log."""
        oldest = self._log[0].sequence if self._log else self._next_sequence
        return sequence + 1 >= oldest

    def attach(self, owner: Owner) -> None:
        """Give the session to a connection. One that has it already is told to go."""
        previous, self.owner = self.owner, owner
        if previous is not None and previous is not owner:
            previous.superseded()

    def detach(self, owner: Owner, now: float) -> None:
        """Take the session from its connection; a connection that no longer has it changes nothing."""
        if self.owner is owner:
            self.owner = None
            self.detached_at = now


@dataclass(slots=True)
class Bot:
    """The limits of one bot, that is, of one token."""

    starts_used: int = 0
    starts_reset_at: float = 0.0
    token_reset: bool = False
    """Set when the session starts are used up: nothing is right any more."""
    identified_at: dict[int, float] = field(default_factory=dict[int, float])
    """The last accepted Identify by rate limit key."""
    presences: SlidingWindow = field(default_factory=lambda: SlidingWindow(PRESENCE_LIMIT, PRESENCE_WINDOW))
    member_lists: dict[int, float] = field(default_factory=dict[int, float])
    """The last full member list by guild."""

    def member_list_wait(self, guild_id: int, now: float) -> float:
        """Seconds until the guild's full list may be asked for; 0.0 takes the turn."""
        if len(self.member_lists) > 1_000:
            recent = {g: t for g, t in self.member_lists.items() if now - t < MEMBER_LIST_WINDOW}
            self.member_lists = recent
        last = self.member_lists.get(guild_id)
        if last is not None and now - last < MEMBER_LIST_WINDOW - JITTER:
            return last + MEMBER_LIST_WINDOW - now
        self.member_lists[guild_id] = now
        return 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no session: a close, or (without a code) Invalid Session."""

    reason: str
    close: int | None = None
    violation: str | None = None


class Registry:
    """All sessions and all bots."""

    def __init__(self, settings: Settings, rng: Random, now: float) -> None:
        self._settings = settings
        self._rng = rng
        self._started = now
        self._bots: dict[bytes, Bot] = {}
        self._sessions: dict[str, Session] = {}

    def bot(self, token: str, now: float) -> Bot | None:
        """The bot that has this token; None when the token is wrong."""
        if not token or (self._settings.token is not None and token != self._settings.token):
            return None
        # The token itself is kept nowhere.
        key = hashlib.sha256(token.encode()).digest()
        bot = self._bots.get(key)
        if bot is None:
            bot = self._bots[key] = Bot(starts_reset_at=self._started + DAY)
        if now >= bot.starts_reset_at:
            bot.starts_used = 0
            bot.starts_reset_at = now + DAY
        return None if bot.token_reset else bot

    def starts_left(self, bot: Bot) -> int:
        """Session starts that remain today."""
        return max(0, self._settings.session_starts - bot.starts_used)

    def identify(self, identify: Identify, now: float, *, punctual: bool = True) -> Session | Refusal:
        """Start a session, or say why not. What was asked for by a known bot costs a session start.

        Without `punctual` it was read some time after it was sent: then neither it nor the next one is too early.
        """
        self._forget_expired(now)
        bot = self.bot(identify.token, now)
        if bot is None:
            return Refusal("Authentication failed.", 4004, "authentication_failed")
        shard_id, count = shard = identify.shard or (0, 1)
        if self.starts_left(bot) == 0:
            self._reset_token(bot)
            return Refusal("Authentication failed.", 4004, "session_starts_exhausted")
        bot.starts_used += 1
        if not 0 <= shard_id < count:
            return Refusal("Invalid shard.", 4010, "invalid_shard")
        carried = sum((guild.id >> 22) % count == shard_id for guild in self._settings.guilds)
        if carried > GUILDS_PER_SHARD:
            return Refusal("Sharding required.", 4011, "sharding_required")
        if identify.intents < 0 or identify.intents & ~ALL_INTENTS:
            return Refusal("Invalid intent(s).", 4013, "invalid_intents")
        allowed = self._settings.allowed_intents
        if allowed is not None and identify.intents & ~allowed:
            return Refusal("Disallowed intent(s).", 4014, "disallowed_intents")
        key = shard_id % self._settings.max_concurrency
        last = bot.identified_at.get(key)
        window = self._settings.identify_window
        if punctual and last is not None and now - last < window - JITTER:
            return Refusal(
                f"key {key}: {now - last:.3f} s after the last Identify, not {window:g} s", violation="identify_rate"
            )
        if punctual:
            bot.identified_at[key] = now
        else:
            bot.identified_at.pop(key, None)
        session_id = f"{self._rng.getrandbits(128):032x}"
        session = Session(
            bot, shard, identify.intents, session_id=session_id, limit=self._settings.replay_limit, now=now
        )
        self._sessions[session_id] = session
        return session

    def resume(self, resume: Resume, now: float) -> Session | Refusal:
        """The session to continue, or why it cannot be."""
        self._forget_expired(now)
        bot = self.bot(resume.token, now)
        if bot is None:
            return Refusal("Authentication failed.", 4004, "authentication_failed")
        session = self._sessions.get(resume.session_id)
        if session is None or session.bot is not bot:
            return Refusal("no such session")
        if not 1 <= resume.seq <= session.sent_through:
            self.end(session, "invalid seq")
            return Refusal("Invalid seq.", 4007, "invalid_seq")
        if not session.can_replay_from(resume.seq):
            self.end(session, "too old to replay")
            return Refusal("too old to replay")
        return session

    def end(self, session: Session, why: str) -> None:
        """End a session for good."""
        if self._sessions.pop(session.id, None) is not None:
            session.statistics.ended = why

    def alive(self, now: float) -> Iterator[Session]:
        """Every session that is attached or can be resumed."""
        self._forget_expired(now)
        return iter(tuple(self._sessions.values()))

    def publish(self, name: str, data: bytes, guild_id: int | None, now: float) -> int:
        """Dispatch to each session that gets such an event; their number."""
        count = 0
        for session in self.alive(now):
            if session.carries(guild_id) and (
                not self._settings.filter_intents or wanted_by(session.intents, name, in_guild=guild_id is not None)
            ):
                session.append(name, data)
                count += 1
        return count

    def _forget_expired(self, now: float) -> None:
        ttl = self._settings.session_ttl
        expired = [s for s in self._sessions.values() if s.owner is None and now - s.detached_at > ttl]
        for session in expired:
            self.end(session, "timed out")

    def _reset_token(self, bot: Bot) -> None:
        """Discord's answer to a bot without session starts: everything ends, and the token is void."""
        bot.token_reset = True
        for session in [s for s in self._sessions.values() if s.bot is bot]:
            self.end(session, "token reset")
            if session.owner is not None:
                session.owner.token_reset()
