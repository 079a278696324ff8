"""One WebSocket connection of the gateway: it reads, lets the judge decide, and acts."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from trioshard.testing import _commands, _payloads
from trioshard.testing._core import Core, encode
from trioshard.testing._link import CLOSE_LINGER, Link
from trioshard.testing._outbox import Feed
from trioshard.testing._report import Arrival, IdentifyAttempt, Violation
from trioshard.testing._rules import Accepted, Crossed, Judge, Judgement, Offence, Op, Phase
from trioshard.testing._sessions import Dispatch, Refusal, Session
from trioshard.testing._shapes import Identify, Resume
from trioshard.testing._steps import Action, Conduct, Script
from trioshard.testing._wire import Closed, Ended, Incoming, Malformed, Message, Pinged

if TYPE_CHECKING:
    from trioshard.testing._wire import Compressor, Wire

RECONNECT_LINGER: Final = 5.0
"""Seconds after Reconnect (op 7) until the gateway closes by itself."""
INVALID_SESSION_LINGER: Final = 10.0
"""Seconds after Invalid Session (op 9) until the gateway closes by itself, unless there was a new handshake."""
LATE_HEARTBEAT_CLOSE: Final = 4000

_SESSION_ENDING_CODES: Final = frozenset({4003, 4004, 4007, 4009, 4010, 4011, 4012, 4013, 4014})
"""Closes of the gateway after which there is nothing to resume."""
_CLIENT_GOODBYES: Final = frozenset({1000, 1001})
"""Closes of a client that end its session."""


class GatewayConnection(Link):
    """One connection of a client. Tests may look at it and make trouble on it.

    Whatever acts on a connection that is closing or gone raises :exc:`trio.ClosedResourceError`.
    """

    def __init__(
        self,
        core: Core,
        stream: trio.abc.Stream,
        wire: Wire,
        *,
        number: int,
        path: str,
        version: int | None,
        conduct: Conduct,
        script: Script,
        compressor: Compressor | None,
    ) -> None:
        super().__init__(core, stream, wire, number=number, conduct=conduct, script=script, compressor=compressor)
        self.path = path
        """The path of the URL that the client connected to."""
        self.session: Session | None = None
        """The session that this connection has at the moment."""
        self._version = version
        self._was_stalled = False
        self._compressed = compressor is not None
        self._judge = Judge(grace=core.settings.heartbeat_grace)
        self._interval = core.settings.heartbeat_interval
        self._left_session: Session | None = None
        """What an Invalid Session left resumable: the client may still end it by its close."""

    def __repr__(self) -> str:
        return f"<GatewayConnection {self.id} {self.phase.value!r} session={self.session_id}>"

    @property
    def phase(self) -> Phase:
        """How far the connection is, in the eyes of the gateway."""
        return self._judge.phase

    @property
    def session_id(self) -> str | None:
        """The id of the session that this connection has."""
        return None if self.session is None else self.session.id

    @property
    def shard(self) -> tuple[int, int] | None:
        """``(shard_id, num_shards)`` of the session."""
        return None if self.session is None else self.session.shard

    # Powers of tests and scripts.

    def publish(self, name: str, data: object) -> bool:
        """Dispatch to this connection's session only; False when there is none."""
        self._check_open()
        if self.session is None:
            return False
        self.session.append(name, encode(data))
        return True

    def reconnect(self) -> None:
        """Send Reconnect (op 7)."""
        self._check_open()
        self._send(Op.RECONNECT, None)
        self._start_soon(self._close_later, RECONNECT_LINGER, None)

    def invalidate(self, resumable: bool = False) -> None:
        """Send Invalid Session (op 9). A session that is not resumable is forgotten."""
        self._check_open()
        session = self._release()
        if resumable:
            self._left_session = session or self._left_session
        elif session is not None:
            self._core.registry.end(session, "invalidated")
        self._judge.session_invalidated()
        self._core.report.invalid_sessions += 1
        self._send(Op.INVALID_SESSION, resumable)
        self._start_soon(self._close_later, INVALID_SESSION_LINGER, Phase.INVALIDATED)

    def close(self, code: int = 4000, reason: str = "", *, end_session: bool | None = None) -> None:
        """Close with a close frame. `end_session`: also forget the session (None: as the code says)."""
        self._check_open()
        session = self._release()
        if session is not None and (code in _SESSION_ENDING_CODES if end_session is None else end_session):
            self._core.registry.end(session, f"closed with {code}")
        self._judge.close_sent()
        self._core.report.closes_sent[code] += 1
        self._outbox.put_close(code, reason)
        self._scope.deadline = trio.current_time() + CLOSE_LINGER

    def stall(self, seconds: float) -> None:
        """Neither read nor write for so long."""
        super().stall(seconds)
        self.excuse(seconds)

    def excuse(self, seconds: float) -> None:
        """Hold nobody to his time for so long: something stood still that is not the client's doing."""
        self._judge.stalled(seconds, trio.current_time())
        self._was_stalled = True

    # What a session does to its connection.

    def wake(self) -> None:
        """The session has something to send."""
        self._outbox.wake()

    def superseded(self) -> None:
        """Another connection has resumed the session, which is no longer this one's."""
        self.session = None
        self._close_quietly(4000, "The session was resumed on another connection.")

    def token_reset(self) -> None:
        """The bot has no session starts left."""
        self._close_quietly(4004, "Authentication failed.")

    def overrun(self) -> None:
        """The client reads more slowly than the gateway can remember."""
        self._close_quietly(4000, "Too slow.")

    def about_to_dispatch(self, dispatch: Dispatch, feed: Feed) -> None:
        """A dispatch leaves now: from here on the client may know it."""
        report, session = self._core.report, feed.session
        if dispatch.sequence > session.sent_through:
            session.sent_through = dispatch.sequence
            session.statistics.last_sequence = dispatch.sequence
            session.statistics.dispatches_sent += 1
            report.dispatches_sent += 1
        else:
            session.statistics.replays += 1
            report.replays += 1
        if dispatch.sequence == feed.opening:
            self._judge.session_started()
            if feed.is_resume:
                report.resumes += 1
                session.statistics.resumes += 1
            else:
                report.readies += 1
            self._reach("resumed" if feed.is_resume else "ready")
            self.milestones.reach("session")
        else:
            if dispatch.sequence < feed.opening:
                self.milestones.reach("replay")
            self.milestones.reach("dispatch")

    async def _greet(self) -> None:
        if self._version is None:
            self._violate("invalid_version", "`v` has to be 9 or 10")
            self._close_quietly(4012, "Invalid API version.")
            return
        await trio.sleep(self._conduct.hello_delay)
        if self._conduct.reconnect_instead_of_hello:
            self.reconnect()
            return
        value: Any = round(self._core.settings.heartbeat_interval * 1000)
        if self._conduct.hello_interval is not msgspec.UNSET:
            value = self._conduct.hello_interval
            # Nobody can be held to an interval that makes no sense.
            sensible = isinstance(value, int) and not isinstance(value, bool) and value >= 1000
            self._interval = value / 1000 if sensible else math.inf
        payload = msgspec.json.encode({"t": None, "s": None, "op": Op.HELLO, "d": {"heartbeat_interval": value}})
        self._outbox.put_payload(payload, self._hello_leaves)

    def _hello_leaves(self) -> None:
        self._judge.hello_sent(trio.current_time(), self._interval)
        self._core.report.hellos += 1
        self._reach("hello")
        if math.isfinite(self._interval):
            self._start_soon(self._watch_heartbeats)

    async def _watch_heartbeats(self) -> None:
        while trio.current_time() < self._judge.beats_due:  # noqa: ASYNC110 - each beat moves what is due
            await trio.sleep_until(self._judge.beats_due)
        self._violate("heartbeat_late", f"nothing within {self._interval:g} s and a grace of {self._judge.grace:g} s")
        self._close_quietly(LATE_HEARTBEAT_CLOSE, "Heartbeat late.")

    async def _close_later(self, seconds: float, still: Phase | None) -> None:
        await trio.sleep(seconds)
        if still is None:
            self._close_quietly(4000, "You were asked to reconnect.")
        elif self.phase is still:
            self._close_quietly(4003, "The session was invalidated.")

    def _take(self, incoming: Incoming) -> bool:
        """Handle what came; False when nothing more will."""
        match incoming:
            case Message(data):
                self._act(self._judge.receive(data, trio.current_time()))
            case Pinged(answer):
                self._outbox.put_raw(answer)
            case Closed(code, answer):
                self._client_closed(code)
                self._outbox.put_raw(answer)
                return False
            case Malformed(reason, answer):
                self._violate("websocket_error", reason)
                self._outbox.put_raw(answer)
                return False
            case Ended():
                return False
        return True

    def _client_closed(self, code: int) -> None:
        answered = self.phase is Phase.CLOSING
        session = self._release() or self._left_session
        if answered:
            return
        self._core.report.closes_received[code] += 1
        if session is not None and session.owner is None and code in _CLIENT_GOODBYES:
            self._core.registry.end(session, f"the client closed with {code}")

    # What arrived.

    def _act(self, judgement: Judgement) -> None:
        now = trio.current_time()
        match judgement:
            case Accepted(Op.HEARTBEAT, body):
                self._heartbeat(body if isinstance(body, int) else None, now)
            case Accepted(_, Identify() as identify):
                self._identify(identify, now)
            case Accepted(_, Resume() as resume):
                self._resume(resume, now)
            case Accepted():
                self._command(judgement, now)
            case Crossed(op, raw, close):
                # What a handshake or its remains hold is nobody's business.
                if op is None or op in (Op.IDENTIFY, Op.RESUME):
                    self._core.report.add_crossing(None)
                else:
                    self._core.report.add_crossing(Arrival(now, self.id, None, op, raw))
                if close is not None:
                    self._close_quietly(close, "Not authenticated.")
            case Offence(kind, detail, close):
                self._violate(kind, detail)
                if close is not None:
                    self._close_quietly(close, f"{kind}: {detail}")

    def _heartbeat(self, sequence: int | None, now: float) -> None:
        self._judge.beat(now, self._interval)
        self._core.report.heartbeats += 1
        if self.session is not None and sequence is not None and sequence > self.session.sent_through:
            self._violate("heartbeat_ahead", f"seq {sequence}; {self.session.sent_through} was the last one sent")
        if self._conduct.acks:
            self._core.report.acks += 1
            self._send(Op.HEARTBEAT_ACK, None)
        self._reach("heartbeat")

    def _identify(self, identify: Identify, now: float) -> None:
        core = self._core
        core.report.identifies += 1
        outcome = core.registry.identify(identify, now, punctual=not self._was_stalled)
        self._note_identify(identify, outcome, now)
        self._reach("identify")
        self.milestones.reach("handshake")
        if isinstance(outcome, Refusal):
            self._refuse(outcome)
        elif self._conduct.identify_answer is not None:
            core.registry.end(outcome, "refused by the script")
            self._answer_by_script(self._conduct.identify_answer)
        else:
            self._start_session(outcome, identify, now)

    def _note_identify(self, identify: Identify, outcome: Session | Refusal, now: float) -> None:
        if isinstance(outcome, Refusal) and outcome.close == 4004:
            return
        shard = identify.shard or (0, 1)
        key = shard[0] % self._core.settings.max_concurrency
        self._core.report.identify_attempts.append(
            IdentifyAttempt(now, self.id, shard, key, isinstance(outcome, Session))
        )

    def _start_session(self, session: Session, identify: Identify, now: float) -> None:
        core = self._core
        core.report.open_session(session.statistics)
        guilds = core.carried_guilds(session)
        ready = _payloads.ready(
            [guild.id for guild in guilds], session.id, core.settings.resume_url, identify.shard, self._version or 0
        )
        opening = session.append("READY", encode(ready))
        for guild in guilds:
            core.dispatch(
                session, "GUILD_CREATE", _payloads.guild_create(guild, session.intents, identify.large_threshold)
            )
        self._outbox.compress_payloads = identify.compress and not self._compressed
        self._attach(session, Feed(session, self._conduct, cursor=0, opening=opening.sequence, now=now))

    def _resume(self, resume: Resume, now: float) -> None:
        core = self._core
        if self.path.rstrip("/") != "/resume":
            core.report.resumes_on_wrong_url += 1
        outcome = core.registry.resume(resume, now)
        self._reach("resume")
        self.milestones.reach("handshake")
        if isinstance(outcome, Refusal):
            core.report.resumes_refused += 1
            self._refuse(outcome)
        elif (scripted := self._conduct.resume_answer) is not None:
            core.report.resumes_refused += 1
            self._attach(outcome, None)
            self._answer_by_script(scripted)
        else:
            opening = outcome.append("RESUMED", b"{}")
            outcome.statistics.resumed_at.append(opening.sequence)
            feed = Feed(outcome, self._conduct, cursor=resume.seq, opening=opening.sequence, now=now)
            self._attach(outcome, feed)

    def _attach(self, session: Session, feed: Feed | None) -> None:
        self.session = session
        session.attach(self)
        self._outbox.feed = feed
        self._outbox.wake()

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.violation is not None:
            self._violate(refusal.violation, refusal.reason)
        if refusal.close is not None:
            self._close_quietly(refusal.close, refusal.reason)
        else:
            self.invalidate(resumable=False)

    def _command(self, accepted: Accepted, now: float) -> None:
        session = self.session
        assert session is not None, "the phase READY without a session"
        self._core.report.add_command(Arrival(now, self.id, session.id, accepted.op.value, accepted.raw))
        session.statistics.commands += 1
        if accepted.op is Op.PRESENCE_UPDATE and self._was_stalled:
            # When it was sent nobody knows.
            session.bot.presences.forgive()
        elif accepted.op is Op.PRESENCE_UPDATE and not session.bot.presences.admit(now):
            self._violate("presence_rate", "more than 5 presence updates of the bot in 20 s")
        _commands.answer(self._core, session, accepted.body, now)
        self._reach("command")

    def _answer_by_script(self, answer: Action) -> None:
        # The two kinds of answer, Invalid Session and a close, never wait.
        self._start_soon(self._perform, answer)

    async def _perform(self, action: Action) -> None:
        with suppress(trio.ClosedResourceError):
            await action.perform(self)

    def _violate(self, kind: str, detail: str) -> None:
        self._core.report.add_violation(Violation(trio.current_time(), self.id, kind, detail))

    @property
    def _is_closing(self) -> bool:
        return self.phase is Phase.CLOSING

    def _let_go(self) -> None:
        self._release()

    def _release(self) -> Session | None:
        """Let go of the session: from now on it can be resumed elsewhere."""
        session, self.session = self.session, None
        self._outbox.feed = None
        if session is not None:
            session.detach(self, trio.current_time())
            if session.sent_through == 0:
                self._core.registry.end(session, "READY was never sent")
        return session

    def _close_quietly(self, code: int, reason: str) -> None:
        if not self._gone and not self._is_closing:
            self.close(code, reason)
