"""What happens after a connection ended: resume, identify, or stop; when, and where. Pure decisions.

Four rules stand behind the details:

- **A session is money.** It is kept through anything but Discord's word that it is gone, or proof that it
  does not work: an ordinary network error never costs it.
- **Never a hot loop.** A reconnect is immediate when the connection had held for `STABLE` seconds, and a limited
  number of times (`Backoff.prompt`) when it had held for `HELD`. Otherwise attempts back off with full jitter.
- **Identifies are counted.** The more of them in the last half hour, the longer the wait before the next, whatever
  their cause; and never two within `IDENTIFY_SPACING`.
- **Fatal is fatal.** Six close codes end the shard with an error that says what to do.

Source: *Gateway*, disconnecting, resuming, invalid session; *Opcodes and Status Codes*. Where these are
silent, the choices are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from trioshard.errors import ConnectFailed, GatewayUnreachable, ShardFailed
from trioshard.protocol.opcodes import CloseAction, CloseCode, close_policy
from trioshard.protocol.pacing import JITTER_ALLOWANCE, SlidingLog
from trioshard.protocol.phases import Phase

if TYPE_CHECKING:
    from random import Random

    from trioshard.protocol.pacing import Backoff
    from trioshard.protocol.session import Session

__all__ = ["Ending", "Outcome", "Plan", "Recovery"]

STABLE: Final = 60.0
"""Seconds in READY after which earlier trouble is forgotten."""

HELD: Final = 1.0
"""Seconds in READY after which a connection has worked, and may be followed by the next one at once."""

PROMPT_MEMORY: Final = 600.0
"""Seconds for which it is remembered that this was done."""

IDENTIFY_SPACING: Final = 5.0 + JITTER_ALLOWANCE
"""Seconds between two identifies of one shard: the window of ``max_concurrency``, counted from the end of a write."""

IDENTIFY_MEMORY: Final = 1800.0
"""Seconds for which an identify makes the next ones slower."""

INVALID_SESSION_WAIT: Final = (1.0, 5.0)
"""Seconds, drawn from this range, before a new session when the old one was declared gone."""

_SESSION_IS_GONE: Final = (CloseCode.NOT_AUTHENTICATED, CloseCode.INVALID_SEQ, CloseCode.SESSION_TIMED_OUT)

FRUITLESS_RESUMES: Final = 5
"""So many handshakes in a row that brought neither RESUMED nor any event: the session is given up."""

POISONED: Final = 2
"""So many undecodable messages in a row after the same sequence: a replay will not get past it."""

RESUME_URL_FAILURES: Final = 2
"""So many failed connects in a row, and the other URL is tried."""

FIRST_CONNECTS: Final = 8
"""So many failed connects, and never a successful one: the shard gives up."""


class Ending(Enum):
    """Why a connection ended."""

    RECONNECT = "the gateway asked to reconnect"
    INVALIDATED = "the gateway invalidated the session"
    CLOSED = "the gateway closed the connection"
    LOST = "the connection was lost"
    CONNECT_FAILED = "no connection could be opened"
    TIMED_OUT = "the handshake made no progress"
    ZOMBIE = "the gateway stopped answering"
    STALLED = "a write did not get through in time"
    BROKEN = "an undecodable message arrived"
    NOT_PERMITTED = "no session may be started now"
    FROZEN = "time jumped: the machine slept or the process was frozen"
    LEFT = "the shard is leaving"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one connection attempt went.

    Attributes:
        ending: why it ended.
        phase: how far it had come.
        session: the session it stood in, with the last received sequence; ``None`` if there was none.
        ready_for: seconds it was in READY; ``None`` if it never was.
        progressed: whether a resume replayed anything.
        code: the close code, with ``Ending.CLOSED``.
        resumable: what op 9 said, with ``Ending.INVALIDATED``.
        error: what was caught, if anything was.
        detail: a sentence for the log.
    """

    ending: Ending
    phase: Phase
    session: Session | None = None
    ready_for: float | None = None
    progressed: bool = False
    code: int | None = None
    resumable: bool = False
    error: Exception | None = None
    detail: str = ""

    def __str__(self) -> str:
        parts = [self.ending.value]
        if self.ending is Ending.CLOSED:
            parts.append(f"code {self.code}: {close_policy(self.code).meaning}")
        if self.detail:
            parts.append(self.detail)
        return f"{'; '.join(parts)} (phase: {self.phase.value})"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next.

    Attributes:
        delay: seconds to wait first.
        session: the session to resume, or ``None`` to identify.
        at_resume_url: whether to connect to the session's resume URL, or to the gateway's.
        refresh_url: whether the gateway's URL should be asked for anew.
    """

    delay: float
    session: Session | None
    at_resume_url: bool = False
    refresh_url: bool = False


class Recovery:
    """The reconnect policy of one shard.

    Args:
        shard: for error texts.
        backoff: how long to wait.
        random: the source of jitter.
    """

    def __init__(self, *, shard: tuple[int, int], backoff: Backoff, random: Random) -> None:
        self._shard = shard
        self._backoff = backoff
        self._random = random
        self._identifies = SlidingLog(1, IDENTIFY_MEMORY)
        self._last_identify: float | None = None
        self._prompt = SlidingLog(backoff.prompt, PROMPT_MEMORY)
        self._failures = 0
        self._connect_failures = 0
        self._was_connected = False
        self._fruitless = 0
        self._suspect: str | None = None
        self._poison: tuple[tuple[str, int], int] = (("", -1), 0)

    @property
    def failures(self) -> int:
        """How many attempts in a row have not led to a connection that held."""
        return self._failures

    def first(self, session: Session | None) -> Plan:
        """Return the plan to begin with."""
        return Plan(0.0, session, at_resume_url=session is not None)

    def identifies(self, now: float) -> None:
        """An Identify is about to be written: assume that it is spent, whatever becomes of the write."""
        self._identifies.take()
        self._identifies.commit(now)
        self._last_identify = now

    def identify_written(self, now: float) -> None:
        """The write of an Identify is over, and took perhaps seconds: the window counts from here."""
        self._last_identify = now

    def identify_delay(self, now: float) -> float:
        """Return the seconds until this shard may identify."""
        if self._last_identify is None:
            return 0.0
        return max(0.0, self._last_identify + IDENTIFY_SPACING - now)

    def after(self, outcome: Outcome, now: float) -> Plan:
        """Decide what follows an attempt.

        Raises:
            ShardFailed: trying again cannot help.
        """
        self._raise_if_fatal(outcome)
        if outcome.ready_for is not None and outcome.ready_for >= STABLE:
            self._failures = 0
            self._suspect = None
        elif outcome.ready_for is not None and outcome.ready_for >= HELD and self._prompt.wait(now) <= 0.0:
            self._failures = 0
            self._prompt.take()
            self._prompt.commit(now)
        delay = self._backoff.before_attempt(self._failures, self._random)
        self._failures += 1
        # Nobody home, or nobody who greets: either may be the URL.
        connect_failed = outcome.phase in (Phase.CONNECTING, Phase.AWAITING_HELLO)
        self._connect_failures = self._connect_failures + 1 if connect_failed else 0

        session = self._session_after(outcome)
        if session is None:
            delay = max(delay, self._before_identify(outcome, now))
            if isinstance(outcome.error, ConnectFailed):
                # The API asks not to be asked. A session is resumed without it, and does not live that long.
                delay = max(delay, outcome.error.retry_after)
        elif outcome.code == CloseCode.RATE_LIMITED:
            delay = max(delay, self._random.uniform(*INVALID_SESSION_WAIT))
        # While nothing connects, the resume URL and the gateway's take turns.
        rounds = self._connect_failures // RESUME_URL_FAILURES
        return Plan(
            delay,
            session,
            at_resume_url=session is not None and rounds % 2 == 0,
            refresh_url=rounds > 0,
        )

    def _raise_if_fatal(self, outcome: Outcome) -> None:
        if outcome.ending is not Ending.CONNECT_FAILED:
            self._was_connected = True
        if isinstance(outcome.error, ShardFailed):
            raise outcome.error
        policy = close_policy(outcome.code)
        if outcome.ending is Ending.CLOSED and policy.action is CloseAction.FATAL:
            raise policy.error(
                f"shard {self._shard[0]} of {self._shard[1]} was refused: {policy.meaning} (close code"
                f" {outcome.code}). trioshard does not try again. To do: {policy.advice}.",
                code=outcome.code,
                shard=self._shard,
            )
        if outcome.ending is Ending.CONNECT_FAILED and not self._was_connected:
            # With a session it was the resume URL, which may be out of date: the gateway's own has its turn.
            permanent = isinstance(outcome.error, ConnectFailed) and outcome.error.permanent and outcome.session is None
            if permanent or self._connect_failures + 1 >= FIRST_CONNECTS:
                times = self._connect_failures + 1
                attempts = "1 attempt" if times == 1 else f"{times} attempts"
                raise GatewayUnreachable(
                    f"no connection to the gateway after {attempts}: {outcome.error}. Check the URL and the network.",
                    shard=self._shard,
                ) from outcome.error

    def _session_after(self, outcome: Outcome) -> Session | None:
        session = outcome.session
        if session is None:
            return None
        if outcome.ending is Ending.INVALIDATED:
            return session if outcome.resumable and not self._is_fruitless(outcome) else None
        if outcome.ending is Ending.CLOSED:
            action = close_policy(outcome.code).action
            if action is CloseAction.IDENTIFY:
                return None
            if action is CloseAction.RESUME_ONCE:
                if self._suspect == session.id:
                    return None
                self._suspect = session.id
        if outcome.ending is Ending.BROKEN and self._is_poisoned(session):
            return None
        if self._is_fruitless(outcome):
            return None
        return session

    def _is_poisoned(self, session: Session) -> bool:
        place, times = self._poison
        here = (session.id, session.sequence)
        self._poison = (here, times + 1 if place == here else 1)
        return self._poison[1] > POISONED

    def _is_fruitless(self, outcome: Outcome) -> bool:
        # Only attempts that were greeted say something about the session; the rest is the network.
        if outcome.phase in (Phase.GREETED, Phase.RESUMING) and not outcome.progressed:
            self._fruitless += 1
        elif outcome.phase is Phase.READY or outcome.progressed:
            self._fruitless = 0
        if self._fruitless >= FRUITLESS_RESUMES:
            self._fruitless = 0
            return True
        return False

    def _before_identify(self, outcome: Outcome, now: float) -> float:
        recent = self._identifies.used(now)
        wait = max(self._backoff.before_identify(recent, self._random), self.identify_delay(now))
        if self._last_identify is None and outcome.session is not None:
            # The session came from elsewhere, and nobody here knows when it was started.
            wait = max(wait, IDENTIFY_SPACING)
        if outcome.ending is Ending.INVALIDATED or outcome.code in _SESSION_IS_GONE:
            wait = max(wait, self._random.uniform(*INVALID_SESSION_WAIT))
        if outcome.ending is Ending.INVALIDATED and outcome.phase is Phase.IDENTIFYING:
            # The concurrency window is not over for another five seconds.
            wait = max(wait, IDENTIFY_SPACING + self._random.uniform(*INVALID_SESSION_WAIT))
        return wait
